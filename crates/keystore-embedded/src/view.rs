//! One opened database, until it is given up for another one.

use std::sync::{Arc, PoisonError, RwLock};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use crate::disk::{self, Direct, Disk, Gate, Header, Overlay, with_unwinding_reads};
use crate::fault::{Fault, contain};

/// One opened database.
#[derive(Debug)]
pub(crate) struct View {
    /// Later views have larger ones.
    pub(crate) number: u64,
    /// Whether what is written reaches the medium.
    pub(crate) writable: bool,
    gate: Arc<Gate>,
    /// Taken out when the view is given up. Locked for writing only then.
    database: RwLock<Option<Database>>,
}

impl View {
    /// Opens what is on the disk, to read and write.
    pub(crate) fn open(disk: &Arc<Disk>, number: u64) -> Result<Self, Fault> {
        let size = disk.medium().size().map_err(Fault::of_io)?;
        let head = disk.durable_head();
        let integrity = match disk::examine(&head, size) {
            Header::Foreign(reason) => return Err(Fault::Damaged(reason.to_owned())),
            Header::Sound => false,
            Header::Doubtful { names_other } => {
                tracing::warn!(
                    "the header of the key store may be damaged or half written: checking all of the file"
                );
                if names_other {
                    let other = disk::with_other_commit(&head);
                    if Self::open_over(disk, number, &other, true).is_ok() {
                        tracing::warn!(
                            "the header of the key store did not name the latest commit, and does again"
                        );
                        disk.adopt_head(other).map_err(Fault::of_io)?;
                    }
                }
                true
            }
        };
        let gate = Arc::new(Gate::default());
        let backend = Direct::new(Arc::clone(disk), Arc::clone(&gate));
        let database = contain(|| Ok(builder(integrity).create_with_backend(backend)?));
        Self::of(database, number, true, gate)
    }

    /// Opens what is durable on the disk, to read, in a way that does not write to it.
    pub(crate) fn open_durable(disk: &Arc<Disk>, number: u64) -> Result<Self, Fault> {
        let size = disk.medium().size().map_err(Fault::of_io)?;
        let head = disk.durable_head();
        match disk::examine(&head, size) {
            Header::Foreign(reason) => Err(Fault::Damaged(reason.to_owned())),
            Header::Sound => Self::open_over(disk, number, &head, false),
            Header::Doubtful { names_other } => {
                if names_other
                    && let Ok(view) = Self::open_over(disk, number, &disk::with_other_commit(&head), true)
                {
                    return Ok(view);
                }
                Self::open_over(disk, number, &head, true)
            }
        }
    }

    fn open_over(disk: &Arc<Disk>, number: u64, head: &[u8], integrity: bool) -> Result<Self, Fault> {
        let gate = Arc::new(Gate::default());
        let backend = Overlay::new(Arc::clone(disk), Arc::clone(&gate), head).map_err(Fault::of_io)?;
        let database = contain(|| Ok(builder(integrity).create_with_backend(backend)?));
        Self::of(database, number, false, gate)
    }

    /// Makes a database on an empty disk.
    pub(crate) fn create(disk: &Arc<Disk>, number: u64) -> Result<Self, Fault> {
        let gate = Arc::new(Gate::default());
        let backend = Direct::new(Arc::clone(disk), Arc::clone(&gate));
        let database = contain(|| Ok(builder(false).create_with_backend(backend)?));
        Self::of(database, number, true, gate)
    }

    /// A view of nothing: every operation finds it stale.
    pub(crate) fn nothing(number: u64) -> Self {
        Self {
            number,
            writable: false,
            gate: Arc::default(),
            database: RwLock::default(),
        }
    }

    fn of(
        database: Result<Database, Fault>,
        number: u64,
        writable: bool,
        gate: Arc<Gate>,
    ) -> Result<Self, Fault> {
        match database {
            Ok(database) => Ok(Self {
                number,
                writable,
                gate,
                database: RwLock::new(Some(database)),
            }),
            // Also when it failed half-way, nothing of it may touch the medium any more.
            Err(fault) => {
                gate.close();
                Err(fault)
            }
        }
    }

    /// Reads one point in time. A read that the medium refuses is this call's error only.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        contain(|| {
            with_unwinding_reads(|| {
                let transaction = self.begin_read()?;
                read(&transaction)
            })
        })
    }

    /// One point in time, for longer.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(Fault::Stale)?.begin_read()?)
    }

    /// Whether nothing can be read through it any more.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(contain(|| self.begin_read().map(drop)), Err(Fault::Stale))
    }

    /// Begins a write, of which there is one at a time.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = database.as_ref().ok_or(Fault::Stale)?.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Cuts the database off and lets go of it.
    pub(crate) fn give_up(&self) {
        self.gate.close();
        let database = self.take();
        let _ = contain(|| {
            drop(database);
            Ok(())
        });
    }

    /// Ends the database properly.
    pub(crate) fn close(&self) -> Result<(), Fault> {
        let closed = match self.take() {
            Some(database) if self.writable => contain(|| Ok(database.close()?)),
            database => {
                self.gate.close();
                contain(|| {
                    drop(database);
                    Ok(())
                })
            }
        };
        self.gate.close();
        closed
    }

    fn take(&self) -> Option<Database> {
        self.database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn builder(integrity: bool) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder.set_check_integrity_on_open(integrity);
    builder
}

/// Enough for the upper pages of a million keys; what is asked for often is cached above as well.
const CACHE: usize = 12 * 1024 * 1024;
