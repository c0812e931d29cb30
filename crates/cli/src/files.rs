//! Files that appear whole, with their final mode, or not at all.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

/// A file to be written.
#[derive(Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) content: &'a [u8],
    pub(crate) mode: u32,
}

/// Writes both files or none. Existing ones are replaced only if `force` is given.
pub(crate) fn write_both(first: NewFile<'_>, second: NewFile<'_>, force: bool) -> anyhow::Result<()> {
    if first.path == second.path {
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
    let prepared_first = prepare(first)?;
    let prepared_second = prepare(second)?;
    persist(prepared_first, first.path, force)?;
    if let Err(error) = persist(prepared_second, second.path, force) {
        let _ = std::fs::remove_file(first.path);
        return Err(error);
    }
    Ok(())
}

/// Fails if there is a file, or anything else, at `path`.
pub(crate) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} exists already: use --force to replace it", path.display());
    }
    Ok(())
}

fn prepare(file: NewFile<'_>) -> anyhow::Result<NamedTempFile> {
    let writing = || format!("cannot write {}", file.path.display());
    let directory = match file.path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => bail!("{} is not a file", file.path.display()),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".kes-")
        .tempfile_in(directory)
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
        .with_context(|| format!("cannot write {}", path.display()))?;
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
        let left: Vec<_> = dir
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["cert"]);
    }
}
