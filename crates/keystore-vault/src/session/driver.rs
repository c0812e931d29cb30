//! Does what the [`Life`] of a token asks for, and lets requests wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kes_types::Clock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::grant::{Authority, Grant, LoginError, LoginFailure, Token};
use super::life::{Life, Offer, Step, Urgency, Verdict, Waiting};

/// What to do about a 403.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Send the request again with this token, once.
    Repeat(Token),
    /// The login lacks the permission.
    Denied,
    /// The token is no longer good, and there is no other.
    Failed(LoginError),
}

/// What the driver and the requests share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Held for a decision, never across an await.
    life: Mutex<Life>,
    authority: Arc<dyn Authority>,
    clock: Arc<dyn Clock>,
    /// The longest that a login or a renewal takes.
    limit: Duration,
    /// Wakes the driver: there may be something to do.
    wake: Notify,
    /// Wakes the requests that wait: something has changed.
    changes: watch::Sender<()>,
}

impl Shared {
    /// Logs in for the first time.
    pub(super) async fn log_in(
        authority: Arc<dyn Authority>,
        clock: Arc<dyn Clock>,
        limit: Duration,
    ) -> Result<Arc<Self>, LoginError> {
        let asked = clock.monotonic();
        let grant = within(limit, authority.login()).await?;
        Ok(Arc::new(Self {
            life: Mutex::new(Life::new(grant, asked)),
            authority,
            clock,
            limit,
            wake: Notify::new(),
            changes: watch::Sender::new(()),
        }))
    }

