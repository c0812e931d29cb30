//! The folder of a server: what it is called in it, what is in it, and whose turn it is.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::command;
use crate::context::Context;
use crate::files;

/// The configuration.
pub(super) const CONFIG: &str = "config.yml";
const PRIVATE_KEY: &str = "server.key";
const CERTIFICATE: &str = "server.crt";
const SEAL: &str = "seal.key";
const STORE: &str = "keys.redb";

/// What is made before the configuration is.
const PARTS: [&str; 4] = [SEAL, STORE, PRIVATE_KEY, CERTIFICATE];

/// What new file systems have in them.
const OF_THE_SYSTEM: &str = "lost+found";

/// For the owner alone.
const MODE: u32 = 0o700;

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// There is no folder.
    Absent,
    Empty,
    /// A configuration, and whatever else.
    Complete,
    /// Nothing but what setting up makes, without the configuration, which it makes last.
    Unfinished,
    /// No configuration, but this file that setting up does not make.
    Other(String),
}

impl Contents {
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                bail!("{} is not a folder", folder.display())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the folder {}", folder.display()));
            }
        };
        let (mut parts, mut other) = (false, None);
        for entry in entries {
            let name = entry
                .with_context(|| format!("cannot read the folder {}", folder.display()))?
                .file_name();
            let name = name.to_string_lossy();
            match &*name {
                CONFIG => return Ok(Self::Complete),
                OF_THE_SYSTEM => {}
                name if PARTS.contains(&name) || is_temporary(name) => parts = true,
                name => other = other.or_else(|| Some(name.to_owned())),
            }
        }
        Ok(match (parts, other) {
            (_, Some(name)) => Self::Other(name),
            (true, None) => Self::Unfinished,
            (false, None) => Self::Empty,
        })
    }
}

/// Whether a crash may have left a file of this name.
fn is_temporary(name: &str) -> bool {
    // The store has a name like this until it is whole, and looks after such files itself.
    files::is_temporary(name) || kes_keystore_embedded::is_temporary(name, STORE)
}

/// Fails unless there is a configuration in `folder`, and says what to do.
pub(crate) fn require_complete(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    let (init, serve) = (command("kes init", folder), command("kes server --init", folder));
    match Contents::of(folder)? {
        Contents::Complete => Ok(()),
        contents @ (Contents::Absent | Contents::Empty) => {
            let what = if contents == Contents::Absent {
                "does not exist"
            } else {
                "is empty"
            };
            Err(anyhow!(
                "{shown} {what}: if there should be a key store in it, look for a volume that is not mounted; for a new one, \
                 start the server by `{serve}`, or run `{init}` first"
            ))
        }
        Contents::Unfinished => Err(anyhow!(
            "{shown} is not finished, since it has no {CONFIG}: `{init}` or `{serve}` goes on with the keys that are \
             there"
        )),
        Contents::Other(_) => Err(anyhow!(
            "{shown} has no {CONFIG}: name a folder that `kes init` has made, or another configuration by --config FILE"
        )),
    }
}

/// The files of a folder, by absolute paths.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) folder: PathBuf,
    pub(super) config: PathBuf,
    pub(super) private_key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) seal: PathBuf,
    pub(super) store: PathBuf,
}

impl Names {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let has_parents = folder.components().any(|part| part == Component::ParentDir);
        let folder = if has_parents {
            folder.canonicalize()
        } else {
            std::path::absolute(folder)
        }
        .with_context(|| format!("cannot tell where {} is", folder.display()))?;
        if folder.to_str().is_none() {
            bail!(
                "the path {} is not UTF-8, as a configuration is",
                folder.display()
            );
        }
        Ok(Self {
            config: folder.join(CONFIG),
            private_key: folder.join(PRIVATE_KEY),
            certificate: folder.join(CERTIFICATE),
            seal: folder.join(SEAL),
            store: folder.join(STORE),
            folder,
        })
    }
}

/// A folder in which nobody else sets up anything at the same time.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) names: Names,
    lock: File,
}

