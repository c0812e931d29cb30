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
