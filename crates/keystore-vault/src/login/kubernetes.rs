//! Login by a service account of Kubernetes.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kes_types::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::exchange::{Credentials, Mount};
use super::file::SecretFile;
use crate::Jwt;
use crate::api::Body;
use crate::session::LoginError;

/// A service account's token, and the role to log in as.
#[derive(Debug)]
pub(super) struct Kubernetes {
    role: String,
    jwt: Source,
    clock: Arc<dyn Clock>,
    /// What the token of the last login said about itself, for the error if it was not accepted.
    claims: Mutex<Option<Claims>>,
}

#[derive(Debug)]
enum Source {
    /// Read at each login: Kubernetes replaces it before it expires.
    File(SecretFile),
    Literal(kes_crypto::SecretBytes),
}

/// What a service account's token says about itself. None of it is secret, and none is believed.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<i64>,
}

impl Kubernetes {
    pub(super) fn new(role: String, jwt: Jwt, clock: Arc<dyn Clock>) -> Self {
        Self {
            role,
            jwt: match jwt {
                Jwt::File(path) => Source::File(SecretFile::new(path, "keystore.vault.kubernetes.jwt")),
                Jwt::Token(token) => Source::Literal(token),
            },
            clock,
            claims: Mutex::new(None),
        }
    }

    /// What the token is called in errors.
    fn origin(&self) -> String {
        match &self.jwt {
            Source::File(file) => format!("the token in {}", file.path().display()),
            Source::Literal(_) => "the token of keystore.vault.kubernetes.jwt".to_owned(),
        }
    }

    fn remember(&self, jwt: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        *claims = Claims::of(jwt);
    }

    /// Why Vault may not have accepted the token, as far as the token itself tells.
    fn suspicion(&self, mount: &Mount) -> String {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(claims) = &*claims else {
            return format!("{} is not one of a service account", self.origin());
        };
        let end = claims
            .exp
            .and_then(|end| Timestamp::from_unix_timestamp(end).ok());
        if let Some(end) = end.filter(|end| *end <= self.clock.now()) {
            return format!(
                "{} expired at {end}; whatever puts it there must renew it",
                self.origin()
            );
        }
        let account = match &claims.sub {
            Some(account) => printable(account),
            None => "its service account".to_owned(),
        };
        format!(
            "the role {} at {mount} must be bound to {account} and to the audience of {}, Vault must be permitted to review tokens \
             (system:auth-delegator), and the token must be genuine; {} says where the method is mounted",
            self.role,
            self.origin(),
            mount.setting,
        )
    }
}

#[async_trait]
impl Credentials for Kubernetes {
    async fn body(&self) -> Result<Body, LoginError> {
        #[derive(Serialize)]
        struct Content<'a> {
            role: &'a str,
            jwt: &'a str,
        }
        let jwt = match &self.jwt {
            Source::File(file) => file.read().await?.text,
            Source::Literal(token) => {
                let text = str::from_utf8(token.expose_secret())
                    .map_err(|_| LoginError::refused("keystore.vault.kubernetes.jwt is not text"))?;
                Zeroizing::new(text.trim().to_owned())
            }
        };
        self.remember(&jwt);
        let content = Content {
            role: &self.role,
            jwt: &jwt,
        };
        Ok(Body::new(&content, &jwt))
    }

    fn advice(&self, mount: &Mount, says: &str, denied: bool) -> String {
        if !denied && says.to_ascii_lowercase().contains("role") {
            return format!(
                "there is no role {} at {mount}: keystore.vault.kubernetes.role names it",
                self.role
            );
        }
        self.suspicion(mount)
    }
}

impl Claims {
    fn of(jwt: &str) -> Option<Self> {
        let payload = jwt.split('.').nth(1)?;
        let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
        serde_json::from_slice(&payload).ok()
    }
}

/// In one line, and not longer than a name is.
fn printable(account: &str) -> String {
    account.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use kes_types::ManualClock;

    use super::*;
    use crate::path::Path;

    fn mount() -> Mount {
        Mount {
            path: Path::fixed("auth/kubernetes"),
            namespace: None,
            setting: "keystore.vault.kubernetes.engine",
        }
    }

    fn jwt(payload: &str) -> String {
        let [header, payload] = ["{}", payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.c2lnbmF0dXJl")
    }

    /// What is advised after a 403 for this token.
    async fn advice(jwt: &str) -> String {
        let token = Jwt::Token(kes_crypto::SecretBytes::copy_of(jwt.as_bytes()));
        let login = Kubernetes::new("kes".to_owned(), token, Arc::new(ManualClock::default()));
        login.body().await.expect("a body");
        login.advice(&mount(), "permission denied", true)
    }

    #[tokio::test]
    async fn a_token_that_has_expired_is_told_from_one_that_is_not_accepted() {
        // The clock stands at the beginning of May 2024.
        let expired = advice(&jwt(
            r#"{"sub":"system:serviceaccount:default:kes","exp":1700000000}"#,
        ))
        .await;
        assert!(expired.contains("expired at 2023-11-14 22:13:20"), "{expired}");
        let foreign = advice(&jwt(
            r#"{"sub":"system:serviceaccount:default:kes","exp":1800000000}"#,
        ))
        .await;
        assert!(
            foreign.contains("bound to system:serviceaccount:default:kes"),
            "{foreign}"
        );
        let endless = advice(&jwt("{}")).await;
        assert!(endless.contains("bound to its service account"), "{endless}");
    }

    #[tokio::test]
    async fn what_a_token_says_cannot_spoil_the_error() {
        let long = format!(r#"{{"sub":"a\nb{}"}}"#, "x".repeat(5_000));
        let said = advice(&jwt(&long)).await;
        assert!(!said.contains('\n') && said.len() < 1_000, "{said}");
        for junk in ["", "junk", "a.b.c", "..", "a.bm90IGpzb24.c"] {
            let said = advice(junk).await;
            assert!(said.contains("is not one of a service account"), "{said}");
        }
    }

    #[tokio::test]
    async fn the_role_is_named_when_there_is_none() {
        let token = Jwt::Token(kes_crypto::SecretBytes::copy_of(b"a.b.c"));
        let login = Kubernetes::new("kes".to_owned(), token, Arc::new(ManualClock::default()));
        let said = login.advice(&mount(), "invalid role name \"kes\"", false);
        assert_eq!(
            said,
            "there is no role kes at auth/kubernetes: keystore.vault.kubernetes.role names it"
        );
    }
}
