//! Login by an `AppRole`.

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use serde::Serialize;
use zeroize::Zeroizing;

use super::exchange::{Credentials, Mount};
use crate::api::Body;
use crate::session::LoginError;

/// A role id and a secret id.
#[derive(Debug)]
pub(super) struct AppRole {
    id: SecretBytes,
    secret: SecretBytes,
}

impl AppRole {
    pub(super) const fn new(id: SecretBytes, secret: SecretBytes) -> Self {
        Self { id, secret }
    }
}

#[async_trait]
impl Credentials for AppRole {
    async fn body(&self) -> Result<Body, LoginError> {
        #[derive(Serialize)]
        struct Content<'a> {
            role_id: &'a str,
            secret_id: &'a str,
        }
        let content = Content {
            role_id: text("keystore.vault.approle.id", &self.id)?,
            secret_id: text("keystore.vault.approle.secret", &self.secret)?,
        };
        let secret = Zeroizing::new(format!("{} {}", content.role_id, content.secret_id));
        Ok(Body::new(&content, &secret))
    }

    fn advice(&self, mount: &Mount, says: &str, denied: bool) -> String {
        let says = says.to_ascii_lowercase();
        if denied {
            return format!(
                "is an AppRole method mounted at {mount}? {} says where it is; the role may also be locked after too many failures",
                mount.setting
            );
        }
        if says.contains("cidr") {
            return "the role, or its secret id, is bound to other addresses than that of this machine"
                .to_owned();
        }
        if says.contains("role id") && !says.contains("secret") {
            return format!("no role at {mount} has the id of keystore.vault.approle.id");
        }
        "keystore.vault.approle.id or keystore.vault.approle.secret is wrong, or the secret id has expired, was revoked or is used up; \
         the role needs secret_id_num_uses=0, because logins repeat"
            .to_owned()
    }
}

fn text<'a>(setting: &str, secret: &'a SecretBytes) -> Result<&'a str, LoginError> {
    let text = str::from_utf8(secret.expose_secret());
    let text = text.map_err(|_| LoginError::refused(format!("{setting} is not text")))?;
    Ok(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn login(id: &[u8], secret: &[u8]) -> AppRole {
        AppRole::new(SecretBytes::copy_of(id), SecretBytes::copy_of(secret))
    }

    #[test]
    fn the_advice_fits_what_vault_says() {
        let mount = Mount {
            path: Path::fixed("auth/approle"),
            namespace: Some(kes_keystore_http::HeaderValue::from_static("team")),
            setting: "keystore.vault.approle.engine",
        };
        for (says, denied, expected) in [
            ("invalid role or secret ID", false, "secret_id_num_uses=0"),
            ("invalid secret id", false, "secret_id_num_uses=0"),
            (
                "invalid role ID",
                false,
                "no role at auth/approle in the namespace team has the id",
            ),
            (
                "source address \"10.0.0.1\" unauthorized through CIDR restrictions on the secret ID",
                false,
                "bound to other addresses",
            ),
            (
                "permission denied",
                true,
                "is an AppRole method mounted at auth/approle in the namespace team?",
            ),
        ] {
            let advice = login(b"id", b"secret").advice(&mount, says, denied);
            assert!(advice.contains(expected), "{says}: {advice}");
            assert!(!advice.contains('\n') && !advice.contains("  "), "{advice}");
        }
    }

    #[tokio::test]
    async fn nothing_of_the_credentials_is_shown() {
        let login = login(b"0ddba11-role", b"0ddba11-secret");
        let shown = format!("{login:?} {:?}", login.body().await.expect("a body"));
        assert!(!shown.contains("0ddba11"), "{shown}");
    }

    #[tokio::test]
    async fn an_id_that_is_not_text_is_named() {
        for (id, secret, setting) in [
            (&b"\xff"[..], &b"x"[..], "keystore.vault.approle.id"),
            (b"x", b"\xff", "keystore.vault.approle.secret"),
        ] {
            let error = login(id, secret).body().await.expect_err("not text");
            assert_eq!(error.to_string(), format!("{setting} is not text"));
        }
    }
}
