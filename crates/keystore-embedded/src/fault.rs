//! What can go wrong below the tables, and the one way in which it is contained.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kes_keystore::EntryName;

use crate::disk::{CutOff, ReadFailed};
use crate::pages::with_checksums;

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
            redb::Error::Corrupted(reason) => Self::Damaged(cut_short(&reason).unwrap_or(reason)),
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

    /// The same, with the name of the key that it was about, unless it says that already.
    pub(crate) fn about(self, name: &EntryName) -> Self {
        match self {
            // The word belongs to it: a key may be called like a table.
            Self::Damaged(reason) if !reason.contains(&format!("key '{name}'")) => {
                Self::Damaged(format!("key '{name}': {reason}"))
            }
            fault @ (Self::Damaged(_) | Self::Io(_) | Self::Stale) => fault,
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

/// What redb says of a file that is shorter than its header says, in words and sizes that fit the file.
fn cut_short(reason: &str) -> Option<String> {
    let size = |field: &str| -> Option<u64> {
        let (_, rest) = reason.split_once(field)?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().map(with_checksums)
    };
    if !reason.starts_with("File truncated") {
        return None;
    }
    Some(match (size("file_len="), size("layout_len=")) {
        (Some(found), Some(whole)) => format!("the file is cut short (to {found} of {whole} bytes)"),
        (Some(found), None) => format!("the file is cut short (to {found} bytes)"),
        (None, _) => "the file is cut short".to_owned(),
    })
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
    fn a_damaged_key_is_named_once_whatever_it_is_called() {
        for name in ["a", "page", "file", "6", "meta"] {
            let name = EntryName::parse(name).unwrap();
            for reason in ["page 6 of the file is damaged", "the table 'meta' is missing"] {
                let fault = Fault::Damaged(reason.to_owned()).about(&name);
                assert_eq!(fault.to_string(), format!("key '{name}': {reason}"));
                assert_eq!(fault.to_string(), fault.about(&name).to_string());
            }
            let named = crate::tables::disagreement(&name);
            let reason = named.to_string();
            assert_eq!(named.about(&name).to_string(), reason);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_told_in_our_words() {
        let told = |reason: &str| Fault::from(redb::StorageError::Corrupted(reason.to_owned())).to_string();
        assert_eq!(
            told("File truncated below stored layout: file_len=8192, layout_len=12288"),
            "the file is cut short (to 8208 of 12320 bytes)"
        );
        assert_eq!(
            told("File truncated below the minimum layout: file_len=4096"),
            "the file is cut short (to 4096 bytes)"
        );
        assert_eq!(told("File truncated"), "the file is cut short");
        assert_eq!(told("Header is invalid"), "Header is invalid");
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
