//! A key store of opaque values in one file: reads on threads of the runtime, writes through the [writer](crate::writer).

mod list;
mod shared;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, StoreError, StoreGauges};
use kes_seal::{HeaderRecord, HeaderStore};
use kes_types::{Clock, Timestamp};
use redb::ReadTransaction;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

use self::list::list;
pub(crate) use self::shared::Shared;
use crate::disk::Disk;
use crate::error::ConnectError;
use crate::fault::{Fault, contain};
use crate::medium::Medium;
use crate::ops::{Counts, Op, Tables};
use crate::pages::with_checksums;
use crate::snapshot::{self, Snapshot, StoredEntry, store_error};
use crate::tables::{self, Entries, Found};
use crate::view::View;
use crate::writer::{Job, Write, Writer};

/// What an engine needs to know beside its medium.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the store is called: the path of its file.
    pub path: PathBuf,
    /// How long deleted entries can be brought back.
    pub undelete: Duration,
}

/// Keeps entries in a database on a [`Medium`].
pub struct Engine {
    shared: Arc<Shared>,
    turns: Turns,
    queue: Arc<Semaphore>,
    writer: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
}

/// Bounds the threads that read, each kind of operation for itself, so that none keeps another one waiting.
#[derive(Debug)]
struct Turns {
    gets: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    pings: Arc<Semaphore>,
}

impl Turns {
    fn new() -> Self {
        let turns = |at_once| Arc::new(Semaphore::new(at_once as usize));
        Self {
            gets: turns(GETS_AT_ONCE),
            lists: turns(FEW_AT_ONCE),
            pings: turns(FEW_AT_ONCE),
        }
    }
}

/// How a medium is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Create,
    Open,
    Examine,
}

impl Engine {
    /// Makes a store on an empty medium.
    ///
    /// # Errors
    /// When there is something on it, or it cannot be written to.
    pub async fn create_on(
        medium: Arc<dyn Medium>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        Self::start(medium, settings, clock, How::Create).await
    }

    /// Opens the store on a medium, which is not changed before something is written.
    ///
    /// # Errors
    /// When there is none, or one that is damaged or of a newer format. Nothing is changed then.
    pub async fn open_on(
        medium: Arc<dyn Medium>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        Self::start(medium, settings, clock, How::Open).await
    }

    /// Opens the store on a medium to read only. Nothing is ever written to the medium.
    ///
    /// # Errors
    /// As for [`open_on`](Self::open_on).
    pub async fn examine(
        medium: Arc<dyn Medium>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        Self::start(medium, settings, clock, How::Examine).await
    }

    async fn start(
        medium: Arc<dyn Medium>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        how: How,
    ) -> Result<Self, ConnectError> {
        spawn_blocking(move || Self::start_blocking(medium, settings, clock, how))
            .await
            .map_err(|_| ConnectError::Stopped)?
    }

