//! Keeps key bytes out of swap space and core dumps.

use anyhow::Context as _;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities};

/// Locks all memory of this process, now and to come, if nothing limits how much may be locked: past a limit, later
/// allocations would fail and end the process. Whether it did.
pub(crate) fn lock_if_unlimited() -> bool {
    is_unlimited() && lock().is_ok()
}

/// Locks all memory of this process, now and to come.
pub(crate) fn require_lock() -> anyhow::Result<()> {
    if !is_unlimited() {
        anyhow::bail!(
            "cannot lock memory: the process needs the capability IPC_LOCK (such as by `setcap cap_ipc_lock=+ep`) or an \
             unlimited RLIMIT_MEMLOCK"
        );
    }
    lock()
}

fn lock() -> anyhow::Result<()> {
    // Only pages that have been touched: the stacks of threads are large and mostly never used.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .context("cannot lock memory")
}

/// Whether nothing limits how much memory this process may lock.
pub(crate) fn is_unlimited() -> bool {
    let may_lock = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    may_lock || getrlimit(Resource::Memlock).current.is_none()
}

/// Keeps the memory of this process out of core dumps and from other processes of the user. Not every system can.
pub(crate) fn forbid_dumps() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
