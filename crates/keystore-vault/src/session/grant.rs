//! What a login gives, and why it may fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use kes_types::Monotonic;
use zeroize::Zeroizing;

/// Proves to Vault who we are.
#[async_trait]
pub(crate) trait Authority: fmt::Debug + Send + Sync {
    /// Where that Vault is, for the log.
    fn vault(&self) -> String;

    /// Logs in.
    async fn login(&self) -> Result<Grant, LoginError>;

    /// Prolongs the lease of a token.
    async fn renew(&self, token: &Token) -> Result<Grant, LoginError>;

    /// How often [`Self::changed`] is to be asked, if it is.
    fn watch(&self) -> Option<Duration> {
        None
    }

    /// Whether what is logged in with has changed, so that a login is due. It has until one succeeds.
    async fn changed(&self) -> bool {
        false
    }
}

/// A token, and for how long it is good.
pub(crate) struct Grant {
    /// The token as the value of a header, which is marked as sensitive and zeroed with its last copy.
    pub(crate) secret: HeaderValue,
    /// From the request on. Zero: it never ends.
    pub(crate) lease: Duration,
    /// Whether the lease can be prolonged.
    pub(crate) renewable: bool,
}

impl Grant {
    /// A grant of `token`.
    pub(crate) fn new(
        token: Zeroizing<Vec<u8>>,
        lease: Duration,
        renewable: bool,
    ) -> Result<Self, LoginError> {
        if token.is_empty() {
            return Err(LoginError::refused("the token is empty"));
        }
        let mut secret = HeaderValue::from_maybe_shared(Bytes::from_owner(token))
            .map_err(|_| LoginError::refused("the token has characters that no token has"))?;
        secret.set_sensitive(true);
        Ok(Self {
            secret,
            lease,
            renewable,
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lease", &self.lease)
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}

/// A token of this session. Copies are cheap.
#[derive(Clone)]
pub(crate) struct Token(Arc<Inner>);

struct Inner {
    secret: HeaderValue,
    number: u64,
    since: Monotonic,
}

impl Token {
    /// The `number`th token of the session, asked for at `since`.
    pub(crate) fn new(secret: HeaderValue, number: u64, since: Monotonic) -> Self {
        Self(Arc::new(Inner {
            secret,
            number,
            since,
        }))
    }

    /// The value of the header with the token. It is marked as sensitive.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.secret.clone()
    }

    /// Which token of the session it is.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// When it was asked for.
    pub(crate) fn since(&self) -> Monotonic {
        self.0.since
    }

    /// Whether `secret` is this token.
    pub(crate) fn is(&self, secret: &HeaderValue) -> bool {
        self.0.secret == secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0.number).finish()
    }
}

/// Why there is no token: one line that an operator can act on, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct LoginError {
    kind: LoginFailure,
    problem: Arc<str>,
}

/// What kind of failure a login met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    /// Vault, or something on this side, says no: somebody has to change something.
    Refused,
    /// There is no answer, or not now.
    Unavailable,
    /// Vault is sealed.
    Sealed,
}

impl LoginError {
    /// Somebody has to change something.
    pub(crate) fn refused(problem: impl Into<Arc<str>>) -> Self {
        Self {
            kind: LoginFailure::Refused,
            problem: problem.into(),
        }
    }

    /// It may work later.
    pub(crate) fn unavailable(problem: impl Into<Arc<str>>) -> Self {
        Self {
            kind: LoginFailure::Unavailable,
            problem: problem.into(),
        }
    }

    /// Vault is sealed.
    pub(crate) fn sealed() -> Self {
        Self {
            kind: LoginFailure::Sealed,
            problem: "Vault is sealed".into(),
        }
    }

    /// What kind of failure it is.
    pub(crate) fn kind(&self) -> LoginFailure {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(token: &[u8]) -> Result<Grant, LoginError> {
        Grant::new(Zeroizing::new(token.to_vec()), Duration::from_secs(1), true)
    }

    #[test]
    fn a_token_is_not_shown() {
        let grant = grant(b"hvs.secret").expect("a token");
        let token = Token::new(grant.secret.clone(), 1, Monotonic::default());
        let shown = format!("{grant:?} {token:?} {:?}", token.header());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        for bad in [&b""[..], b"two\nlines"] {
            let refused = grant(bad).expect_err("not a token");
            assert_eq!(refused.kind(), LoginFailure::Refused);
            assert!(!refused.to_string().contains("lines"), "{refused}");
        }
    }
}
