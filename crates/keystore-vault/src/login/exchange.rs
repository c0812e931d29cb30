//! Logins that exchange something for a token: what they have in common.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_keystore::Patience;
use kes_keystore_http::{Deadline, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::failed;
use crate::api::{Api, ApiError, Body, Call, Problem, Reply};
use crate::path::Path;
use crate::session::{Authority, Grant, LoginError, Token};

/// What is exchanged for a token.
#[async_trait]
pub(super) trait Credentials: fmt::Debug + Send + Sync {
    /// The body of the request.
    async fn body(&self) -> Result<Body, LoginError>;

    /// What an operator can do when they are not accepted.
    fn advice(&self, mount: &Mount, says: &str, denied: bool) -> String;
}

/// Where to log in.
#[derive(Debug)]
pub(super) struct Mount {
    /// `auth/approle`.
    pub(super) path: Path,
    pub(super) namespace: Option<HeaderValue>,
    /// The setting that names the method.
    pub(super) setting: &'static str,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        match self.namespace.as_ref().and_then(|name| name.to_str().ok()) {
            Some(namespace) => write!(f, " in the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Exchanges credentials for tokens, and renews these.
#[derive(Debug)]
pub(super) struct Exchange<C> {
    api: Arc<Api>,
    mount: Mount,
    login: Path,
    renewal: Path,
    credentials: C,
    patience: Patience,
}

impl<C: Credentials> Exchange<C> {
    pub(super) fn new(api: Arc<Api>, mount: Mount, credentials: C, patience: Patience) -> Self {
        Self {
            api,
            login: mount.path.segment("login"),
            renewal: Path::fixed("auth/token/renew-self"),
            mount,
            credentials,
            patience,
        }
    }

    fn call<'a>(&'a self, path: &'a Path, body: &'a Body) -> Call<'a> {
        Call {
            namespace: self.mount.namespace.as_ref(),
            body: Some(body),
            ..Call::new(Method::PUT, path)
        }
    }

    fn refused(&self, error: &ApiError) -> LoginError {
        let mount = &self.mount;
        let advice = match &error.problem {
            Problem::NoSuchPath { says } if says.contains("namespace") => Some(format!(
                "there is no such namespace: {} and keystore.vault.namespace say where to log in",
                mount.setting.replace(".engine", ".namespace")
            )),
            Problem::NoSuchPath { .. } | Problem::Absent => Some(format!(
                "no login method is mounted at {mount}; {} says where it is",
                mount.setting
            )),
            Problem::Refused { says } => Some(self.credentials.advice(mount, says, false)),
            Problem::Denied { says } => Some(self.credentials.advice(mount, says, true)),
            Problem::Redirect(_) => {
                Some("keystore.vault.endpoint must be the address of Vault itself".to_owned())
            }
            Problem::NoAnswer(_)
            | Problem::OutOfTime
            | Problem::Sealed
            | Problem::NotInitialised
            | Problem::NotActive { .. }
            | Problem::Unavailable { .. }
            | Problem::Throttled { .. }
            | Problem::Behind
            | Problem::Hidden { .. }
            | Problem::Failed { .. }
            | Problem::Unexpected { .. }
            | Problem::BadAnswer(_) => None,
        };
        failed(error, advice)
    }
}

#[async_trait]
impl<C: Credentials> Authority for Exchange<C> {
    fn vault(&self) -> String {
        self.api.endpoint().to_string()
    }

    async fn login(&self) -> Result<Grant, LoginError> {
        let deadline = Deadline::of(&self.patience);
        let body = self.credentials.body().await?;
        let call = self.call(&self.login, &body);
        let asked = self.api.repeat(&call, &self.patience, &deadline).await;
        let reply = asked.map_err(|error| self.refused(&error))?;
        grant(&reply, None)
    }

    /// Once: whoever asks tries again in its own time.
    async fn renew(&self, token: &Token) -> Result<Grant, LoginError> {
        let body = Body::new(&Renewal { increment: 0 }, "");
        let mut call = self.call(&self.renewal, &body);
        call.token = Some(token.header());
        let asked = self.api.call(&call, self.patience.attempt).await;
        let reply = asked.map_err(|error| failed(&error, None))?;
        grant(&reply, Some(token))
    }
}

#[derive(Serialize)]
struct Renewal {
    increment: u32,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    auth: Option<Auth<'a>>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    client_token: Cow<'a, str>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// The token in an answer. A renewal may leave out that it is still the same.
fn grant(reply: &Reply, renewed: Option<&Token>) -> Result<Grant, LoginError> {
    let answer: Answer<'_> = reply.json().map_err(|error| failed(&error, None))?;
    let unexpected = |what| failed(&reply.unexpected(what), None);
    let Some(auth) = answer.auth else {
        return Err(unexpected("an answer without a token"));
    };
    let lease = Duration::from_secs(auth.lease_duration);
    match (auth.client_token.as_bytes(), renewed) {
        ([], Some(token)) => Ok(Grant {
            secret: token.header(),
            lease,
            renewable: auth.renewable,
        }),
        ([], None) => Err(unexpected(
            "an answer without a token: the login must not ask for a second factor",
        )),
        (token, _) => Grant::new(Zeroizing::new(token.to_vec()), lease, auth.renewable),
    }
}
