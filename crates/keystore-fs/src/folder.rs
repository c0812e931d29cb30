//! The folder, as plain blocking calls.
//!
//! Each operation opens the folder first and names files relative to it: so a folder that is gone is told from a key that
//! is gone, and a create that runs out of file descriptors does so before it has made anything. And it makes sure that it is
//! still the folder of the start: an empty one that has taken its place, such as the mount point of a disk that is not
//! mounted any more, would otherwise have no keys, and take new ones that nobody finds again.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kes_crypto::SecretBytes;
use kes_keystore::paging::Pager;
use kes_keystore::{Entry, EntryName, Page, StoreError};
use kes_types::is_name;
use rustix::fs::{Access, AtFlags, CWD, Dev, Dir, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::ConnectError;
use crate::temp::{self, Publish, TempFile};

/// A folder with a file for each key.
#[derive(Debug)]
pub(crate) struct Folder {
    /// As it was configured.
    shown: PathBuf,
    /// Independent of the process's working directory.
    path: PathBuf,
    /// Which folder it was at the start.
    identity: Identity,
    /// Kept open so that no other folder gets the same identity, and that file systems that make up inode numbers keep it.
    _start: OwnedFd,
    /// Whether somebody was told about a key file that others can read; once is enough.
    warned: AtomicBool,
}

/// What tells a folder from every other one that exists at the same time: its file system and its number there.
type Identity = (Dev, u64);

/// How far a create has come, for the tests that stop it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The temporary file is there, empty and locked.
    TempCreated,
    /// It holds the value, on the disk.
    TempWritten,
    /// The key has its name.
    Published,
}

impl Folder {
    pub(crate) fn connect(path: PathBuf) -> Result<Self, ConnectError> {
        if path.as_os_str().is_empty() {
            return Err(ConnectError::NoPath);
        }
        let absolute = match ensure_folder(&path) {
            Ok(Some(absolute)) => absolute,
            Ok(None) => return Err(ConnectError::NotAFolder { path }),
            Err(source) => return Err(ConnectError::Open { path, source }),
        };
        let opened = open(&absolute).and_then(|folder| Ok((identity(&folder)?, folder)));
        let (identity, start) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                let source = errno.into();
                return Err(ConnectError::Open { path, source });
            }
        };
        let folder = Self {
            shown: path,
            path: absolute,
            identity,
            _start: start,
            warned: AtomicBool::new(false),
        };
        match folder.ping().and_then(|()| folder.remove_stale()) {
            Ok(()) => Ok(folder),
            Err(source) => Err(ConnectError::Unusable {
                path: folder.shown,
                source,
            }),
        }
    }

    pub(crate) fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.create_stepwise(name, value, Publish::HERE, |_| ())
    }

    fn create_stepwise(
        &self,
        name: &EntryName,
        value: &SecretBytes,
        publish: Publish,
        mut reached: impl FnMut(Step),
    ) -> Result<(), StoreError> {
        let failed = |doing| move |errno| self.failed(doing, name.as_str(), errno);
        let folder = self.open()?;

        // Not what makes the create exclusive, only a way to refuse without a write. It needs no descriptor.
        match rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Err(StoreError::Exists),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("looking at")(errno.into())),
        }

        let mut temp = TempFile::new(&folder).map_err(failed("creating a temporary file for"))?;
        reached(Step::TempCreated);
        temp.write(value.expose_secret())
            .map_err(failed("writing a temporary file for"))?;
        reached(Step::TempWritten);
        match temp.publish(name.as_str(), publish) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StoreError::Exists),
            Err(error) => return Err(failed("giving its name to")(error)),
        }
        reached(Step::Published);

        // If this fails the key stays: it may have been read already, and what was encrypted with it must not be lost.
        sync(&folder).map_err(failed("making durable"))
    }

    pub(crate) fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let failed = |error: io::Error| self.failed("reading", name.as_str(), error);
        let corrupt = |reason: &str| StoreError::Corrupt {
            reason: format!("{}: {reason}", self.file(name).display()),
        };
        let folder = self.open()?;

        // Without NONBLOCK, opening a named pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file: File =
            match retry_on_intr(|| rustix::fs::openat(&folder, name.as_str(), flags, Mode::empty())) {
                Ok(file) => file.into(),
                Err(Errno::NOENT) => return Err(StoreError::NotFound),
                Err(Errno::NXIO) => return Err(corrupt("not a regular file")),
                Err(errno) => return Err(failed(errno.into())),
            };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(corrupt("not a regular file"));
        }
        let length = usize::try_from(found.len())
            .ok()
            .filter(|&length| length <= MAX_VALUE);
        let Some(length) = length else {
            return Err(corrupt("larger than 1 MiB"));
        };
        if is_open_to_others(found.permissions().mode()) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(path = %self.file(name).display(), "the key file is accessible to group or others");
        }

        // One byte more than expected shows the end of the file, and nothing is copied to where it would not be zeroed.
        let mut value = zeroize::Zeroizing::new(vec![0; length + 1]);
        let mut filled = 0;
        loop {
            match file.read(value.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if filled > length {
            return Err(corrupt("changes while it is read"));
        }
        value.truncate(filled);
        Ok(Entry {
            value: SecretBytes::new(std::mem::take(&mut *value)),
            revision: None,
        })
    }

    pub(crate) fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let failed = |errno: Errno| self.failed("deleting", name.as_str(), errno.into());
        let folder = self.open()?;
        match rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty()) {
            Ok(()) => sync(&folder).map_err(|error| self.failed("deleting", name.as_str(), error)),
            Err(Errno::NOENT) => Err(StoreError::NotFound),
            Err(errno) => Err(failed(errno)),
        }
    }

    pub(crate) fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let failed = |errno: Errno| self.failed("listing", "", errno.into());
        let folder = self.open()?;
        let mut pager = Pager::new(prefix, after, limit);
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(text) = entry.file_name().to_str() else {
                continue;
            };
            if !pager.wants(text) {
                continue;
            }
            if !is_name(text) || is_regular(&folder, text, entry.file_type()).map_err(failed)? {
                pager.offer(text);
            }
        }
        Ok(pager.finish())
    }

    pub(crate) fn ping(&self) -> Result<(), StoreError> {
        let folder = self.open()?;
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&folder, ".", all, AtFlags::empty())
            .map_err(|errno| self.failed("checking", "", errno.into()))
    }

    fn remove_stale(&self) -> Result<(), StoreError> {
        temp::remove_stale(&self.open()?).map_err(|error| self.failed("cleaning up", "", error))
    }

    fn open(&self) -> Result<OwnedFd, StoreError> {
        let folder = open(&self.path).map_err(|errno| self.not_opened(errno))?;
        if identity(&folder).map_err(|errno| self.not_opened(errno))? == self.identity {
            return Ok(folder);
        }
        Err(StoreError::Unreachable {
            store: self.to_string(),
            source: Box::new(AnotherFolder {
                path: self.path.clone(),
            }),
        })
    }

    fn not_opened(&self, errno: Errno) -> StoreError {
        match errno {
            // The folder is not there, or the machine that serves it is not.
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::HOSTDOWN | Errno::TIMEDOUT => {
                StoreError::Unreachable {
                    store: self.to_string(),
                    source: self.cause("opening", "", errno.into()),
                }
            }
            _ => self.failed("opening", "", errno.into()),
        }
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> StoreError {
        StoreError::Backend {
            store: self.to_string(),
            source: self.cause(doing, name, source),
        }
    }

    fn cause(&self, doing: &'static str, name: &str, source: io::Error) -> Box<FileError> {
        let path = if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        };
        Box::new(FileError { doing, path, source })
    }

    fn file(&self, name: &EntryName) -> PathBuf {
        self.path.join(name.as_str())
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filesystem: {}", self.shown.display())
    }
}

