//! Files that appear whole, with their final mode, or not at all.

mod growing;

use std::fs::Permissions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

pub(crate) use self::growing::Growing;

/// What the names of files begin with that have not got their own yet.
const TEMPORARY: &str = ".kes-";

/// Whether a crash in the middle of writing a file may have left one of this name.
pub(crate) fn is_temporary(name: &str) -> bool {
    // So many characters the library adds.
    name.strip_prefix(TEMPORARY)
        .is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A file to be written.
#[derive(Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) content: &'a [u8],
    pub(crate) mode: u32,
}

/// Writes both files or none. Existing ones are replaced only if `force` is given, and the first, which is a private key,
/// is given up only when the second has been written.
pub(crate) fn write_both(first: NewFile<'_>, second: NewFile<'_>, force: bool) -> anyhow::Result<()> {
    let (first_folder, second_folder) = (folder(first.path)?, folder(second.path)?);
    if first_folder == second_folder && first.path.file_name() == second.path.file_name() {
        bail!(
            "{} cannot hold both the private key and the certificate",
            first.path.display()
        );
    }
    if !force {
        refuse_existing(first.path)?;
        refuse_existing(second.path)?;
    }
    // Whatever can fail for want of space or permission has failed before the first file appears.
    let prepared_first = prepare(first, &first_folder)?;
    let prepared_second = prepare(second, &second_folder)?;
    let old = if force {
        Old::set_aside(first.path, &first_folder).with_context(|| writing(first.path))?
    } else {
        None
    };
    if let Err(error) = persist(prepared_first, first.path, force) {
        return Err(restore(old, error));
    }
    if let Err(error) = persist(prepared_second, second.path, force) {
        let _ = std::fs::remove_file(first.path);
        return Err(restore(old, error));
    }
    // A rename is lost with the power until its folder has been written, too.
    sync(&first_folder).with_context(|| writing(first.path))?;
    if second_folder != first_folder {
        sync(&second_folder).with_context(|| writing(second.path))?;
    }
    if let Some(old) = old {
        std::fs::remove_file(&old.aside)
            .with_context(|| format!("cannot remove the old private key {}", old.aside.display()))?;
    }
    Ok(())
}

/// A file that has been written, but not under its name yet.
pub(crate) struct Prepared<'a> {
    temporary: NamedTempFile,
    path: &'a Path,
    folder: PathBuf,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

impl<'a> Prepared<'a> {
    /// Writes `file` under another name. Whatever can fail for want of space or permission fails here.
    pub(crate) fn new(file: NewFile<'a>) -> anyhow::Result<Self> {
        let folder = folder(file.path)?;
        Ok(Self {
            temporary: prepare(file, &folder)?,
            path: file.path,
            folder,
        })
    }

    /// Gives it its name, for good. Fails if there is another one that is to be kept.
    pub(crate) fn appear(self, existing: Existing) -> anyhow::Result<()> {
        let Self {
            temporary,
            path,
            folder,
        } = self;
        persist(temporary, path, existing == Existing::Replace)?;
        sync(&folder).with_context(|| writing(path))
    }
}

/// A file that has been renamed, so that it can come back.
struct Old<'a> {
    path: &'a Path,
    aside: PathBuf,
}

impl<'a> Old<'a> {
    /// Renames what is at `path`, if anything is there.
    fn set_aside(path: &'a Path, folder: &Path) -> std::io::Result<Option<Self>> {
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let place = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(folder)?
            .into_temp_path();
        // Fails if it is a folder, which is not to be replaced.
        std::fs::rename(path, &place)?;
        // From here on it must not be removed by accident.
        let aside = place.keep().map_err(|error| error.error)?;
        Ok(Some(Self { path, aside }))
    }
}

/// Puts `old` back. What cannot be put back is named in the error.
fn restore(old: Option<Old<'_>>, error: anyhow::Error) -> anyhow::Error {
    let Some(Old { path, aside }) = old else {
        return error;
    };
    match std::fs::rename(&aside, path) {
        Ok(()) => error,
        Err(_) => error.context(format!("the old {} is now {}", path.display(), aside.display())),
    }
}

