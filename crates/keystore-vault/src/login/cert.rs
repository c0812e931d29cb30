//! Login by the client certificate of the connection.

use async_trait::async_trait;
use serde::Serialize;

use super::exchange::{Credentials, Mount};
use crate::api::Body;
use crate::session::LoginError;

/// The certificate is the connection's; only the role is named.
#[derive(Debug)]
pub(super) struct Cert {
    role: Option<String>,
}

impl Cert {
    pub(super) fn new(role: Option<String>) -> Self {
        Self {
            role: role.filter(|role| !role.is_empty()),
        }
    }
}

#[async_trait]
impl Credentials for Cert {
    async fn body(&self) -> Result<Body, LoginError> {
        #[derive(Serialize)]
        struct Content<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
        }
        let content = Content {
            name: self.role.as_deref(),
        };
        Ok(Body::new(&content, ""))
    }

    fn advice(&self, mount: &Mount, says: &str, denied: bool) -> String {
        let says = says.to_ascii_lowercase();
        if says.contains("must be supplied") || says.contains("tls connection") {
            return "Vault sees no client certificate: keystore.vault.endpoint must be https and lead to Vault itself, \
                    not to a proxy that ends TLS"
                .to_owned();
        }
        let role = match &self.role {
            Some(role) => format!("the role {role}"),
            None => "a role".to_owned(),
        };
        let accepted = format!(
            "{role} at {mount} must trust the certificate of keystore.vault.tls.cert, or its CA, and the certificate must be valid now"
        );
        if denied {
            return format!(
                "is a certificate method mounted there? {} says where it is; {accepted}",
                mount.setting
            );
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    #[test]
    fn the_advice_fits_what_vault_says() {
        let mount = Mount {
            path: Path::fixed("auth/cert"),
            namespace: None,
            setting: "keystore.vault.cert.engine",
        };
        for (role, says, denied, expected) in [
            (
                None,
                "client certificate must be supplied",
                false,
                "Vault sees no client certificate",
            ),
            (
                None,
                "tls connection required",
                false,
                "Vault sees no client certificate",
            ),
            (
                None,
                "invalid certificate",
                false,
                "a role at auth/cert must trust",
            ),
            (
                Some("kes"),
                "invalid certificate",
                false,
                "the role kes at auth/cert must trust",
            ),
            (
                Some(""),
                "permission denied",
                true,
                "is a certificate method mounted there?",
            ),
        ] {
            let advice = Cert::new(role.map(str::to_owned)).advice(&mount, says, denied);
            assert!(advice.contains(expected), "{says}: {advice}");
            assert!(!advice.contains("  "), "{advice}");
        }
    }
}
