//! Files with something secret, which somebody else replaces from time to time.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::session::LoginError;

/// A file with one secret line.
#[derive(Clone, Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
    setting: &'static str,
}

/// What shows that a file has been replaced or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// What a file held.
pub(super) struct Content {
    /// Without the white space around it. Not empty.
    pub(super) text: Zeroizing<String>,
    /// From before it was read, so that a change meanwhile shows later.
    pub(super) stamp: Stamp,
}

impl SecretFile {
    /// The file at `path`, which `setting` names.
    pub(super) const fn new(path: PathBuf, setting: &'static str) -> Self {
        Self { path, setting }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it, whole.
    pub(super) async fn read(&self) -> Result<Content, LoginError> {
        let path = self.path.clone();
        let read = spawn_blocking(move || read(&path)).await;
        let content = match read {
            Ok(Ok(content)) => content,
            Ok(Err(error)) => return Err(self.bad(&format!("cannot be read: {error}"))),
            Err(_) => return Err(self.bad("was not read, because the process is ending")),
        };
        if content.text.is_empty() {
            return Err(self.bad("is empty"));
        }
        Ok(content)
    }

    /// What it looks like now from the outside, if it is there.
    pub(super) async fn stamp(&self) -> Option<Stamp> {
        let path = self.path.clone();
        let metadata = spawn_blocking(move || path.metadata()).await.ok()?;
        metadata.ok().as_ref().map(Stamp::of)
    }

    fn bad(&self, what: &str) -> LoginError {
        LoginError::refused(format!(
            "the file {} of {} {what}",
            self.path.display(),
            self.setting
        ))
    }
}

fn read(path: &Path) -> io::Result<Content> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    let stamp = Stamp::of(&metadata);
    // Room for all of it, so that it does not move and leave a copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let limit = u64::try_from(LONGEST + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        return Err(io::Error::other("it is too long for a token"));
    }
    let text = str::from_utf8(&bytes).map_err(|_| io::Error::other("it is not text"))?;
    Ok(Content {
        text: Zeroizing::new(text.trim().to_owned()),
        stamp,
    })
}

impl Stamp {
    /// Of what has this `metadata`.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode,
        }
    }
}

/// The longest file that is read.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> SecretFile {
        SecretFile::new(path.to_owned(), "keystore.vault.token.file")
    }

    #[tokio::test]
    async fn white_space_around_a_token_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "\r\n\t hvs.abc \n\n").expect("a file");
        let content = file(&path).read().await.expect("a token");
        assert_eq!(content.text.as_str(), "hvs.abc");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_looks_different() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, aside) = (folder.path().join("token"), folder.path().join("aside"));
        std::fs::write(&path, "one").expect("a file");
        let before = file(&path).read().await.expect("a token").stamp;
        assert_eq!(file(&path).stamp().await, Some(before));
        std::fs::write(&aside, "two").expect("a file");
        std::fs::rename(&aside, &path).expect("replaced");
        assert_ne!(file(&path).stamp().await, Some(before));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(file(&path).stamp().await, None);
    }

    #[tokio::test]
    async fn what_is_no_file_with_a_token_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("long"), vec![b'x'; LONGEST + 1]).expect("a file");
        std::fs::write(path("binary"), [0xff, 0xfe]).expect("a file");
        std::fs::write(path("blank"), " \n").expect("a file");
        std::fs::create_dir(path("folder")).expect("a folder");
        for (name, expected) in [
            ("long", "cannot be read: it is too long for a token"),
            ("binary", "cannot be read: it is not text"),
            ("blank", "is empty"),
            ("folder", "cannot be read: "),
            ("absent", "cannot be read: "),
        ] {
            let Err(error) = file(&path(name)).read().await else {
                panic!("{name} is no token");
            };
            let expected = format!(
                "the file {} of keystore.vault.token.file {expected}",
                path(name).display()
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
