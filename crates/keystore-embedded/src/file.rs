//! Files: the one that a store is in, and the one that becomes a store when it is whole.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::ConnectError;
use crate::medium::Medium;

/// A file that this process alone has open: it is locked until it is released or closed.
#[derive(Debug)]
pub struct FileMedium {
    path: PathBuf,
    /// Holds the lock.
    file: Arc<File>,
    /// To write to; the same file, unless it could only be opened for reading at first.
    writer: OnceLock<Arc<File>>,
    /// Whether it has its name. A temporary file is never without its lock.
    is_published: AtomicBool,
}

impl FileMedium {
    /// Opens the file and locks it. A file that may only be read is opened for reading.
    ///
    /// # Errors
    /// When it is not there, not a regular file, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, ConnectError> {
        if path.as_os_str().is_empty() {
            return Err(ConnectError::NoPath);
        }
        let (file, writable) = match open(path, true) {
            Ok(file) => (file, true),
            Err(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    (open(path, false).map_err(|error| not_opened(path, error))?, false)
                }
                _ => return Err(not_opened(path, error)),
            },
        };
        let found = file.metadata().map_err(|error| not_opened(path, error))?;
        if !found.is_file() {
            return Err(ConnectError::NotAFile {
                path: path.to_owned(),
            });
        }
        lock(&file, path)?;
        if found.mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "the key store is accessible to group or others");
        }
        Ok(Self::of(file, writable, true, path))
    }

    fn of(file: File, writable: bool, is_published: bool, path: &Path) -> Self {
        let file = Arc::new(file);
        let writer = OnceLock::new();
        if writable {
            // It is empty.
            let _ = writer.set(Arc::clone(&file));
        }
        Self {
            path: path.to_owned(),
            file,
            writer,
            is_published: AtomicBool::new(is_published),
        }
    }

    fn writer(&self) -> io::Result<&File> {
        match self.writer.get() {
            Some(file) => Ok(file),
            None => Err(io::Error::other(ReadOnly {
                path: self.path.clone(),
            })),
        }
    }
}

impl Medium for FileMedium {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writer()?.write_all_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.writer()?.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Opens the file again, beside the one that holds the lock, when it may be written to by now.
    fn make_writable(&self) -> io::Result<()> {
        if self.writer.get().is_some() {
            return Ok(());
        }
        let file = open(&self.path, true)?;
        if !is_same(&self.file.metadata()?, &file.metadata()?) {
            return Err(io::Error::other(Moved {
                path: self.path.clone(),
            }));
        }
        let _ = self.writer.set(Arc::new(file));
        Ok(())
    }

    fn is_in_place(&self) -> io::Result<()> {
        if !self.is_published.load(Ordering::Relaxed) {
            return Ok(());
        }
        let moved = match fs::metadata(&self.path) {
            Ok(found) => !is_same(&self.file.metadata()?, &found),
            // Of other errors the writes themselves tell more.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if moved {
            return Err(io::Error::other(Moved {
                path: self.path.clone(),
            }));
        }
        Ok(())
    }

    fn release(&self) {
        if !self.is_published.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.file.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "the key store stays locked until this process ends");
        }
    }
}

/// The file may not be written to.
#[derive(Debug, thiserror::Error)]
#[error("{} may only be read: give this process the permission to write to it", path.display())]
struct ReadOnly {
    path: PathBuf,
}

/// The path leads to another file than before, or to none.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is not the file any more that it was at the start, and what is written to that one would be lost: put it back, or restart the server to use what is there now",
    path.display()
)]
struct Moved {
    path: PathBuf,
}

/// A file that gets its name when it is whole. Removed on drop unless it was published.
#[derive(Debug)]
pub(crate) struct NewFile {
    folder: OwnedFd,
    temporary: String,
    name: String,
    path: PathBuf,
    medium: Arc<FileMedium>,
    is_ours: bool,
}

