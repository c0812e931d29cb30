//! Whether the store is within reach.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kes_keystore::StoreError;
use tokio::sync::{Notify, watch};

use crate::cache::{AtomicInstant, Instant};
use crate::error::share;

/// When an outage began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// When it was found.
    pub(crate) found: Instant,
    /// When the store had last answered.
    pub(crate) last_contact: Instant,
}

/// A time during which the store is out of reach.
#[derive(Debug)]
pub(crate) struct Outage {
    begin: Begin,
    /// The first outage since which there was no time to fetch again what it had kept.
    earlier: Option<Begin>,
    cause: Arc<StoreError>,
}

impl Outage {
    /// What outlives one of these outages may be used.
    pub(crate) fn begins(&self) -> impl Iterator<Item = Begin> {
        [self.begin].into_iter().chain(self.earlier)
    }

    /// What to answer instead of asking the store.
    pub(crate) fn error(&self) -> StoreError {
        share(&self.cause)
    }
}

/// What is known about the store.
#[derive(Debug)]
pub(crate) struct Reach {
    outage: watch::Sender<Option<Arc<Outage>>>,
    last_contact: AtomicInstant,
    /// When the latest outage ended. Another failure than an outage can end one, which is no contact.
    recovered: AtomicInstant,
    /// The outage that has ended and whose keys have not all been fetched again. Taken while `outage` changes, never the
    /// other way round.
    unrefreshed: Mutex<Option<Begin>>,
    /// Nobody looks for the store while this is zero, so an outage must not be declared: it would never end.
    monitors: AtomicUsize,
    suspected: Notify,
}

impl Reach {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            outage: watch::Sender::new(None),
            last_contact: AtomicInstant::new(now),
            recovered: AtomicInstant::new(now),
            unrefreshed: Mutex::new(None),
            monitors: AtomicUsize::new(0),
            suspected: Notify::new(),
        }
    }

    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.outage.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Outage>>> {
        self.outage.subscribe()
    }

    /// Notes that the store answered a question put at `asked`.
    pub(crate) fn answered(&self, asked: Instant) {
        self.last_contact.advance_to(asked);
    }

    /// Whether the store is known to have answered a question that was put after `asked`.
    pub(crate) fn answered_after(&self, asked: Instant) -> bool {
        self.last_contact().max(self.recovered.get()) > asked
    }

    /// When the store was last known to answer.
    pub(crate) fn last_contact(&self) -> Instant {
        self.last_contact.get()
    }

    /// Declares an outage, unless there is one already.
    pub(crate) fn lost(&self, cause: &Arc<StoreError>, now: Instant) {
        let last_contact = self.last_contact();
        let declared = self.outage.send_if_modified(|outage| {
            let declare = outage.is_none() && self.is_monitored();
            if declare {
                *outage = Some(Arc::new(Outage {
                    begin: Begin {
                        found: now,
                        last_contact,
                    },
                    earlier: self.unrefreshed(),
                    cause: Arc::clone(cause),
                }));
            }
            declare
        });
        if declared {
            tracing::warn!(error = %Chain(cause), "key store is out of reach");
        }
    }

    /// Ends the outage, if there is one. What it has kept stays until it has been [`refreshed`](Self::refreshed), or for
    /// `offline` from its beginning: a store that comes and goes must not cost what an outage without a break would keep.
    pub(crate) fn found(&self, now: Instant, offline: Duration) {
        self.recovered.advance_to(now);
        let ended = self.outage.send_if_modified(|outage| {
            let Some(outage) = outage.take() else {
                return false;
            };
            // The earliest one: each later one would prolong the use of keys that nobody has confirmed in between.
            let earlier = outage
                .earlier
                .filter(|earlier| now.is_within(offline, earlier.found));
            *self.lock_unrefreshed() = Some(earlier.unwrap_or(outage.begin));
            true
        });
        if ended {
            tracing::info!("key store is within reach again");
        }
    }

    /// The outage that has ended and whose keys have not all been fetched again.
    pub(crate) fn unrefreshed(&self) -> Option<Begin> {
        *self.lock_unrefreshed()
    }

    /// Notes that what the outages so far have kept has been fetched again.
    pub(crate) fn refreshed(&self) {
        *self.lock_unrefreshed() = None;
    }

    fn lock_unrefreshed(&self) -> MutexGuard<'_, Option<Begin>> {
        // No panic leaves one value half changed.
        self.unrefreshed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_monitored(&self) -> bool {
        self.monitors.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn monitor_started(&self) {
        self.monitors.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn monitor_ended(&self) {
        if self.monitors.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.outage.send_if_modified(|outage| outage.take().is_some());
        }
    }

    /// Has the store looked at soon, because something other than a read failed.
    pub(crate) fn suspect(&self) {
        self.suspected.notify_one();
    }

    pub(crate) async fn suspected(&self) {
        self.suspected.notified().await;
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a StoreError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
