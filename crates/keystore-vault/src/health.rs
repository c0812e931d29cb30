//! What Vault says about itself to anybody who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kes_keystore_http::Method;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::api::{Api, ApiError, Call};
use crate::path::Path;
use crate::session::Session;

/// What Vault has last said about itself.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

/// Whether Vault can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It can.
    Open,
    /// Somebody has to unseal it.
    Sealed,
    /// Somebody has to initialise it.
    NotInitialised,
}

impl Health {
    /// What it has last said. At first it is taken to be open.
    pub(crate) fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            1 => State::Sealed,
            2 => State::NotInitialised,
            _ => State::Open,
        }
    }

    fn set(&self, state: State) -> State {
        let before = self.state();
        let value = match state {
            State::Open => 0,
            State::Sealed => 1,
            State::NotInitialised => 2,
        };
        self.0.store(value, Ordering::Relaxed);
        before
    }

    /// Asks, remembers the answer, and tells the session.
    pub(crate) async fn ask(
        &self,
        api: &Api,
        session: &Session,
        timeout: Duration,
    ) -> Result<State, ApiError> {
        let state = ask(api, timeout).await?;
        let before = self.set(state);
        session.set_sealed(state != State::Open);
        if state != before {
            let vault = api.endpoint();
            match state {
                State::Open => tracing::info!(%vault, "Vault is unsealed"),
                State::Sealed => {
                    tracing::warn!(%vault, "Vault is sealed: no key can be read or written until it is unsealed")
                }
                State::NotInitialised => {
                    tracing::warn!(%vault, "Vault is not initialised: no key can be read or written")
                }
            }
        }
        Ok(state)
    }
}

/// A task that asks again and again. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Poll(JoinHandle<()>);

impl Poll {
    /// Asks every `interval`, and more often while Vault is not open, so that it is used again soon after it has been unsealed.
    pub(crate) fn start(
        health: Arc<Health>,
        api: Arc<Api>,
        session: Arc<Session>,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self(tokio::spawn(async move {
            loop {
                let wait = match health.state() {
                    State::Open => interval,
                    State::Sealed | State::NotInitialised => interval.min(WHILE_CLOSED),
                };
                tokio::time::sleep(wait.max(SHORTEST)).await;
                if let Err(error) = health.ask(&api, &session, timeout).await {
                    // Requests fail as well, and say so.
                    tracing::debug!(%error, "Vault's health is not known");
                }
            }
        }))
    }

    /// Asks no more.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn ask(api: &Api, timeout: Duration) -> Result<State, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        initialized: bool,
        sealed: bool,
    }
    let path = Path::fixed("sys/health").query(ALWAYS_299);
    // Without a namespace: there is one health for all, and OpenBao knows this path nowhere else.
    let reply = api.call(&Call::new(Method::GET, &path), timeout).await?;
    let Answer { initialized, sealed } = reply.json()?;
    Ok(match (initialized, sealed) {
        (false, _) => State::NotInitialised,
        (true, true) => State::Sealed,
        (true, false) => State::Open,
    })
}

/// Makes every state a success, which says in its body what it is.
const ALWAYS_299: &str = "standbycode=299&sealedcode=299&uninitcode=299&drsecondarycode=299&performancestandbycode=299&removedcode=299";

/// How often a Vault is asked that is not open.
const WHILE_CLOSED: Duration = Duration::from_secs(3);

/// No Vault is asked more often.
const SHORTEST: Duration = Duration::from_millis(10);
