//! What can go wrong below the tables, and the one way in which it is contained.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{CutOff, ReadFailed};

/// What went wrong below the tables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// What is stored is not what was stored.
    #[error("{0}")]
    Damaged(String),
    /// The medium refused.
    #[error(transparent)]
    Io(io::Error),
    /// This database refuses everything since something before failed: there is, or has to be, another one.
    #[error("the store is being reopened")]
    Stale,
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::of_io(error),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
                Self::Stale
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl Fault {
    /// What a failed read or write means.
    pub(crate) fn of_io(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<CutOff>()) {
            return Self::Stale;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::Damaged("the file ends before a part of it that is in use".to_owned())
            }
            io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }

    fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<ReadFailed>() {
            Ok(failed) => return Self::of_io(failed.0),
            Err(payload) => payload,
        };
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("without a message");
        if message.contains("PoisonError") {
            return Self::Stale;
        }
        Self::Damaged(format!("a damaged page made the database stop: {message}"))
    }
}

/// Runs what calls into redb. redb trusts its pages, so that a damaged one can make it panic, which concerns this one call
/// and nobody else.
pub(crate) fn contain<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Fault::of_panic(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::with_unwinding_reads;

    fn io_error(kind: io::ErrorKind) -> Fault {
        Fault::from(redb::StorageError::Io(kind.into()))
    }

    #[test]
    fn a_panic_is_damage_and_ends_there() {
        let contained = contain::<()>(|| panic!("page {} has no type", 7));
        match contained {
            Err(Fault::Damaged(reason)) => assert!(reason.ends_with("page 7 has no type"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_a_panic_with_a_lock_held_is_a_reason_to_reopen() {
        let lock = std::sync::Mutex::new(());
        let first = contain::<()>(|| {
            let _held = lock.lock().unwrap();
            panic!("damaged");
        });
        assert!(matches!(first, Err(Fault::Damaged(_))), "{first:?}");
        let second = contain::<()>(|| {
            drop(lock.lock().unwrap());
            Ok(())
        });
        assert!(matches!(second, Err(Fault::Stale)), "{second:?}");
    }

    #[test]
    fn a_refused_read_arrives_as_what_the_system_said() {
        let refused = contain::<()>(|| {
            with_unwinding_reads(|| {
                std::panic::resume_unwind(Box::new(ReadFailed(io::ErrorKind::TimedOut.into())))
            })
        });
        assert!(
            matches!(&refused, Err(Fault::Io(error)) if error.kind() == io::ErrorKind::TimedOut),
            "{refused:?}"
        );
    }

    #[test]
    fn a_file_that_ends_early_is_damaged_and_a_full_disk_is_not() {
        assert!(matches!(
            io_error(io::ErrorKind::UnexpectedEof),
            Fault::Damaged(_)
        ));
        assert!(matches!(io_error(io::ErrorKind::InvalidData), Fault::Damaged(_)));
        assert!(matches!(io_error(io::ErrorKind::StorageFull), Fault::Io(_)));
        assert!(matches!(
            Fault::from(redb::StorageError::PreviousIo),
            Fault::Stale
        ));
        assert!(matches!(Fault::of_io(io::Error::other(CutOff)), Fault::Stale));
    }
}
