//! For the tests: a store with a place for a header that can be stopped at any of its steps, and seals that misbehave.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, MemoryStore, Page, StoreError};
use kes_types::Timestamp;
use tokio::sync::Barrier;

use crate::{HeaderRecord, HeaderStore, KeySeal, Seal, SealError, SealId, Seals};

/// A `MemoryStore` with a header.
#[derive(Debug, Default)]
pub(crate) struct TestStore {
    pub(crate) entries: MemoryStore,
    header: Mutex<Option<HeaderRecord>>,
    /// How many calls about the header there were.
    pub(crate) calls: AtomicUsize,
    stop: Mutex<Option<Stop>>,
    /// Where the next loads of the header meet, so that each sees what is there before the others change it.
    meeting: Mutex<Option<Arc<Barrier>>>,
}

/// Where a process ends or an operation fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// At which call about the header, from 0.
    pub(crate) call: usize,
    pub(crate) when: When,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// An error is returned.
    Fails,
    /// There is never an answer.
    Hangs,
}

impl TestStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn with_header(header: HeaderRecord) -> Arc<Self> {
        let store = Self::new();
        store.put_header(Some(header));
        store
    }

    pub(crate) fn header(&self) -> Option<HeaderRecord> {
        self.header.lock().unwrap().clone()
    }

    pub(crate) fn put_header(&self, header: Option<HeaderRecord>) {
        *self.header.lock().unwrap() = header;
    }

    /// Another store with the same header and no faults: what the next process finds.
    pub(crate) fn after_a_crash(&self) -> Arc<Self> {
        let next = Self::new();
        next.put_header(self.header());
        next
    }

    pub(crate) fn stop_at(&self, stop: Stop) {
        *self.stop.lock().unwrap() = Some(stop);
    }

    /// The next loads of the header wait until there are as many as this.
    pub(crate) fn gather(&self, loads: usize) {
        *self.meeting.lock().unwrap() = Some(Arc::new(Barrier::new(loads)));
    }

    /// The bytes that are stored under a name.
    pub(crate) async fn stored(&self, name: &EntryName) -> Vec<u8> {
        let entry = self.entries.get(name).await.unwrap();
        entry.value.expose_secret().to_vec()
    }

    /// Puts other bytes under a name.
    pub(crate) async fn overwrite(&self, name: &EntryName, bytes: &[u8]) {
        let _ = self.entries.delete(name).await;
        let value = SecretBytes::copy_of(bytes);
        self.entries.create(name, &value).await.unwrap();
    }

    async fn step<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let stop = self.stop.lock().unwrap().filter(|stop| stop.call == call);
        let Some(Stop { when, how, .. }) = stop else {
            return work();
        };
        if when == When::After {
            work()?;
        }
        if how == How::Hangs {
            std::future::pending::<()>().await;
        }
        Err(StoreError::Backend {
            store: self.to_string(),
            source: "as the test wants it".into(),
        })
    }
}

#[async_trait]
impl HeaderStore for TestStore {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        let loaded = self.step(|| Ok(self.header())).await;
        let meeting = self.meeting.lock().unwrap().clone();
        if let Some(meeting) = meeting
            && meeting.wait().await.is_leader()
        {
            *self.meeting.lock().unwrap() = None;
        }
        loaded
    }

    async fn replace_header(
        &self,
        expected: Option<&HeaderRecord>,
        new: &HeaderRecord,
    ) -> Result<(), StoreError> {
        self.step(|| {
            let mut header = self.header.lock().unwrap();
            if header.as_ref() != expected {
                return Err(StoreError::Exists);
            }
            *header = Some(new.clone());
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl KeyStore for TestStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.entries.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.entries.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.entries.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.entries.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.entries.ping().await
    }

    async fn close(&self) {
        self.entries.close().await;
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Test: memory")
    }
}

/// A seal that says it is another one, and does not do what that one does.
#[derive(Debug)]
pub(crate) struct BadSeal {
    pub(crate) id: SealId,
    pub(crate) fault: Fault,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Its service does not answer.
    Unavailable,
    /// It always unwraps the same wrong key.
    WrongKey,
    /// Its wrappings are too long.
    HugeBlob,
}

#[async_trait]
impl Seal for BadSeal {
    fn id(&self) -> SealId {
        self.id.clone()
    }

    async fn wrap(&self, _: &[u8], root: &SecretBytes) -> Result<Vec<u8>, SealError> {
        match self.fault {
            Fault::Unavailable => Err(unavailable()),
            Fault::WrongKey => Ok(vec![0; 32]),
            Fault::HugeBlob => Ok(root.expose_secret().repeat(1000)),
        }
    }

    async fn unwrap(&self, _: &[u8], blob: &[u8]) -> Result<SecretBytes, SealError> {
        match self.fault {
            Fault::Unavailable => Err(unavailable()),
            Fault::WrongKey => Ok(SecretBytes::copy_of(&[7; 32])),
            Fault::HugeBlob => Ok(SecretBytes::copy_of(&blob[..32])),
        }
    }
}

impl fmt::Display for BadSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad seal")
    }
}

fn unavailable() -> SealError {
    SealError::Unavailable {
        source: "as the test wants it".into(),
    }
}

/// The seal number `n`, always with the same key.
pub(crate) fn seal(n: u8) -> Arc<dyn Seal> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode([n; 32]);
    Arc::new(KeySeal::from_variable(&format!("SEAL_{n}"), &text).unwrap())
}

pub(crate) fn seals<const N: usize>(numbers: [u8; N]) -> Seals {
    numbers.map(seal).into()
}

pub(crate) fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_timestamp(1_767_225_600).unwrap()
}

/// An error as it is logged, with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
