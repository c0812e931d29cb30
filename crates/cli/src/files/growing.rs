//! A file that arrives in pieces.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

use super::{Existing, TEMPORARY, folder, persist, sync, writing};

/// A file for its owner only that is written piece by piece under another name. It is removed when dropped, unless it has
/// appeared.
#[derive(Debug)]
pub(crate) struct Growing<'a> {
    temporary: NamedTempFile,
    path: &'a Path,
    folder: PathBuf,
}

impl<'a> Growing<'a> {
    /// An empty file that is to be at `path`.
    pub(crate) fn new(path: &'a Path) -> anyhow::Result<Self> {
        // A rename would put the file in the place of a device, too.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{} is not a regular file: name another one", path.display());
        }
        let folder = folder(path)?;
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&folder)
            .with_context(|| writing(path))?;
        // Set on the open file, so that the umask does not matter.
        temporary
            .as_file()
            .set_permissions(Permissions::from_mode(0o600))
            .with_context(|| writing(path))?;
        Ok(Self {
            temporary,
            path,
            folder,
        })
    }

    /// Adds a piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.temporary
            .write_all(piece)
            .with_context(|| writing(self.path))
    }

    /// Puts it on the disk, and gives it its name for good. Fails if there is another one that is to be kept.
    pub(crate) fn appear(self, existing: Existing) -> anyhow::Result<()> {
        let Self {
            temporary,
            path,
            folder,
        } = self;
        temporary.as_file().sync_all().with_context(|| writing(path))?;
        persist(temporary, path, existing == Existing::Replace)?;
        sync(&folder).with_context(|| writing(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_file_when_all_of_them_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let there = || dir.path().read_dir().unwrap().count();
        let grown = |text: &str| {
            let mut file = Growing::new(&path).unwrap();
            text.split(' ')
                .for_each(|piece| file.write(piece.as_bytes()).unwrap());
            file
        };
        let given_up = grown("a b");
        assert!(!path.exists() && there() == 1);
        drop(given_up);
        assert_eq!(there(), 0);

        grown("a b c").appear(Existing::Keep).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(grown("d").appear(Existing::Keep).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        grown("d").appear(Existing::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "d");
        assert_eq!(there(), 1);
    }

    #[test]
    fn a_folder_or_a_device_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null")] {
            let error = Growing::new(path).unwrap_err().to_string();
            assert!(error.contains("is not a regular file"), "{error}");
        }
    }
}
