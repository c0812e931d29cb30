//! Temporary files: how a value gets to the disk before it has its name.
//!
//! Their names contain a `.`, which no key's name does. Whoever writes one holds an advisory lock on it, which the system
//! releases when the process ends, however it ends. So a temporary file whose lock is free is stale, and one whose lock is
//! taken belongs to a live process, which may be another server on the same folder. Age would tell neither: clocks differ
//! and a writer may be stopped for long.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// How a temporary file gets its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publish {
    /// With a rename that replaces nothing; as [`Publish::Link`] where the system or the file system has no such rename.
    Rename,
    /// With a second name, then without the first.
    Link,
}

impl Publish {
    /// What to try first on this system.
    pub(crate) const HERE: Self = if cfg!(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple"
    )) {
        Self::Rename
    } else {
        Self::Link
    };
}

/// A temporary file that this process has created. Removed on drop unless it was published.
#[derive(Debug)]
pub(crate) struct TempFile<'a> {
    folder: &'a OwnedFd,
    name: String,
    /// Holds the lock.
    file: File,
    is_ours: bool,
}

impl<'a> TempFile<'a> {
    /// Creates a file for its owner only, and locks it.
    pub(crate) fn new(folder: &'a OwnedFd) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let name = random_name()?;
            let opened = retry_on_intr(|| rustix::fs::openat(folder, &*name, flags, Mode::RUSR | Mode::WUSR));
            let file: File = match opened {
                Ok(file) => file.into(),
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut temp = Self {
                folder,
                name,
                file,
                is_ours: true,
            };
            match retry_on_intr(|| rustix::fs::flock(&temp.file, FlockOperation::LockExclusive)) {
                // Between the two calls somebody who cleans up may have had the lock, and taken the file for stale.
                Ok(()) if rustix::fs::fstat(&temp.file)?.st_nlink == 0 => temp.is_ours = false,
                // Where there are no locks nobody can clean up either.
                Ok(()) | Err(_) => return Ok(temp),
            }
        }
        Err(io::Error::other(
            "every temporary file was removed by somebody else",
        ))
    }

    /// Writes `value` through to the disk.
    pub(crate) fn write(&mut self, value: &[u8]) -> io::Result<()> {
        self.file.write_all(value)?;
        self.file.sync_all()
    }

    /// Gives the file the name `name`, in one step and unless the name is taken.
    pub(crate) fn publish(mut self, name: &str, how: Publish) -> io::Result<()> {
        if how == Publish::Rename {
            match rename_without_replacing(self.folder, &self.name, name) {
                Ok(()) => {
                    self.is_ours = false;
                    return Ok(());
                }
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match rustix::fs::linkat(self.folder, &*self.name, self.folder, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // Over a network the answer to a link that was made can get lost, and the second attempt then finds it there.
            Err(Errno::EXIST) if rustix::fs::fstat(&self.file)?.st_nlink == 2 => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(errno) = rustix::fs::unlinkat(self.folder, &*self.name, AtFlags::empty())
        {
            tracing::warn!(file = %self.name, error = %errno, "a temporary file stays until the next start");
        }
    }
}

/// Removes the temporary files of processes that have ended, and no others.
pub(crate) fn remove_stale(folder: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if !is_temp_name(name) {
            continue;
        }
        match remove_if_stale(folder, name) {
            Ok(()) => tracing::info!(file = %name, "removed a temporary file that a crash has left"),
            Err(errno) => {
                tracing::debug!(file = %name, error = %errno, "a temporary file is not ours to remove")
            }
        }
    }
    Ok(())
}

fn remove_if_stale(folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    // Some network file systems grant an exclusive lock only on what is open for writing.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))?;
    rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
    // Still locked, so that a writer who is just about to lock it sees that it is gone.
    rustix::fs::unlinkat(folder, name, AtFlags::empty())
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_without_replacing(folder: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    rustix::fs::renameat_with(folder, from, folder, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_without_replacing(_: &OwnedFd, _: &str, _: &str) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

fn random_name() -> io::Result<String> {
    let mut random = [0; DIGITS / 2];
    kes_crypto::fill_random(&mut random).map_err(io::Error::other)?;
    Ok(format!(
        "{PREFIX}{:0width$x}",
        u128::from_be_bytes(random),
        width = DIGITS
    ))
}

/// Whether [`random_name`] could have made `name`; what others call temporary is theirs.
fn is_temp_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == DIGITS && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

const PREFIX: &str = ".tmp-";

const DIGITS: usize = 32;

/// A second attempt is needed only when a start of another server falls between two system calls.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_recognised_and_no_key_can_have_it() {
        let name = random_name().unwrap();
        assert!(is_temp_name(&name), "{name}");
        assert!(!kes_types::is_name(&name));
        assert_ne!(name, random_name().unwrap());
        for other in [
            ".tmp-",
            ".tmp-1",
            "tmp-0123456789abcdef0123456789abcdef",
            &format!("{name}0"),
            &name.to_uppercase(),
        ] {
            assert!(!is_temp_name(other), "{other}");
        }
    }
}