    pub(super) async fn token(&self) -> Result<Token, LoginError> {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                // Before looking, so that no change is missed in between.
                changes.borrow_and_update();
                let offer = self.life().offer(self.clock.monotonic());
                match offer {
                    Offer::Token(token) => return Ok(token),
                    Offer::Failed(error) => return Err(error),
                    Offer::Wait => self.wait_for_change(&mut changes).await,
                }
            }
        };
        timeout(self.longest_wait(), wait)
            .await
            .unwrap_or_else(|_| Err(self.no_answer()))
    }

    pub(super) async fn refused(&self, token: &Token, kind: &str) -> Refusal {
        let mut changes = self.changes.subscribe();
        let mut waiting: Option<Waiting> = None;
        let wait = async {
            loop {
                changes.borrow_and_update();
                let now = self.clock.monotonic();
                let verdict = self.life().refused(now, token, kind, waiting);
                match verdict {
                    Verdict::Repeat(other) => return Refusal::Repeat(other),
                    Verdict::Denied => return Refusal::Denied,
                    Verdict::Failed(error) => return Refusal::Failed(error),
                    Verdict::Wait(again) => {
                        waiting = Some(again);
                        self.wait_for_change(&mut changes).await;
                    }
                }
            }
        };
        timeout(self.longest_wait(), wait)
            .await
            .unwrap_or_else(|_| Refusal::Failed(self.no_answer()))
    }

    pub(super) fn helped_nothing(&self, kind: &str) {
        let now = self.clock.monotonic();
        self.life().helped_nothing(now, kind);
    }

    pub(super) fn set_sealed(&self, sealed: bool) {
        let now = self.clock.monotonic();
        self.life().set_sealed(sealed, now);
        self.wake.notify_one();
        self.changes.send_replace(());
    }

    pub(super) fn close(&self) {
        self.life().close();
        self.changes.send_replace(());
    }

    /// The driver looks at what there is to do, and then something changes.
    async fn wait_for_change(&self, changes: &mut watch::Receiver<()>) {
        self.wake.notify_one();
        // The sender is in `self`, so it is there.
        let _ = changes.changed().await;
    }

    /// A renewal may be under way, and a login after it.
    fn longest_wait(&self) -> Duration {
        self.limit.saturating_mul(2)
    }

    fn no_answer(&self) -> LoginError {
        LoginError::unavailable(format!("no login within {:?}", self.longest_wait()))
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews and logs in for as long as it is let. Nothing ends it, not even an error of this program: without it, all requests
/// would fail from the end of the token on.
pub(super) async fn drive(shared: Arc<Shared>) {
    loop {
        // Ends what it runs when it is dropped.
        let mut running = JoinSet::new();
        running.spawn(work(Arc::clone(&shared)));
        if let Some(Err(error)) = running.join_next().await
            && error.is_panic()
        {
            let vault = shared.authority.vault();
            tracing::error!(
                vault,
                "keeping a token of Vault was broken off by an error of this program, and goes on; please report what standard error says"
            );
        }
        let now = shared.clock.monotonic();
        shared.life().interrupted(now);
        shared.changes.send_replace(());
        sleep(RESTART).await;
    }
}

async fn work(shared: Arc<Shared>) {
    let mut trouble = Trouble::at(shared.authority.vault());
    let mut looked = Instant::now();
    loop {
        let now = shared.clock.monotonic();
        let step = shared.life().step(now);
        match step {
            Step::Wait(until) => {
                let idle = until.map_or(LOOK, |until| until.since(now).min(LOOK));
                shared.idle(idle, &mut looked).await;
                continue;
            }
            Step::Login(urgency) => {
                let outcome = within(shared.limit, shared.authority.login()).await;
                trouble.logged_in(urgency, &outcome);
                let now = shared.clock.monotonic();
                shared.life().logged_in(now, outcome);
            }
            Step::Renew(token, limit) => {
                let renewal = shared.authority.renew(&token);
                let outcome = within(shared.limit.min(limit), renewal).await;
                trouble.renewed(&outcome);
                let now = shared.clock.monotonic();
                shared.life().renewed(now, outcome);
            }
        }
        shared.changes.send_replace(());
    }
}

impl Shared {
    /// Waits until there may be something to do, and looks from time to time whether what is logged in with has changed.
    async fn idle(&self, longest: Duration, looked: &mut Instant) {
        let Some(every) = self.authority.watch() else {
            let _ = timeout(longest, self.wake.notified()).await;
            return;
        };
        let look = every.saturating_sub(looked.elapsed());
        let _ = timeout(longest.min(look), self.wake.notified()).await;
        if looked.elapsed() < every {
            return;
        }
        *looked = Instant::now();
        if self.authority.changed().await {
            let now = self.clock.monotonic();
            self.life().changed(now);
        }
    }
}

/// Says what an operator should know, once.
#[derive(Debug)]
struct Trouble {
    vault: String,
    told: Option<LoginError>,
    told_of_renewals: bool,
}

impl Trouble {
    const fn at(vault: String) -> Self {
        Self {
            vault,
            told: None,
            told_of_renewals: false,
        }
    }

    fn logged_in(&mut self, urgency: Urgency, outcome: &Result<Grant, LoginError>) {
        match (outcome, urgency) {
            (Ok(_), _) if self.told.take().is_some() => {
                tracing::info!(vault = self.vault, "logged in to Vault again");
            }
            (Ok(_), Urgency::Refused) => {
                tracing::info!(
                    vault = self.vault,
                    "logged in to Vault anew, after it had refused the token"
                );
            }
            (Ok(grant), Urgency::Planned) => {
                tracing::debug!(vault = self.vault, lease = ?grant.lease, "logged in to Vault");
            }
            (Err(error), _) => self.failed(error),
        }
    }

    fn failed(&mut self, error: &LoginError) {
        if self.told.as_ref() == Some(error) {
            tracing::debug!(vault = self.vault, %error, "still cannot log in to Vault");
        } else {
            tracing::warn!(vault = self.vault, %error, "cannot log in to Vault; it is tried again, at least every 30 seconds");
            self.told = Some(error.clone());
        }
    }

    fn renewed(&mut self, outcome: &Result<Grant, LoginError>) {
        match outcome {
            Ok(grant) => {
                self.told_of_renewals = false;
                tracing::debug!(vault = self.vault, lease = ?grant.lease, "renewed the token of Vault");
            }
            Err(error) if error.kind() == LoginFailure::Refused && !self.told_of_renewals => {
                self.told_of_renewals = true;
                tracing::info!(
                    vault = self.vault,
                    %error,
                    "Vault does not renew the token, so a login follows; its policy 'default' permits renewals"
                );
            }
            Err(error) => tracing::debug!(vault = self.vault, %error, "did not renew the token of Vault"),
        }
    }
}

async fn within(
    limit: Duration,
    work: impl Future<Output = Result<Grant, LoginError>>,
) -> Result<Grant, LoginError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(LoginError::unavailable(format!(
            "Vault has not answered within {limit:?}"
        )))
    })
}

/// How often the driver looks, whatever its timers say: they may have stood still while the machine slept.
const LOOK: Duration = Duration::from_secs(10);

/// How long to wait after an error of this program, which may come again at once.
const RESTART: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
