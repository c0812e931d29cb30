//! Login by a token that somebody else gets and renews, such as an agent, and leaves in a file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kes_keystore::Patience;
use kes_keystore_http::{Deadline, HeaderValue, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::failed;
use super::file::{SecretFile, Stamp};
use crate::api::{Api, ApiError, Call, Problem, Reply};
use crate::path::Path;
use crate::session::{Authority, Grant, LoginError, Token};

/// A file with a token. To log in is to read it and to ask Vault how long the token is good.
#[derive(Debug)]
pub(super) struct TokenFile {
    api: Arc<Api>,
    file: SecretFile,
    lookup: Path,
    /// Where the token may be from: the namespace of the engines and those around it.
    namespaces: Vec<Option<HeaderValue>>,
    patience: Patience,
    /// What was in the file that Vault has accepted last.
    accepted: Mutex<Option<Accepted>>,
}

#[derive(Clone, Debug)]
struct Accepted {
    stamp: Stamp,
    secret: HeaderValue,
}

impl TokenFile {
    pub(super) fn new(
        api: Arc<Api>,
        file: PathBuf,
        namespace: Option<&HeaderValue>,
        patience: Patience,
    ) -> Self {
        Self {
            api,
            file: SecretFile::new(file, "keystore.vault.token.file"),
            lookup: Path::fixed("auth/token/lookup-self"),
            namespaces: outwards(namespace),
            patience,
            accepted: Mutex::new(None),
        }
    }

    /// For how long the token is good. Only in the namespace that it is from may a token ask this with no more than the
    /// usual permissions.
    async fn lease(&self, secret: &HeaderValue) -> Result<Duration, LoginError> {
        let deadline = Deadline::of(&self.patience);
        let mut namespaces = self.namespaces.iter();
        let mut namespace = namespaces.next().and_then(Option::as_ref);
        loop {
            let call = Call {
                token: Some(secret.clone()),
                namespace,
                ..Call::new(Method::GET, &self.lookup)
            };
            let asked = self.api.repeat(&call, &self.patience, &deadline).await;
            let error = match asked.and_then(|reply| lease(&reply)) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let elsewhere = matches!(error.problem, Problem::Denied { .. });
            match namespaces.next() {
                Some(outer) if elsewhere => namespace = outer.as_ref(),
                _ => return Err(self.refused(&error)),
            }
        }
    }

    fn refused(&self, error: &ApiError) -> LoginError {
        let advice = match &error.problem {
            Problem::Denied { .. } => Some(format!(
                "the token in {} has expired, was revoked, or lacks Vault's policy 'default', which permits it to look itself up; \
                 a new one in the file is used at once",
                self.file.path().display()
            )),
            Problem::NoSuchPath { says } if says.contains("namespace") => {
                Some("keystore.vault.namespace names a namespace that is not there".to_owned())
            }
            _ => None,
        };
        failed(error, advice)
    }

    fn accepted(&self) -> Option<Accepted> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.clone()
    }

    fn accept(&self, accepted: Accepted) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
    }
}

#[async_trait]
impl Authority for TokenFile {
    fn vault(&self) -> String {
        self.api.endpoint().to_string()
    }

    async fn login(&self) -> Result<Grant, LoginError> {
        let content = self.file.read().await?;
        let token = Zeroizing::new(content.text.as_bytes().to_vec());
        let mut grant = Grant::new(token, Duration::ZERO, false)
            .map_err(|error| LoginError::refused(format!("in {}: {error}", self.file.path().display())))?;
        grant.lease = self.lease(&grant.secret).await?;
        self.accept(Accepted {
            stamp: content.stamp,
            secret: grant.secret.clone(),
        });
        Ok(grant)
    }

    /// Never asked for: whoever writes the file renews its token.
    async fn renew(&self, _token: &Token) -> Result<Grant, LoginError> {
        self.login().await
    }

    fn watch(&self) -> Option<Duration> {
        Some(LOOK)
    }

    async fn changed(&self) -> bool {
        let Some(accepted) = self.accepted() else {
            return false;
        };
        match self.file.stamp().await {
            // Not there: it is being replaced, or has gone. What it held may still be good.
            None => return false,
            Some(stamp) if stamp == accepted.stamp => return false,
            Some(_) => {}
        }
        let Ok(content) = self.file.read().await else {
            return false;
        };
        if accepted.secret.as_bytes() != content.text.as_bytes() {
            return true;
        }
        // Written again, but with the same token.
        self.accept(Accepted {
            stamp: content.stamp,
            ..accepted
        });
        false
    }
}

/// `a/b`, `a`, and none.
fn outwards(namespace: Option<&HeaderValue>) -> Vec<Option<HeaderValue>> {
    let mut name = namespace
        .and_then(|name| name.to_str().ok())
        .map_or("", |name| name.trim_matches('/'));
    let mut all = Vec::new();
    while !name.is_empty() && all.len() < DEEPEST {
        all.push(HeaderValue::from_str(name).ok());
        name = name.rsplit_once('/').map_or("", |(outer, _)| outer);
    }
    all.push(None);
    all
}

fn lease(reply: &Reply) -> Result<Duration, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        ttl: u64,
        expire_time: Option<IgnoredAny>,
    }
    let Answer { data } = reply.json()?;
    Ok(match (data.ttl, data.expire_time) {
        // Its last second, which Vault rounds down.
        (0, Some(_)) => Duration::from_secs(1),
        (ttl, _) => Duration::from_secs(ttl),
    })
}

/// How often to look at the file.
const LOOK: Duration = Duration::from_secs(3);

/// How many namespaces around one are tried.
const DEEPEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_be_from_any_namespace_around_that_of_the_engines() {
        for (namespace, expected) in [
            (None, vec![None]),
            (Some("a"), vec![Some("a"), None]),
            (Some("a/b/c"), vec![Some("a/b/c"), Some("a/b"), Some("a"), None]),
            (Some("/a/b/"), vec![Some("a/b"), Some("a"), None]),
        ] {
            let namespace = namespace.map(HeaderValue::from_static);
            let expected: Vec<_> = expected
                .into_iter()
                .map(|name| name.map(HeaderValue::from_static))
                .collect();
            assert_eq!(outwards(namespace.as_ref()), expected);
        }
    }
}