impl NewFile {
    /// Makes an empty file beside `path`, for its owner only, after removing those that crashed processes have left there.
    pub(crate) fn create(path: &Path) -> Result<Self, ConnectError> {
        let failed = |errno: Errno| ConnectError::Io {
            doing: "create",
            path: path.to_owned(),
            source: errno.into(),
        };
        let (folder, name) = folder_and_name(path)?;
        remove_stale(&folder, &name);
        match rustix::fs::statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {
                return Err(ConnectError::Exists {
                    path: path.to_owned(),
                });
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        for _ in 0..ATTEMPTS {
            let temporary = temporary_name(&name).map_err(|source| ConnectError::Io {
                doing: "create",
                path: path.to_owned(),
                source,
            })?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file: File = match retry_on_intr(|| {
                rustix::fs::openat(&folder, &*temporary, flags, Mode::RUSR | Mode::WUSR)
            }) {
                Ok(file) => file.into(),
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let locked = lock(&file, path);
            // Between the two calls somebody who cleans up may have taken the file for stale, or be about to.
            let links = rustix::fs::fstat(&file).map_err(failed)?.st_nlink;
            let is_taken = links == 0 || matches!(locked, Err(ConnectError::InUse { .. }));
            let new = Self {
                medium: Arc::new(FileMedium::of(file, true, false, path)),
                folder: folder.try_clone().map_err(|source| ConnectError::Io {
                    doing: "create",
                    path: path.to_owned(),
                    source,
                })?,
                temporary,
                name: name.clone(),
                path: path.to_owned(),
                is_ours: !is_taken,
            };
            if is_taken {
                continue;
            }
            locked?;
            return Ok(new);
        }
        Err(ConnectError::Io {
            doing: "create",
            path: path.to_owned(),
            source: io::Error::other("every temporary file was removed by somebody else"),
        })
    }

    /// The file.
    pub(crate) fn medium(&self) -> Arc<FileMedium> {
        Arc::clone(&self.medium)
    }

    /// Gives the file its name, in one step and unless the name is taken.
    pub(crate) fn publish(mut self) -> Result<(), ConnectError> {
        let failed = |doing| {
            let path = self.path.clone();
            move |source: io::Error| ConnectError::Io { doing, path, source }
        };
        self.medium.file.sync_all().map_err(failed("write"))?;
        match self.rename() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(ConnectError::Exists {
                    path: self.path.clone(),
                });
            }
            Err(errno) => return Err(failed("create")(errno.into())),
        }
        self.is_ours = false;
        self.medium.is_published.store(true, Ordering::Relaxed);
        retry_on_intr(|| rustix::fs::fsync(&self.folder))
            .map_err(|errno| failed("make durable")(errno.into()))
    }

    fn rename(&self) -> Result<(), Errno> {
        match rename_without_replacing(&self.folder, &self.temporary, &self.name) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result,
        }
        // No such rename here: a second name, then the first one away.
        rustix::fs::linkat(
            &self.folder,
            &*self.temporary,
            &self.folder,
            &*self.name,
            AtFlags::empty(),
        )?;
        rustix::fs::unlinkat(&self.folder, &*self.temporary, AtFlags::empty())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(errno) = rustix::fs::unlinkat(&self.folder, &*self.temporary, AtFlags::empty())
        {
            tracing::warn!(file = %self.temporary, error = %errno, "a temporary file stays until the next start");
        }
    }
}

/// Removes what crashed processes have left when they made a store at `path`.
pub(crate) fn remove_stale_beside(path: &Path) {
    if let Ok((folder, name)) = folder_and_name(path) {
        remove_stale(&folder, &name);
    }
}

fn remove_stale(folder: &OwnedFd, name: &str) {
    let Ok(entries) = Dir::read_from(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(found) = entry.file_name().to_str() else {
            continue;
        };
        if !is_temporary(found, name) {
            continue;
        }
        match remove_if_stale(folder, found) {
            Ok(()) => tracing::info!(file = %found, "removed a temporary file that a crash has left"),
            Err(error) => tracing::debug!(file = %found, %error, "a temporary file is not ours to remove"),
        }
    }
}

fn remove_if_stale(folder: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: File = retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))?.into();
    file.try_lock()?;
    // Still locked, so that whoever is just about to lock it sees that it is gone.
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
}