impl Folder {
    /// Makes the folder unless it is there, and makes sure that it may be used.
    pub(super) fn claim(path: &Path, force: bool, context: &Context<'_>) -> anyhow::Result<Self> {
        check(path, force)?;
        let is_new = make(path)?;
        let lock = lock(path)?;
        // Somebody else may have been faster.
        check(path, force)?;
        let names = Names::of(path)?;
        if names.store.exists() && !names.seal.exists() {
            bail!(
                "{} is there, but {}, which opens it, is not: put it back, or move the key store away",
                names.store.display(),
                names.seal.display()
            );
        }
        if !is_new {
            close_to_others(path, context)?;
            remove_temporary(path)?;
        }
        Ok(Self { names, lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing it is not enough: a program that another thread has just started has it open for a moment, too.
        let _ = self.lock.unlock();
    }
}

/// Fails if something is in the folder that must not be lost.
fn check(path: &Path, force: bool) -> anyhow::Result<()> {
    match Contents::of(path)? {
        Contents::Absent | Contents::Empty | Contents::Unfinished => Ok(()),
        Contents::Complete | Contents::Other(_) if force => Ok(()),
        Contents::Complete => Err(anyhow!(
            "{} exists already, and nothing has been changed: start its server by `{}`; --force makes a new configuration, \
             API key and certificate for the keys that are there",
            path.join(CONFIG).display(),
            command("kes server", path)
        )),
        Contents::Other(name) => Err(anyhow!(
            "{} has other content ({name:?}), and nothing has been changed: choose a folder that is empty or does not exist",
            path.display()
        )),
    }
}

/// Makes the folder `path`. Whether it has.
fn make(path: &Path) -> anyhow::Result<bool> {
    let making = || format!("cannot make the folder {}", path.display());
    match DirBuilder::new().mode(MODE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{}: the folder that it is to be in does not exist", making())
        }
        Err(error) => return Err(error).with_context(making),
    }
    // Whatever the umask is.
    std::fs::set_permissions(path, Permissions::from_mode(MODE)).with_context(making)?;
    let absolute = path.canonicalize().with_context(making)?;
    if let Some(parent) = absolute.parent() {
        files::sync(parent).with_context(making)?;
    }
    Ok(true)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let folder = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => bail!("another process sets up {} right now", path.display()),
        // Not every file system can. Files that must not be lost are not replaced in any case.
        Err(TryLockError::Error(_)) => Ok(folder),
    }
}

/// Keeps others out of a folder that somebody else made, unless it has another purpose, too: `/tmp` must stay what it is.
fn close_to_others(path: &Path, context: &Context<'_>) -> anyhow::Result<()> {
    let is_open = path
        .metadata()
        .is_ok_and(|folder| folder.permissions().mode() & 0o077 != 0);
    if !is_open {
        return Ok(());
    }
    let is_ours =
        |name: &str| [CONFIG, OF_THE_SYSTEM].contains(&name) || PARTS.contains(&name) || is_temporary(name);
    let names = path.read_dir().and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.collect::<std::io::Result<Vec<_>>>()
    });
    let names = names.with_context(|| format!("cannot read the folder {}", path.display()))?;
    if !names.iter().all(|name| is_ours(&name.to_string_lossy())) {
        context.warn(&format!(
            "others can look into {}, and its mode stays as it is because of what else is in it",
            path.display()
        ));
    } else if std::fs::set_permissions(path, Permissions::from_mode(MODE)).is_err() {
        context.warn(&format!(
            "others can look into {}, and its mode cannot be changed",
            path.display()
        ));
    }
    Ok(())
}

/// Removes what a crash has left. Nobody else is at work, so nobody needs it.
fn remove_temporary(path: &Path) -> anyhow::Result<()> {
    let removing = || format!("cannot remove what an earlier attempt left in {}", path.display());
    for entry in path.read_dir().with_context(removing)? {
        let entry = entry.with_context(removing)?;
        if entry.file_type().with_context(removing)?.is_file()
            && files::is_temporary(&entry.file_name().to_string_lossy())
        {
            std::fs::remove_file(entry.path()).with_context(removing)?;
        }
    }
    Ok(())
}
