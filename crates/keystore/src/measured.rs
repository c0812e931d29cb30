//! A key store whose operations are reported with their outcome and the time they took.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_types::{Clock, Monotonic};

use crate::{Entry, EntryName, KeyStore, Page, StoreError, StoreOp};

/// Is told about every operation when it ends.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// `op` ended with `outcome` after `took`. Called on the request path, so it has to be quick.
    fn observe(&self, op: StoreOp, outcome: Outcome, took: Duration);
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The store works and said no: the name exists, does not exist or cannot be stored.
    Refused,
    /// The store is out of reach or sealed.
    Unreachable,
    /// Any other error.
    Failed,
    /// The caller went away before it ended.
    Cancelled,
}

impl Outcome {
    /// Every outcome, so that each can be shown before it first happens.
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::Refused,
        Self::Unreachable,
        Self::Failed,
        Self::Cancelled,
    ];

    /// How an operation with this result ended.
    #[must_use]
    pub const fn of<T>(result: &Result<T, StoreError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(StoreError::Exists | StoreError::NotFound | StoreError::InvalidName { .. }) => Self::Refused,
            Err(StoreError::Unreachable { .. } | StoreError::Sealed { .. }) => Self::Unreachable,
            Err(
                StoreError::Throttled { .. }
                | StoreError::AuthFailed { .. }
                | StoreError::Denied { .. }
                | StoreError::Disabled { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Backend { .. },
            ) => Self::Failed,
        }
    }

    /// The outcome's name, as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Reports what a key store does to an [`Observer`].
pub struct Measured<S: ?Sized> {
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    store: Arc<S>,
}

impl<S: KeyStore + ?Sized> Measured<S> {
    /// Reports what `store` does to `observer`, with times taken from `clock`.
    #[must_use]
    pub fn new(store: Arc<S>, observer: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            observer,
            store,
        }
    }

    async fn measure<T>(
        &self,
        op: StoreOp,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut report = Report {
            op,
            outcome: Outcome::Cancelled,
            began: self.clock.monotonic(),
            clock: &*self.clock,
            observer: &*self.observer,
        };
        let result = operation.await;
        report.outcome = Outcome::of(&result);
        result
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KeyStore + ?Sized> KeyStore for Measured<S> {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.measure(StoreOp::Create, self.store.create(name, value))
            .await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.measure(StoreOp::Get, self.store.get(name)).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.measure(StoreOp::Delete, self.store.delete(name)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.measure(StoreOp::List, self.store.list(prefix, after, limit))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.measure(StoreOp::Ping, self.store.ping()).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

impl<S: KeyStore + ?Sized> fmt::Display for Measured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<S: KeyStore + ?Sized> fmt::Debug for Measured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Reports when it is dropped, so that an operation whose caller went away is reported too.
struct Report<'a> {
    op: StoreOp,
    outcome: Outcome,
    began: Monotonic,
    clock: &'a dyn Clock,
    observer: &'a dyn Observer,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.observer
            .observe(self.op, self.outcome, self.clock.monotonic().since(self.began));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kes_types::{ManualClock, SystemClock};

    use super::*;
    use crate::{MemoryStore, conformance};

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<(StoreOp, Outcome, Duration)>>);

    impl Observer for Seen {
        fn observe(&self, op: StoreOp, outcome: Outcome, took: Duration) {
            self.0.lock().unwrap().push((op, outcome, took));
        }
    }

    /// Takes two seconds to say that it cannot be reached, and for ever to list.
    #[derive(Debug)]
    struct Slow(Arc<ManualClock>);

    #[async_trait]
    impl KeyStore for Slow {
        async fn create(&self, _: &EntryName, _: &SecretBytes) -> Result<(), StoreError> {
            self.ping().await
        }

        async fn get(&self, _: &EntryName) -> Result<Entry, StoreError> {
            Err(StoreError::Corrupt {
                reason: "as the test wants it".to_owned(),
            })
        }

        async fn delete(&self, _: &EntryName) -> Result<(), StoreError> {
            self.ping().await
        }

        async fn list(&self, _: &str, _: Option<&EntryName>, _: NonZeroUsize) -> Result<Page, StoreError> {
            std::future::pending().await
        }

        async fn ping(&self) -> Result<(), StoreError> {
            self.0.advance(Duration::from_secs(2));
            Err(StoreError::Unreachable {
                store: "Slow".to_owned(),
                source: "no route".into(),
            })
        }

        async fn close(&self) {}
    }

    impl fmt::Display for Slow {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Slow")
        }
    }

    #[tokio::test]
    async fn it_keeps_every_promise_of_a_store() {
        conformance::all(async || {
            let store = Arc::new(MemoryStore::new());
            Arc::new(Measured::new(
                store,
                Arc::new(Seen::default()),
                Arc::new(SystemClock),
            )) as conformance::Subject
        })
        .await;
    }

    #[tokio::test]
    async fn each_operation_is_reported_once_with_its_outcome_and_time() {
        let (clock, seen) = (Arc::new(ManualClock::default()), Arc::new(Seen::default()));
        let name = EntryName::parse("name").unwrap();
        let value = SecretBytes::copy_of(b"value");

        let store = Measured::new(Arc::new(MemoryStore::new()), seen.clone(), clock.clone());
        store.create(&name, &value).await.unwrap();
        store.create(&name, &value).await.unwrap_err();
        store.get(&name).await.unwrap();
        store.list("", None, NonZeroUsize::MIN).await.unwrap();
        store.delete(&name).await.unwrap();
        store.delete(&name).await.unwrap_err();
        store.ping().await.unwrap();
        store.close().await;
        let at_once = Duration::ZERO;
        assert_eq!(
            std::mem::take(&mut *seen.0.lock().unwrap()),
            [
                (StoreOp::Create, Outcome::Done, at_once),
                (StoreOp::Create, Outcome::Refused, at_once),
                (StoreOp::Get, Outcome::Done, at_once),
                (StoreOp::List, Outcome::Done, at_once),
                (StoreOp::Delete, Outcome::Done, at_once),
                (StoreOp::Delete, Outcome::Refused, at_once),
                (StoreOp::Ping, Outcome::Done, at_once),
            ]
        );

        let slow: Arc<dyn KeyStore> = Arc::new(Slow(clock.clone()));
        let store = Measured::new(slow, seen.clone(), clock);
        store.ping().await.unwrap_err();
        store.get(&name).await.unwrap_err();
        assert_eq!(
            *seen.0.lock().unwrap(),
            [
                (StoreOp::Ping, Outcome::Unreachable, Duration::from_secs(2)),
                (StoreOp::Get, Outcome::Failed, at_once)
            ]
        );
        assert_eq!(store.to_string(), "Slow");
    }

    #[tokio::test]
    async fn an_operation_whose_caller_goes_away_is_reported_as_cancelled() {
        let (clock, seen) = (Arc::new(ManualClock::default()), Arc::new(Seen::default()));
        let store = Measured::new(Arc::new(Slow(clock.clone())), seen.clone(), clock.clone());
        let mut listing = store.list("", None, NonZeroUsize::MIN);
        std::future::poll_fn(|context| {
            assert!(listing.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        clock.advance(Duration::from_secs(3));
        drop(listing);
        assert_eq!(
            *seen.0.lock().unwrap(),
            [(StoreOp::List, Outcome::Cancelled, Duration::from_secs(3))]
        );
    }
}