/// What the system refused, and where.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
struct FileError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The path leads to another folder than at the start.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is another folder than at the start, or another file system is mounted there: put the former one back, or restart the server to use this one",
    path.display()
)]
struct AnotherFolder {
    path: PathBuf,
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))
}

fn identity(folder: &OwnedFd) -> Result<Identity, Errno> {
    let found = rustix::fs::fstat(folder)?;
    Ok((found.st_dev, found.st_ino))
}

/// The absolute path of the folder, which exists afterwards; `None` when something else is there.
fn ensure_folder(path: &Path) -> io::Result<Option<PathBuf>> {
    let absolute = std::path::absolute(path)?;
    match absolute.metadata() {
        Ok(found) if !found.is_dir() => return Ok(None),
        Ok(found) => {
            if is_open_to_others(found.permissions().mode()) {
                tracing::warn!(path = %path.display(), "the key store folder is accessible to group or others");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing: Vec<_> = absolute.ancestors().take_while(|path| !path.exists()).collect();
            DirBuilder::new().recursive(true).mode(0o700).create(&absolute)?;
            // A key is not durable before the folder is that it lies in.
            for parent in missing.into_iter().filter_map(Path::parent) {
                File::open(parent)?.sync_all()?;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(Some(absolute))
}

/// Whether a listed entry is a regular file, or a link to one, as orchestrators mount secrets.
fn is_regular(folder: &OwnedFd, name: &str, listed: FileType) -> Result<bool, Errno> {
    match listed {
        FileType::RegularFile => return Ok(true),
        // Not all file systems say what an entry is.
        FileType::Symlink | FileType::Unknown => {}
        _ => return Ok(false),
    }
    match rustix::fs::statat(folder, name, AtFlags::empty()) {
        Ok(found) => Ok(FileType::from_raw_mode(found.st_mode) == FileType::RegularFile),
        // Deleted meanwhile, or a link that leads nowhere.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

const fn is_open_to_others(mode: u32) -> bool {
    mode & 0o077 != 0
}

fn sync(folder: &OwnedFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fsync(folder))?)
}

/// Far above any key record; a larger file is not one.
const MAX_VALUE: usize = 1024 * 1024;
