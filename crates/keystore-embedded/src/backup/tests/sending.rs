//! The way from a snapshot to whoever takes the pieces.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Backup, Entry, KeyStore, MemoryStore, Page, StoreError};
use kes_seal::{HeaderStore, KeySeal, Sealed, StoreKey};
use kes_types::{Clock as _, ManualClock};
use tokio::time::advance;

use super::*;
use crate::backup::send::PATIENCE;

#[tokio::test]
async fn a_backup_is_complete_when_its_last_piece_was_taken() {
    let world = World::new().await;
    let mut backup = world.begin(Plan::of(20)).await.unwrap();
    let (mut check, mut pieces) = (BackupCheck::new(), 0);
    while let Some(piece) = backup.next().await {
        assert!(!world.is_completed(), "after {pieces} pieces");
        check.update(&piece.unwrap()).unwrap();
        pieces += 1;
        assert!(
            world.read() <= pieces + 6,
            "{} read, {pieces} taken",
            world.read()
        );
    }
    assert!(world.is_completed() && world.is_freed());
    assert_eq!(check.finish().unwrap().keys, 20);
    assert_eq!(pieces, 21);
}

#[tokio::test]
async fn there_is_one_backup_at_a_time() {
    let world = World::new().await;
    for _ in 0..3 {
        let mut first = world.begin(Plan::of(20)).await.unwrap();
        let second = world.begin(Plan::of(1)).await;
        assert!(matches!(second, Err(StoreError::Throttled { .. })), "{second:?}");
        while let Some(piece) = first.next().await {
            piece.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_pieces_nobody_takes_ends_with_an_error_and_frees_the_snapshot() {
    let world = World::new().await;
    let mut backup = world.begin(Plan::of(20)).await.unwrap();
    backup.next().await.unwrap().unwrap();
    until(|| world.read() >= 4).await;
    assert!(!world.is_freed());
    // Some time may pass before the piece that nobody takes gets to where it waits.
    let deadline = Instant::now() + DEADLINE;
    while !world.is_freed() {
        assert!(Instant::now() < deadline);
        advance(PATIENCE / 4).await;
    }

    let mut last = None;
    while let Some(piece) = backup.next().await {
        last = Some(piece);
    }
    let error = last.unwrap().unwrap_err();
    assert!(
        format!("{error:?}").contains("nobody took the next piece"),
        "{error:?}"
    );
    assert!(!world.is_completed());
    world.begin(Plan::of(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_each_piece_in_time_may_take_long_for_all() {
    let world = World::new().await;
    let mut backup = world.begin(Plan::of(10)).await.unwrap();
    let mut check = BackupCheck::new();
    while let Some(piece) = backup.next().await {
        check.update(&piece.unwrap()).unwrap();
        advance(PATIENCE.mul_f32(0.9)).await;
    }
    check.finish().unwrap();
}

#[tokio::test]
async fn a_backup_that_nobody_wants_any_more_frees_the_snapshot() {
    let world = World::new().await;
    let mut backup = world.begin(Plan::of(1000)).await.unwrap();
    backup.next().await.unwrap().unwrap();
    drop(backup);
    until(|| world.is_freed()).await;
    until(|| world.is_idle()).await;
    assert!(world.read() < 1000 && !world.is_completed());
    world.begin(Plan::of(1)).await.unwrap();
}

#[tokio::test]
async fn what_goes_wrong_half_way_is_the_last_that_arrives() {
    for (fault, text) in [
        (Fault::Error, "the stored value is corrupt: page 7"),
        (Fault::Panic, "ended too early"),
        (Fault::Order, "order of names"),
    ] {
        let world = World::new().await;
        let plan = Plan {
            fault: Some((7, fault)),
            ..Plan::of(20)
        };
        let mut backup = world.begin(plan).await.unwrap();
        let mut check = BackupCheck::new();
        let error = loop {
            match backup
                .next()
                .await
                .expect("it does not end as if it were complete")
            {
                Ok(piece) => check.update(&piece).unwrap(),
                Err(error) => break error,
            }
        };
        let shown = format!("{error}: {error:?}");
        assert!(shown.contains(text), "{shown}");
        assert!(backup.next().await.is_none());
        assert!(matches!(check.finish(), Err(BackupError::Truncated { .. })));
        assert!(!world.is_completed() && world.is_freed());
        world.begin(Plan::of(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_had_is_no_backup() {
    let world = World::new().await;
    let none = async {
        Err::<Snap, _>(StoreError::Corrupt {
            reason: "page 7".to_owned(),
        })
    };
    let begun = world
        .backups
        .begin("Store".to_owned(), Arc::clone(&world.key), none, async {})
        .await;
    assert!(matches!(begun, Err(StoreError::Corrupt { .. })), "{begun:?}");
    world.begin(Plan::of(1)).await.unwrap();
}

/// A runtime that shuts down takes the task between the two ends away.
#[test]
fn a_backup_that_is_cut_off_does_not_look_complete() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut backup = runtime.block_on(async {
        let world = World::new().await;
        world.begin(Plan::of(1000)).await.unwrap()
    });
    runtime.shutdown_timeout(DEADLINE);
    let last = futures_last(&mut backup);
    let error = last.expect("it ends with an error").unwrap_err();
    assert!(format!("{error:?}").contains("stopped"), "{error:?}");
}

fn futures_last(backup: &mut Backup) -> Option<Result<bytes::Bytes, StoreError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut last = None;
        while let Some(piece) = backup.next().await {
            last = Some(piece);
        }
        last
    })
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what other threads do.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not happen");
        tokio::task::yield_now().await;
    }
}

struct World {
    backups: Backups,
    key: Arc<StoreKey>,
    seen: Arc<Seen>,
}

/// What the source and its user have done.
#[derive(Default)]
struct Seen {
    read: AtomicUsize,
    freed: AtomicBool,
    completed: AtomicBool,
}

impl World {
    async fn new() -> Self {
        Self {
            backups: Backups::new(),
            key: store_key().await,
            seen: Arc::default(),
        }
    }

    async fn begin(&self, plan: Plan) -> Result<Backup, StoreError> {
        let (snap, seen) = (Snap(plan, Arc::clone(&self.seen)), Arc::clone(&self.seen));
        self.backups
            .begin(
                "Store".to_owned(),
                Arc::clone(&self.key),
                async { Ok(snap) },
                async move { seen.completed.store(true, Ordering::SeqCst) },
            )
            .await
    }

    fn read(&self) -> usize {
        self.seen.read.load(Ordering::SeqCst)
    }

    fn is_freed(&self) -> bool {
        self.seen.freed.load(Ordering::SeqCst)
    }

    fn is_completed(&self) -> bool {
        self.seen.completed.load(Ordering::SeqCst)
    }

    fn is_idle(&self) -> bool {
        self.backups.is_idle()
    }
}

#[derive(Clone, Copy)]
struct Plan {
    entries: usize,
    fault: Option<(usize, Fault)>,
}

#[derive(Clone, Copy)]
enum Fault {
    Error,
    Panic,
    Order,
}

impl Plan {
    const fn of(entries: usize) -> Self {
        Self { entries, fault: None }
    }
}

/// A snapshot of entries as large as a piece.
struct Snap(Plan, Arc<Seen>);

impl Source for Snap {
    fn header(&self) -> Result<HeaderRecord, StoreError> {
        Ok(record())
    }

    fn entries(&self) -> Result<impl Iterator<Item = Result<StoredEntry, StoreError>>, StoreError> {
        Ok((0..self.0.entries).map(|number| {
            self.1.read.fetch_add(1, Ordering::SeqCst);
            let entry = live(&format!("key-{number:06}"), &[0xcd; PIECE]);
            match self.0.fault {
                Some((at, fault)) if at == number => match fault {
                    Fault::Error => Err(StoreError::Corrupt {
                        reason: "page 7".to_owned(),
                    }),
                    Fault::Panic => panic!("a test's panic"),
                    Fault::Order => Ok(live("a", b"value")),
                },
                _ => Ok(entry),
            }
        }))
    }
}

impl Drop for Snap {
    fn drop(&mut self) {
        self.1.freed.store(true, Ordering::SeqCst);
    }
}

/// A root key, as a new store gets one.
async fn store_key() -> Arc<StoreKey> {
    let seal = KeySeal::from_variable("TEST", &KeySeal::generate_text().unwrap()).unwrap();
    let store = Arc::new(Headed(MemoryStore::new(), Mutex::new(None)));
    let sealed = Sealed::initialise(store, &vec![Arc::new(seal)], ManualClock::default().now()).await;
    Arc::clone(sealed.unwrap().key())
}

/// A store in memory with a header.
#[derive(Debug)]
struct Headed(MemoryStore, Mutex<Option<HeaderRecord>>);

impl fmt::Display for Headed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a test's store")
    }
}

#[async_trait]
impl HeaderStore for Headed {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        Ok(self.1.lock().unwrap().clone())
    }

    async fn replace_header(&self, _: Option<&HeaderRecord>, new: &HeaderRecord) -> Result<(), StoreError> {
        *self.1.lock().unwrap() = Some(new.clone());
        Ok(())
    }
}

#[async_trait]
impl KeyStore for Headed {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.0.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.0.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.0.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }

    async fn close(&self) {}
}
