//! A fake of a key store that the server keeps itself: in memory, with deleted keys that come back and backups that fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kes_crypto::SecretBytes;
use kes_keystore::{
    Backup, Connected, Entry, EntryName, KeyStore, Maintenance, MemoryStore, Page, SealInfo, StoreError,
    StoreGauges, StoreInfo,
};
use kes_types::{Clock as _, ManualClock, Timestamp};
use tokio::sync::mpsc;

use crate::{Failure, Gate, Step};

/// What a [`Maintenance`] is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaintenanceOp {
    /// Describe the store.
    Info,
    /// Bring back a deleted entry.
    Undelete,
    /// Begin a backup.
    Backup,
}

/// A part of a backup.
#[derive(Clone, Debug)]
pub enum Part {
    /// A piece.
    Piece(Bytes),
    /// The same piece, for as long as somebody takes it.
    Endless(Bytes),
    /// The backup waits here until the gate is open.
    Wait(Gate),
    /// The backup fails.
    Fail(Failure),
}

/// Not a store for anything but tests: a [`MemoryStore`] with a [`Maintenance`] that does as it is told. Clones are the same
/// store.
#[derive(Clone, Default)]
pub struct FakeOwnStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    live: MemoryStore,
    /// Guards the deleted entries; held over changes of `live`, so that an entry is never in both.
    deleted: tokio::sync::Mutex<Deleted>,
    /// Guards the script and the counters; each section leaves them whole.
    script: Mutex<Script>,
    clock: ManualClock,
    backups: AtomicUsize,
    pieces: AtomicUsize,
    closed: AtomicUsize,
}

type Deleted = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Script {
    next: HashMap<MaintenanceOp, VecDeque<Step>>,
    calls: HashMap<MaintenanceOp, usize>,
    backup: Option<Vec<Part>>,
    gauges: StoreGauges,
    last_backup: Option<Timestamp>,
}

impl FakeOwnStore {
    const NAME: &'static str = "FakeOwnStore";

    /// An empty store that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The store with what it can do beyond the contract.
    #[must_use]
    pub fn connected(&self) -> Connected {
        Connected {
            store: Arc::new(self.clone()),
            maintenance: Some(Arc::new(self.clone())),
        }
    }

    /// Decides what becomes of the next call of `op` that has nothing scripted yet.
    pub fn next(&self, op: MaintenanceOp, step: Step) {
        self.script().next.entry(op).or_default().push_back(step);
    }

    /// How many calls of `op` have begun.
    #[must_use]
    pub fn calls(&self, op: MaintenanceOp) -> usize {
        self.script().calls.get(&op).copied().unwrap_or_default()
    }

    /// Decides what backups are made of. Otherwise they have the name of each entry on a line.
    pub fn set_backup(&self, parts: Vec<Part>) {
        self.script().backup = Some(parts);
    }

    /// Decides what the store measures, all but the numbers of its keys and the time of the last backup.
    pub fn set_gauges(&self, gauges: StoreGauges) {
        self.script().gauges = gauges;
    }

    /// How many backups are under way.
    #[must_use]
    pub fn backups_under_way(&self) -> usize {
        self.0.backups.load(Ordering::SeqCst)
    }

    /// How many pieces of backups have been taken.
    #[must_use]
    pub fn pieces_taken(&self) -> usize {
        self.0.pieces.load(Ordering::SeqCst)
    }

    /// How often the store has been closed.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.0.closed.load(Ordering::SeqCst)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, does what the script says, and runs `work` where the script lets it.
    async fn run<T>(
        &self,
        op: MaintenanceOp,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let step = {
            let mut script = self.script();
            *script.calls.entry(op).or_default() += 1;
            script.next.get_mut(&op).and_then(VecDeque::pop_front)
        };
        match step.unwrap_or(Step::Pass) {
            Step::Pass => work.await,
            Step::Fail(failure) => Err(failure.error()),
            Step::FailAfter(failure) => {
                let _done = work.await;
                Err(failure.error())
            }
            Step::Panic => panic!("as the test wants it"),
            Step::WaitBefore(gate) => {
                gate.pass().await;
                work.await
            }
            Step::WaitAfter(gate) => {
                let answer = work.await;
                gate.pass().await;
                answer
            }
        }
    }

    async fn names(&self) -> Result<Vec<EntryName>, StoreError> {
        Ok(self.0.live.list("", None, NonZeroUsize::MAX).await?.names)
    }
}