    fn start_blocking(
        medium: Arc<dyn Medium>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        how: How,
    ) -> Result<Self, ConnectError> {
        let Settings { path, undelete } = settings;
        let failed = |fault| match fault {
            Fault::Damaged(reason) => ConnectError::Corrupt {
                path: path.clone(),
                reason,
            },
            Fault::Io(source) => ConnectError::Io {
                doing: if how == How::Create { "create" } else { "open" },
                path: path.clone(),
                source,
            },
            Fault::Stale => ConnectError::Corrupt {
                path: path.clone(),
                reason: "the database stops at once".to_owned(),
            },
        };
        let disk = Disk::new(medium).map_err(|error| failed(Fault::of_io(error)))?;
        let disk = Arc::new(disk);
        let view = match how {
            How::Create => Self::make(&disk),
            // What a process that was killed had not synced is served only when it is durable.
            How::Open => disk
                .sync()
                .map_err(Fault::of_io)
                .and_then(|()| View::open_durable(&disk, FIRST_VIEW)),
            How::Examine => View::open_durable(&disk, FIRST_VIEW),
        };
        let view = view.map_err(failed)?;
        let found = view.read(Known::read).map_err(failed)?;
        if found.format != tables::FORMAT {
            return Err(ConnectError::NewerFormat {
                path,
                found: found.format,
                known: tables::FORMAT,
            });
        }

        let shared = Arc::new(Shared {
            path,
            disk,
            view: RwLock::new(Arc::new(view)),
            clock,
            undelete: AtomicU64::new(seconds(undelete)),
            examines: how == How::Examine,
            live: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            last_backup: AtomicI64::new(found.last_backup.map_or(-1, |time| time.unix_timestamp())),
            commits: Mutex::default(),
        });
        shared.set_counts(found.counts);
        if !found.is_sound {
            tracing::error!(store = %shared, "the number of keys and that of values differ: some key is damaged");
        }
        let (sender, jobs) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), jobs);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| ConnectError::Io {
                doing: "start the writer of",
                path: shared.path.clone(),
                source,
            })?;
        Ok(Self {
            shared,
            turns: Turns::new(),
            queue: Arc::new(Semaphore::new(QUEUE)),
            writer: Mutex::new(Some((sender, thread))),
        })
    }

    fn make(disk: &Arc<Disk>) -> Result<View, Fault> {
        if disk.medium().size().map_err(Fault::of_io)? > 0 {
            return Err(Fault::Damaged(
                "there is something where a new store was to be made".to_owned(),
            ));
        }
        let view = View::create(disk, FIRST_VIEW)?;
        contain(|| {
            let transaction = view.begin_write()?;
            Tables::make(&transaction)?;
            Ok(transaction.commit()?)
        })?;
        Ok(view)
    }

    /// Makes a deleted entry usable again, with the value it had.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it was not deleted or is gone for good, [`StoreError::Exists`] if it is there.
    pub async fn undelete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.write(Op::Undelete { name: name.clone() }).await
    }

    /// Puts `value` in the place of what is under `name`, or changes nothing.
    pub(crate) async fn replace_value(&self, name: &EntryName, value: Vec<u8>) -> Result<(), StoreError> {
        self.write(Op::Replace {
            name: name.clone(),
            value,
        })
        .await
    }

    /// Stores many entries in one commit, sorted by name; fails with [`StoreError::Exists`] if one of them is there.
    pub(crate) async fn load(&self, entries: Vec<StoredEntry>) -> Result<(), StoreError> {
        self.write(Op::Load(entries)).await
    }

    /// Remembers when a backup was read to its end.
    pub(crate) async fn record_backup(&self, at: Timestamp) -> Result<(), StoreError> {
        let at = u64::try_from(at.unix_timestamp()).unwrap_or(0);
        self.write(Op::RecordBackup { at }).await
    }

    /// One point in time, which writes do not change.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let store = self.to_string();
        self.read(&self.turns.lists, move |view| {
            contain(|| Ok(Snapshot::new(view.begin_read()?, store.clone())))
        })
        .await
    }

    /// Removes deleted entries whose time is over, now and not only with the next write.
    pub async fn purge(&self) {
        let (done, purged) = oneshot::channel();
        if self.ask(Job::Purge { done }) {
            // An error means that the store was closed meanwhile.
            let _ = purged.await;
        }
    }

    /// From now on deleted entries can be brought back for as long.
    pub async fn set_undelete(&self, undelete: Duration) {
        self.shared.undelete.store(seconds(undelete), Ordering::Relaxed);
        self.purge().await;
    }

    /// For how long deleted entries can be brought back.
    #[must_use]
    pub fn undelete_period(&self) -> Duration {
        Duration::from_secs(self.shared.undelete.load(Ordering::Relaxed))
    }

    /// Measurements.
    #[must_use]
    pub fn gauges(&self) -> StoreGauges {
        let Counts { live, deleted } = self.shared.counts();
        let last_backup = self.shared.last_backup.load(Ordering::Relaxed);
        StoreGauges {
            keys: live,
            deleted,
            size: with_checksums(self.shared.disk.medium().size().unwrap_or(0)),
            last_backup: (last_backup >= 0)
                .then(|| Timestamp::from_unix_timestamp(last_backup).ok())
                .flatten(),
            commits: *self.shared.commits.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The path of the store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Runs `read` on a thread that may block; again when the view that it was given turns out to be of no use any more.
    async fn read<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        read: impl Fn(&View) -> Result<T, Fault> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut attempt = 0;
        loop {
            let turn = Arc::clone(turns)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let view = self.shared.view();
            let number = view.number;
            let read = read.clone();
            let running = spawn_blocking(move || {
                let result = read(&view);
                drop(turn);
                result
            });
            let fault = match running.await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(fault)) => fault,
                Err(error) => {
                    return Err(StoreError::Backend {
                        store: self.to_string(),
                        source: error.into(),
                    });
                }
            };
            attempt += 1;
            if !matches!(fault, Fault::Stale) || attempt >= ATTEMPTS {
                return Err(store_error(fault, &self.to_string()));
            }
            if !self.replace(number).await {
                return Err(self.closed());
            }
        }
    }

    /// Has the view of this number replaced. Whether there is anybody to do so.
    async fn replace(&self, view: u64) -> bool {
        let (done, replaced) = oneshot::channel();
        self.ask(Job::Replace { view, done }) && replaced.await.is_ok()
    }

    /// Has `op` committed. Once it is in the queue it is done, also when the caller goes away.
    async fn write(&self, op: Op) -> Result<(), StoreError> {
        let place = Arc::clone(&self.queue)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let write = Write {
            op,
            answer,
            _place: place,
        };
        if !self.ask(Job::Write(write)) {
            return Err(self.closed());
        }
        answered.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> StoreError {
        StoreError::Backend {
            store: self.to_string(),
            source: Box::new(Closed),
        }
    }

    fn ask(&self, job: Job) -> bool {
        self.writer()
            .as_ref()
            .is_some_and(|(jobs, _)| jobs.send(job).is_ok())
    }

    /// Held to send or to take it, never across an await.
    fn writer(&self) -> MutexGuard<'_, Option<(mpsc::Sender<Job>, JoinHandle<()>)>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for Engine {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.write(Op::Create {
            name: name.clone(),
            value: value.expose_secret().to_vec(),
        })
        .await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let name = name.clone();
        let value = self
            .read(&self.turns.gets, move |view| {
                view.read(|transaction| Entries::open(transaction)?.find(&name))
                    .map_err(|fault| fault.about(&name))
            })
            .await?;
        match value {
            Found::Live(value) => Ok(Entry {
                value: SecretBytes::new(value),
                revision: None,
            }),
            Found::Deleted(..) | Found::Nothing => Err(StoreError::NotFound),
        }
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.write(Op::Delete { name: name.clone() }).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.read(&self.turns.lists, move |view| {
            view.read(|transaction| list(transaction, &prefix, after.as_ref(), limit))
        })
        .await
    }

    /// Whether entries can be read. Whether they can be written shows only when they are, and a full disk is no reason to
    /// send away those who want to read.
    async fn ping(&self) -> Result<(), StoreError> {
        self.read(&self.turns.pings, |view| {
            view.read(|transaction| format(transaction).map(drop))
        })
        .await
    }

    /// Waits for the reads and does the writes that have begun, and lets go of the file.
    async fn close(&self) {
        let Turns { gets, lists, pings } = &self.turns;
        for (turns, all) in [(gets, GETS_AT_ONCE), (lists, FEW_AT_ONCE), (pings, FEW_AT_ONCE)] {
            let _all = turns
                .acquire_many(all)
                .await
                .expect("the semaphore is never closed");
        }
        let Some((jobs, thread)) = self.writer().take() else {
            return;
        };
        let (done, closed) = oneshot::channel();
        if jobs.send(Job::Close { done }).is_ok() {
            // An error means that the thread has ended in another way.
            let _ = closed.await;
        }
        join(thread, &self.shared);
    }
}

