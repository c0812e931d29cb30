//! What this process has done and seen, by which it knows what the service does not show yet, or still shows.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kes_keystore::EntryName;
use kes_types::{Clock, Monotonic};

use crate::remembered::Remembered;

/// What this process has done and seen, of the latest names.
pub(crate) struct Memory {
    clock: Arc<dyn Clock>,
    /// Guards what belongs together of one name.
    names: Mutex<Names>,
}

struct Names {
    created: Remembered<Monotonic>,
    deleted: Remembered<Deleted>,
    versions: Remembered<String>,
}

/// That this process has had a secret deleted for good.
struct Deleted {
    at: Monotonic,
    /// Whether the service has said so.
    certain: bool,
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let names = Mutex::new(Names {
            created: Remembered::new(REMEMBERED),
            deleted: Remembered::new(REMEMBERED),
            versions: Remembered::new(REMEMBERED),
        });
        Self { clock, names }
    }

    /// This process has created the secret.
    pub(crate) fn created(&self, name: &EntryName, version: Option<String>) {
        let now = self.clock.monotonic();
        let mut names = self.names();
        names.deleted.forget(name);
        names.created.note(name, now);
        match version {
            Some(version) => drop(names.versions.note(name, version)),
            None => names.versions.forget(name),
        }
    }

    /// This process has had the secret deleted, or not, where it is not `certain`.
    pub(crate) fn deleted(&self, name: &EntryName, certain: bool) {
        let at = self.clock.monotonic();
        let mut names = self.names();
        names.created.forget(name);
        names.versions.forget(name);
        names.deleted.note(name, Deleted { at, certain });
    }

    /// The secret has been seen in this version. Gives the one that it was seen in before.
    pub(crate) fn version(&self, name: &EntryName, version: &str) -> Option<String> {
        self.names().versions.note(name, version.to_owned())
    }

    /// Whether it may be that others do not see the secret yet.
    pub(crate) fn has_just_created(&self, name: &EntryName) -> bool {
        let now = self.clock.monotonic();
        let names = self.names();
        let created = names.created.get(name);
        created.is_some_and(|created| now.since(*created) < NEW)
    }

    /// Whether the secret is certainly on its way out.
    pub(crate) fn has_just_deleted(&self, name: &EntryName) -> bool {
        let now = self.clock.monotonic();
        let names = self.names();
        let deleted = names.deleted.get(name);
        deleted.is_some_and(|deleted| deleted.certain && now.since(deleted.at) < LEAVING)
    }

    /// Whether this process has asked for its deletion.
    pub(crate) fn has_deleted(&self, name: &EntryName) -> bool {
        self.names().deleted.get(name).is_some()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// How many names are remembered of each kind. Past that, the oldest are treated like those of another process.
const REMEMBERED: usize = 10_000;

/// For how long a secret counts as new, which may not be seen everywhere yet.
const NEW: Duration = Duration::from_secs(10);

/// For how long a deleted secret may still be seen as one that is scheduled for deletion.
const LEAVING: Duration = Duration::from_secs(60);
