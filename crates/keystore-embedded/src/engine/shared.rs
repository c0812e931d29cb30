//! What the readers and the writer share.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kes_keystore::CommitTimes;
use kes_types::Clock;

use crate::disk::Disk;
use crate::ops::{Counts, Times};
use crate::view::View;

/// What the readers and the writer share.
pub(crate) struct Shared {
    pub(super) path: PathBuf,
    pub(crate) disk: Arc<Disk>,
    /// The current view. Locked to take or to replace it only.
    pub(super) view: RwLock<Arc<View>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// In seconds.
    pub(super) undelete: AtomicU64,
    /// Whether the medium must not be changed at all.
    pub(crate) examines: bool,
    pub(super) live: AtomicU64,
    pub(super) deleted: AtomicU64,
    /// In Unix seconds; negative when there was none.
    pub(super) last_backup: AtomicI64,
    /// Locked to add or to copy only.
    pub(super) commits: Mutex<CommitTimes>,
}

impl Shared {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            now: u64::try_from(self.clock.now().unix_timestamp()).unwrap_or(0),
            period: self.undelete.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            live: self.live.load(Ordering::Relaxed),
            deleted: self.deleted.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_counts(&self, counts: Counts) {
        self.live.store(counts.live, Ordering::Relaxed);
        self.deleted.store(counts.deleted, Ordering::Relaxed);
    }

    pub(crate) fn set_last_backup(&self, at: u64) {
        self.last_backup
            .store(i64::try_from(at).unwrap_or(-1), Ordering::Relaxed);
    }

    pub(crate) fn count_commit(&self, took: Duration) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let place = CommitTimes::BOUNDS
            .iter()
            .position(|&bound| took.as_secs_f64() <= bound)
            .unwrap_or(CommitTimes::BOUNDS.len());
        if let Some(count) = commits.counts.get_mut(place) {
            *count += 1;
        }
        commits.sum += took;
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedded: {}", self.path.display())
    }
}
