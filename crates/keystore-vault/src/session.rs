//! The session with Vault: the token that requests carry, and what keeps one at hand.
//!
//! [`life`] decides, from times that are passed in, when to renew, when to log in and which token to offer; [`driver`]
//! does it. What logging in *is* stands behind [`Authority`].

mod driver;
mod grant;
mod life;

use std::sync::Arc;
use std::time::Duration;

use kes_types::Clock;
use tokio::task::JoinHandle;

use driver::Shared;

pub(crate) use driver::Refusal;
pub(crate) use grant::{Authority, Grant, LoginError, LoginFailure, Token};

/// A login that is kept alive until it is closed or dropped.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Logs in, and keeps a token at hand from then on. No login and no renewal takes longer than `limit`.
    pub(crate) async fn start(
        authority: Arc<dyn Authority>,
        clock: Arc<dyn Clock>,
        limit: Duration,
    ) -> Result<Self, LoginError> {
        let shared = Shared::log_in(authority, clock, limit).await?;
        let driver = tokio::spawn(driver::drive(Arc::clone(&shared)));
        Ok(Self { shared, driver })
    }

    /// The token to send. Waits while there is none because a login is under way, which ends within the limit; fails at
    /// once while logging in fails, and is tried again later.
    pub(crate) async fn token(&self) -> Result<Token, LoginError> {
        self.shared.token().await
    }

    /// What to do about a 403 for `token` and a request of this `kind`: it may have been revoked, or its login may lack the
    /// permission. Whoever gets another token repeats the request with it, once, and tells [`Self::helped_nothing`] if that
    /// is refused as well.
    ///
    /// Logs in if the token is not fresh; once for all who ask, and not often.
    pub(crate) async fn refused(&self, token: &Token, kind: &str) -> Refusal {
        self.shared.refused(token, kind).await
    }

    /// Another token was refused as well for a request of this `kind`.
    pub(crate) fn helped_nothing(&self, kind: &str) {
        self.shared.helped_nothing(kind);
    }

    /// Tells whether Vault is sealed. While it is, no login and no renewal is tried.
    pub(crate) fn set_sealed(&self, sealed: bool) {
        self.shared.set_sealed(sealed);
    }

    /// Ends the background work and whatever waits for it. Tokens are no longer given out.
    pub(crate) fn close(&self) {
        self.driver.abort();
        self.shared.close();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
