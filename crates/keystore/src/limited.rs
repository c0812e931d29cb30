//! A key store that is asked for a bounded number of things at once, and waited for a bounded time.

#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::{Entry, EntryName, KeyStore, Page, StoreError, StoreOp};

/// What a [`Limited`] store is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many gets, and besides them how many writes (create and delete), run at once; of lists, which take longest, there
    /// are never more than a few. They are counted apart so that none stops keys from being read. A ping waits for nobody: it
    /// is to tell how the store is, not how busy its callers are.
    pub at_once: NonZeroUsize,
    /// How long a caller waits for one operation, with its wait for others included.
    pub deadline: Duration,
    /// How long the caller of a write waits for its end once it has begun. Longer, because how a write that was given up
    /// has ended is unknown.
    pub write_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE,
            deadline: DEADLINE,
            write_deadline: WRITE_DEADLINE,
        }
    }
}

/// Bounds the concurrency of a key store and the time that its callers wait.
///
/// A write that has begun runs to its end in a task of its own, also when its caller goes away or has been told that the
/// deadline passed: a store is never left in the middle of one. What has only waited for its turn is not begun any more.
pub struct Limited<S: ?Sized> {
    limits: Limits,
    gets: Semaphore,
    lists: Semaphore,
    writes: Arc<Semaphore>,
    /// The writes under way. Held to add and to take them, never across an await.
    running: Mutex<JoinSet<()>>,
    store: Arc<S>,
}

impl<S: KeyStore + ?Sized> Limited<S> {
    /// Holds `store` to `limits`.
    #[must_use]
    pub fn new(store: Arc<S>, limits: Limits) -> Self {
        let at_once = limits.at_once.get().min(Semaphore::MAX_PERMITS);
        Self {
            limits,
            gets: Semaphore::new(at_once),
            lists: Semaphore::new(at_once.min(LISTS_AT_ONCE)),
            writes: Arc::new(Semaphore::new(at_once)),
            running: Mutex::default(),
            store,
        }
    }

    async fn read<T>(
        &self,
        op: StoreOp,
        turns: &Semaphore,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.limits.deadline;
        let ends = Instant::now() + deadline;
        let _turn: SemaphorePermit<'_> = match timeout_at(ends, turns.acquire()).await {
            Ok(turn) => turn.expect("the semaphore is never closed"),
            Err(_) => return Err(self.timed_out(op, deadline, Waited::ForItsTurn)),
        };
        match timeout_at(ends, read).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(op, deadline, Waited::ForAnAnswer)),
        }
    }

    async fn write(
        &self,
        op: StoreOp,
        name: EntryName,
        write: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) -> Result<(), StoreError> {
        let deadline = self.limits.deadline;
        let began = Instant::now();
        let turn = match timeout_at(began + deadline, Arc::clone(&self.writes).acquire_owned()).await {
            Ok(turn) => turn.expect("the semaphore is never closed"),
            Err(_) => return Err(self.timed_out(op, deadline, Waited::ForItsTurn)),
        };

        let (answer, answered) = oneshot::channel();
        {
            let mut running = self.running();
            while running.try_join_next().is_some() {}
            running.spawn(async move {
                let result = write.await;
                drop(turn);
                match answer.send(result) {
                    Ok(()) => {}
                    Err(Ok(())) => tracing::warn!(%op, %name, "succeeded after its caller had gone"),
                    Err(Err(error)) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(%op, %name, error, "failed after its caller had gone");
                    }
                }
            });
        }
        let deadline = self.limits.write_deadline;
        match timeout_at(began + deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Backend {
                store: self.store.to_string(),
                source: Box::new(Lost { op }),
            }),
            Err(_) => Err(self.timed_out(op, deadline, Waited::ForAnAnswer)),
        }
    }

    fn timed_out(&self, op: StoreOp, after: Duration, waited: Waited) -> StoreError {
        let source = Box::new(TimedOut { op, after, waited });
        let store = self.store.to_string();
        match waited {
            Waited::ForAnAnswer => StoreError::Unreachable { store, source },
            // The store was not even asked: too many callers are no outage.
            Waited::ForItsTurn => StoreError::Backend { store, source },
        }
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KeyStore + ?Sized> KeyStore for Limited<S> {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let (store, to) = (Arc::clone(&self.store), name.clone());
        let value = SecretBytes::copy_of(value.expose_secret());
        self.write(StoreOp::Create, name.clone(), async move {
            store.create(&to, &value).await
        })
        .await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.read(StoreOp::Get, &self.gets, self.store.get(name)).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let (store, what) = (Arc::clone(&self.store), name.clone());
        self.write(
            StoreOp::Delete,
            name.clone(),
            async move { store.delete(&what).await },
        )
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.read(StoreOp::List, &self.lists, self.store.list(prefix, after, limit))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let deadline = self.limits.deadline.min(PING_DEADLINE);
        match timeout_at(Instant::now() + deadline, self.store.ping()).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(StoreOp::Ping, deadline, Waited::ForAnAnswer)),
        }
    }

    /// Waits for the writes under way, up to the deadline, and stops those that hang.
    async fn close(&self) {
        let mut running = mem::take(&mut *self.running());
        let all = async { while running.join_next().await.is_some() {} };
        if timeout_at(Instant::now() + self.limits.deadline, all)
            .await
            .is_err()
        {
            tracing::warn!(store = %self.store, writes = running.len(), "stopped writes that did not end in time");
            running.shutdown().await;
        }
        self.store.close().await;
    }
}

impl<S: KeyStore + ?Sized> fmt::Display for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<S: KeyStore + ?Sized> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited")
            .field("limits", &self.limits)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Why a [`Limited`] store counts as out of reach.
#[derive(Debug)]
pub struct TimedOut {
    /// What was asked for.
    pub op: StoreOp,
    /// How long the caller waited.
    pub after: Duration,
    /// What for.
    pub waited: Waited,
}

/// What a caller waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// As many operations as may run at once were under way; this one was never begun.
    ForItsTurn,
    /// The store did not answer. A write goes on and may yet have an effect.
    ForAnAnswer,
}

impl std::error::Error for TimedOut {}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, after, waited } = self;
        match (waited, op) {
            (Waited::ForItsTurn, _) => write!(f, "{op} was not begun: others before it took {after:?}"),
            (Waited::ForAnAnswer, StoreOp::Create | StoreOp::Delete) => {
                write!(f, "{op} has not ended after {after:?} and may yet have an effect")
            }
            (Waited::ForAnAnswer, StoreOp::Get | StoreOp::List | StoreOp::Ping) => {
                write!(f, "{op} has not ended after {after:?}")
            }
        }
    }
}

/// A write ended without a result, which happens when the store panics or the process is ending.
#[derive(Debug, thiserror::Error)]
#[error("{op} ended without an answer and may have had an effect")]
struct Lost {
    op: StoreOp,
}

/// Below the 15 s that a route of the API may take, so that the client learns what the matter is.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longer than any route of the API may take: whoever has to act on the end of a write learns of it also when the client has
/// been answered.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// A store that needs longer for a sign of life does not count as reachable.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// Enough to keep a remote service busy (at 20 ms an answer 3,200 a second), few enough not to overrun it.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// A listing may read all names that there are.
const LISTS_AT_ONCE: usize = 4;
