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