#[async_trait]
impl HeaderStore for Engine {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        self.read(&self.turns.lists, |view| view.read(snapshot::header))
            .await
    }

    async fn replace_header(
        &self,
        expected: Option<&HeaderRecord>,
        new: &HeaderRecord,
    ) -> Result<(), StoreError> {
        self.write(Op::ReplaceHeader {
            expected: expected.cloned(),
            new: new.clone(),
        })
        .await
    }
}

/// Ends the writer as [`close`](KeyStore::close) does, if that was forgotten.
impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((jobs, thread)) = self.writer().take() {
            drop(jobs);
            join(thread, &self.shared);
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.shared.path)
            .field("disk", &self.shared.disk)
            .finish_non_exhaustive()
    }
}

/// What a store says about itself.
struct Known {
    format: u64,
    counts: Counts,
    is_sound: bool,
    last_backup: Option<Timestamp>,
}

impl Known {
    fn read(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let format = format(transaction)?;
        if format != tables::FORMAT {
            return Ok(Self {
                format,
                counts: Counts::default(),
                is_sound: true,
                last_backup: None,
            });
        }
        let counts = snapshot::counts(transaction)?;
        Ok(Self {
            format,
            counts,
            is_sound: snapshot::counts_agree(transaction, counts)?,
            last_backup: snapshot::last_backup(transaction)?,
        })
    }
}

/// The version of the tables.
fn format(transaction: &ReadTransaction) -> Result<u64, Fault> {
    let meta = tables::read(transaction, tables::META)?;
    tables::meta_number(&meta, tables::FORMAT_ROW)?
        .ok_or_else(|| Fault::Damaged("it does not say which format it has".to_owned()))
}

/// At least as long as `period`.
fn seconds(period: Duration) -> u64 {
    period
        .as_secs()
        .saturating_add(u64::from(period.subsec_nanos() > 0))
}

/// Waits for the writer, and does what is left to do if it has panicked.
fn join(thread: JoinHandle<()>, shared: &Shared) {
    if thread.join().is_err() {
        let view = shared.view();
        shared.set_view(View::nothing(view.number + 1));
        view.give_up();
        shared.disk.medium().release();
    }
}

/// The store was closed before.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;

/// Enough to keep a disk busy, far fewer than the runtime has threads.
const GETS_AT_ONCE: u32 = 64;

/// Lists take longest; pings have turns of their own so that a disk that hangs does not get another thread to hang with
/// every poll.
const FEW_AT_ONCE: u32 = 4;

/// Writes that wait or are being committed; whoever comes then waits in line.
const QUEUE: usize = 1024;

/// How often a read begins anew, when each time the database was given up meanwhile.
const ATTEMPTS: usize = 4;

const FIRST_VIEW: u64 = 1;