#[async_trait]
impl KeyStore for FakeOwnStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let deleted = self.0.deleted.lock().await;
        if deleted.contains_key(name.as_str()) {
            return Err(StoreError::Exists);
        }
        self.0.live.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.0.live.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let mut deleted = self.0.deleted.lock().await;
        let entry = self.0.live.get(name).await?;
        self.0.live.delete(name).await?;
        deleted.insert(name.as_str().to_owned(), entry.value.expose_secret().to_vec());
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.0.live.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.live.ping().await
    }

    async fn close(&self) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Maintenance for FakeOwnStore {
    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.run(MaintenanceOp::Info, async {
            let deleted = self.0.deleted.lock().await.len();
            let keys = self.names().await?.len();
            let script = self.script();
            Ok(StoreInfo {
                kind: "fake",
                location: "memory".to_owned(),
                format: 1,
                id: "00112233445566778899aabbccddeeff".to_owned(),
                seals: vec![SealInfo {
                    kind: "key".to_owned(),
                    check: "0011223344556677".to_owned(),
                    source: Some("file seal.key".to_owned()),
                }],
                keys: keys as u64,
                deleted: deleted as u64,
                undelete: Duration::from_secs(7 * 24 * 3600),
                size: script.gauges.size,
                last_backup: script.last_backup,
            })
        })
        .await
    }

    async fn undelete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.run(MaintenanceOp::Undelete, async {
            let mut deleted = self.0.deleted.lock().await;
            match self.0.live.get(name).await {
                Ok(_) => return Err(StoreError::Exists),
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
            let value = deleted.get(name.as_str()).ok_or(StoreError::NotFound)?;
            self.0.live.create(name, &SecretBytes::copy_of(value)).await?;
            deleted.remove(name.as_str());
            Ok(())
        })
        .await
    }

    async fn backup(&self) -> Result<Backup, StoreError> {
        self.run(MaintenanceOp::Backup, async {
            let place = Place::take(self).ok_or_else(|| Failure::Throttled.error())?;
            let scripted = self.script().backup.clone();
            let parts = match scripted {
                Some(parts) => parts,
                None => {
                    let names = self.names().await?;
                    let line = |name: &EntryName| Part::Piece(format!("{}\n", name.as_str()).into());
                    names.iter().map(line).collect()
                }
            };
            let (pieces, backup) = mpsc::channel(1);
            tokio::spawn(async move {
                tokio::select! {
                    () = pieces.closed() => {}
                    () = place.send(parts, &pieces) => {}
                }
                // Whoever sees the end may begin another one.
                drop(place);
                drop(pieces);
            });
            Ok(Backup::new(backup))
        })
        .await
    }

    fn gauges(&self) -> StoreGauges {
        let script = self.script();
        StoreGauges {
            last_backup: script.last_backup,
            ..script.gauges.clone()
        }
    }
}

/// The place of the only backup, free again when dropped.
struct Place(FakeOwnStore);

impl Place {
    fn take(store: &FakeOwnStore) -> Option<Self> {
        let taken = store
            .0
            .backups
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        taken.is_ok().then(|| Self(store.clone()))
    }

    async fn send(&self, parts: Vec<Part>, pieces: &mpsc::Sender<Result<Bytes, StoreError>>) {
        for part in parts {
            match part {
                Part::Piece(piece) => self.give(piece, pieces).await,
                Part::Endless(piece) => loop {
                    self.give(piece.clone(), pieces).await;
                },
                Part::Wait(gate) => gate.pass().await,
                Part::Fail(failure) => {
                    // Whoever has gone needs to be told nothing.
                    _ = pieces.send(Err(failure.error())).await;
                    return;
                }
            }
        }
        let now = self.0.0.clock.now();
        self.0.script().last_backup = Some(now);
    }

    async fn give(&self, piece: Bytes, pieces: &mpsc::Sender<Result<Bytes, StoreError>>) {
        match pieces.send(Ok(piece)).await {
            Ok(()) => _ = self.0.0.pieces.fetch_add(1, Ordering::SeqCst),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.backups.store(0, Ordering::SeqCst);
    }
}

impl fmt::Display for FakeOwnStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

impl fmt::Debug for FakeOwnStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> EntryName {
        EntryName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn what_is_deleted_is_kept_until_it_is_wanted_again() {
        let (store, name) = (FakeOwnStore::new(), named("key"));
        let value = SecretBytes::copy_of(b"value");
        store.create(&name, &value).await.unwrap();
        assert!(matches!(store.undelete(&name).await, Err(StoreError::Exists)));
        store.delete(&name).await.unwrap();
        assert!(matches!(store.get(&name).await, Err(StoreError::NotFound)));
        assert!(matches!(
            store.create(&name, &value).await,
            Err(StoreError::Exists)
        ));
        store.undelete(&name).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap().value.expose_secret(), b"value");
        assert!(matches!(
            store.undelete(&named("other")).await,
            Err(StoreError::NotFound)
        ));
    }

    #[tokio::test]
    async fn one_backup_at_a_time_ends_as_it_is_told_to() {
        let store = FakeOwnStore::new();
        store
            .create(&named("key"), &SecretBytes::copy_of(b"value"))
            .await
            .unwrap();
        let mut backup = store.backup().await.unwrap();
        assert!(matches!(store.backup().await, Err(StoreError::Throttled { .. })));
        assert_eq!(backup.next().await.unwrap().unwrap(), "key\n");
        assert!(backup.next().await.is_none());
        assert!(store.gauges().last_backup.is_some());

        store.set_backup(vec![Part::Fail(Failure::Corrupt)]);
        let mut backup = store.backup().await.unwrap();
        assert!(matches!(
            backup.next().await,
            Some(Err(StoreError::Corrupt { .. }))
        ));
        assert!(backup.next().await.is_none());
    }
}