/// The folder of `path`, in the one way in which it can be written.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    if path.file_name().is_none() {
        bail!("{} is not a file", path.display());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    parent.canonicalize().with_context(|| writing(path))
}

/// Makes what has happened to the names in `folder` last.
pub(crate) fn sync(folder: &Path) -> std::io::Result<()> {
    match std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot do that with a folder, and some folders can be written but not opened.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

fn writing(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Fails if there is a file, or anything else, at `path`.
pub(crate) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} exists already: use --force to replace it", path.display());
    }
    Ok(())
}

fn prepare(file: NewFile<'_>, folder: &Path) -> anyhow::Result<NamedTempFile> {
    let writing = || writing(file.path);
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(folder)
        .with_context(writing)?;
    // Set on the open file, so that the umask does not matter.
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(file.mode))
        .with_context(writing)?;
    temporary.write_all(file.content).with_context(writing)?;
    temporary.as_file().sync_all().with_context(writing)?;
    Ok(temporary)
}

fn persist(temporary: NamedTempFile, path: &Path, force: bool) -> anyhow::Result<()> {
    let moved = if force {
        temporary.persist(path)
    } else {
        temporary.persist_noclobber(path)
    };
    moved
        .map_err(|error| error.error)
        .with_context(|| writing(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'a>(path: &'a Path, content: &'a str, mode: u32) -> NewFile<'a> {
        NewFile {
            path,
            content: content.as_bytes(),
            mode,
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_wide_mode_does_not_survive_a_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        std::fs::write(&key, "old").unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o666)).unwrap();

        write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).unwrap();
        assert_eq!((mode(&key), mode(&cert)), (0o600, 0o644));
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "k");
    }

    #[test]
    fn a_prepared_file_appears_whole_and_keeps_or_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let prepared = |text| Prepared::new(file(&path, text, 0o600)).unwrap();

        let first = prepared("first");
        assert!(!path.exists());
        assert!(names(dir.path()).iter().all(|name| is_temporary(name)));
        drop(first);
        assert!(names(dir.path()).is_empty());

        prepared("first").appear(Existing::Keep).unwrap();
        let error = prepared("second").appear(Existing::Keep).unwrap_err();
        assert!(format!("{error:#}").contains("exists"), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        prepared("second").appear(Existing::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!((mode(&path), names(dir.path())), (0o600, vec!["file".to_owned()]));
    }

    #[test]
    fn nothing_is_written_when_the_second_exists() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        std::fs::write(&cert, "old").unwrap();
        assert!(write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), false).is_err());
        assert!(!key.exists());
        assert_eq!(std::fs::read_to_string(&cert).unwrap(), "old");
    }

    #[test]
    fn the_first_goes_when_the_second_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        // A directory with something in it cannot be replaced by a file.
        std::fs::create_dir_all(cert.join("x")).unwrap();
        assert!(write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).is_err());
        assert_eq!(names(dir.path()), ["cert"]);
    }

    #[test]
    fn the_old_first_comes_back_when_the_second_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        std::fs::create_dir_all(cert.join("x")).unwrap();
        std::fs::write(&key, "old").unwrap();
        assert!(write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).is_err());
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "old");
        assert_eq!(names(dir.path()), ["cert", "key"]);

        std::fs::remove_dir_all(&cert).unwrap();
        write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).unwrap();
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "k");
        assert_eq!(names(dir.path()), ["cert", "key"], "the old one is gone");
    }

    #[test]
    fn a_folder_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        std::fs::create_dir(&key).unwrap();
        assert!(write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).is_err());
        assert!(key.is_dir());
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn one_file_is_one_file_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, dir.path().join("link")).unwrap();
        let key = folder.join("a.pem");
        std::fs::write(&key, "old").unwrap();
        for cert in [
            "folder/a.pem",
            "folder/./a.pem",
            "folder/../folder/a.pem",
            "link/a.pem",
        ] {
            let cert = dir.path().join(cert);
            let error = write_both(file(&key, "k", 0o600), file(&cert, "c", 0o644), true).unwrap_err();
            assert!(error.to_string().contains("cannot hold both"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "old");
        assert_eq!(folder_of("a.pem"), folder_of("./a.pem"));
    }

    fn folder_of(path: &str) -> PathBuf {
        folder(Path::new(path)).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
