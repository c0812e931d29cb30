//! What stands between a database and the medium: a gate that can be closed, and reads that fail past the database.

use std::cell::Cell;
use std::io;
use std::panic::resume_unwind;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Cuts a database that is given up off from the medium. A database that knows nothing of the commits of its successor must
/// not read pages that the successor may have used again, and must not write any more.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<bool>);

impl Gate {
    /// Waits for what is under way, and lets nothing through any more.
    pub(crate) fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(super) fn enter(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(io::Error::other(CutOff));
        }
        Ok(closed)
    }
}

/// The database was cut off from the file.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the store was reopened")]
pub(crate) struct CutOff;

/// A failed read, on its way past redb.
#[derive(Debug)]
pub(crate) struct ReadFailed(pub(crate) io::Error);

thread_local! {
    static READS_UNWIND: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read` so that a read which the medium refuses unwinds as [`ReadFailed`] up to whoever called this. redb would
/// refuse every operation after a failed read, of which one bad sector under one key makes one too many; it holds no lock
/// while it reads.
pub(crate) fn with_unwinding_reads<T>(read: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            READS_UNWIND.set(self.0);
        }
    }
    let _reset = Reset(READS_UNWIND.replace(true));
    read()
}

pub(super) fn failed_read(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if READS_UNWIND.get() => resume_unwind(Box::new(ReadFailed(error))),
        result => result,
    }
}