fn folder_and_name(path: &Path) -> Result<(OwnedFd, String), ConnectError> {
    if path.as_os_str().is_empty() {
        return Err(ConnectError::NoPath);
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return Err(ConnectError::NotAFile {
            path: path.to_owned(),
        });
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(CWD, parent, flags, Mode::empty())) {
        Ok(folder) => Ok((folder, name.to_owned())),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(ConnectError::NoFolder {
            path: path.to_owned(),
        }),
        Err(errno) => Err(ConnectError::Io {
            doing: "open the folder of",
            path: path.to_owned(),
            source: errno.into(),
        }),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn open(path: &Path, to_write: bool) -> io::Result<File> {
    // Without NONBLOCK, opening a named pipe would wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .write(to_write)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
}

fn not_opened(path: &Path, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ConnectError::Absent { path },
        io::ErrorKind::IsADirectory => ConnectError::NotAFile { path },
        _ => ConnectError::Io {
            doing: "open",
            path,
            source,
        },
    }
}

fn lock(file: &File, path: &Path) -> Result<(), ConnectError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ConnectError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(ConnectError::Io {
            doing: "lock",
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_without_replacing(folder: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    rustix::fs::renameat_with(folder, from, folder, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_without_replacing(_: &OwnedFd, _: &str, _: &str) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

fn temporary_name(name: &str) -> io::Result<String> {
    let mut random = [0; DIGITS / 2];
    kes_crypto::fill_random(&mut random).map_err(io::Error::other)?;
    Ok(format!(
        ".{name}{INFIX}{:0width$x}",
        u128::from_be_bytes(random),
        width = DIGITS
    ))
}

/// Whether a crash may have left a file called `found` when it made a store called `name` beside it. The next start with
/// that store removes it.
#[must_use]
pub fn is_temporary(found: &str, name: &str) -> bool {
    let random = found
        .strip_prefix('.')
        .and_then(|found| found.strip_prefix(name))
        .and_then(|found| found.strip_prefix(INFIX));
    random.is_some_and(|random| {
        random.len() == DIGITS && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

const INFIX: &str = ".tmp-";
const DIGITS: usize = 32;

/// A second attempt is needed only when somebody cleans up between two system calls.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.redb");
        (folder, path)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_appears_under_its_name_at_the_end_and_for_its_owner_only() {
        let (folder, path) = folder();
        let new = NewFile::create(&path).unwrap();
        let medium = new.medium();
        medium.set_size(3).unwrap();
        medium.write_at(0, b"abc").unwrap();
        assert!(!path.exists());
        new.publish().unwrap();
        assert_eq!(names(&folder), ["keys.redb"]);
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (3, 0o600));

        // The lock is still the same.
        assert!(matches!(FileMedium::open(&path), Err(ConnectError::InUse { .. })));
        medium.release();
        FileMedium::open(&path).unwrap();
    }

    #[test]
    fn a_new_file_that_is_given_up_leaves_nothing() {
        let (folder, path) = folder();
        drop(NewFile::create(&path).unwrap());
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn a_new_file_replaces_nothing_however_late_that_appeared() {
        let (folder, path) = folder();
        let new = NewFile::create(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(new.publish(), Err(ConnectError::Exists { .. })));
        assert_eq!(
            (names(&folder), fs::read(&path).unwrap()),
            (vec!["keys.redb".to_owned()], b"mine".to_vec())
        );
        assert!(matches!(NewFile::create(&path), Err(ConnectError::Exists { .. })));
    }

    #[test]
    fn what_a_crash_has_left_is_removed_and_what_is_in_use_is_not() {
        let (folder, path) = folder();
        let in_use = NewFile::create(&path).unwrap();
        let stale = temporary_name("keys.redb").unwrap();
        let others = [
            temporary_name("other.redb").unwrap(),
            ".keys.redb.tmp-1".to_owned(),
        ];
        for name in others.iter().chain([&stale]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        // Also a release, which is for files that have their name, does not give it up.
        in_use.medium().release();
        remove_stale_beside(&path);
        let left = names(&folder);
        assert!(!left.contains(&stale), "{left:?}");
        assert!(left.contains(&in_use.temporary), "{left:?}");
        assert!(others.iter().all(|other| left.contains(other)), "{left:?}");
        in_use.publish().unwrap();
    }

    #[test]
    fn a_file_that_is_no_longer_there_is_noticed() {
        let (folder, path) = folder();
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&path, "store").unwrap();
        let medium = FileMedium::open(&path).unwrap();
        medium.is_in_place().unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        let error = medium.is_in_place().unwrap_err().to_string();
        assert!(
            error.contains("keys.redb") && error.contains("put it back"),
            "{error}"
        );
        fs::write(&path, "another").unwrap();
        medium.is_in_place().unwrap_err();
        fs::rename(&elsewhere, &path).unwrap();
        medium.is_in_place().unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused_and_so_is_an_absent_folder() {
        let (folder, path) = folder();
        assert!(matches!(
            FileMedium::open(&path),
            Err(ConnectError::Absent { .. })
        ));
        assert!(matches!(
            FileMedium::open(Path::new("")),
            Err(ConnectError::NoPath)
        ));
        assert!(matches!(
            FileMedium::open(folder.path()),
            Err(ConnectError::NotAFile { .. })
        ));
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(
            FileMedium::open(&path),
            Err(ConnectError::NotAFile { .. })
        ));
        let below = folder.path().join("absent/keys.redb");
        assert!(matches!(
            NewFile::create(&below),
            Err(ConnectError::NoFolder { .. })
        ));
        assert!(matches!(
            NewFile::create(Path::new("/")),
            Err(ConnectError::NotAFile { .. })
        ));
    }
}
