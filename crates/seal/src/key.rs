//! A seal that is a 256-bit key, in a file or an environment variable.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::{SecretBytes, fill_random};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use crate::aead::{Cipher, NONCE, Purpose, fresh_nonce};
use crate::{Seal, SealError, SealId};

/// A seal that is a 256-bit key. Zeroed when dropped.
pub struct KeySeal {
    id: SealId,
    cipher: Cipher,
    source: Source,
}

/// Where a key was found.
#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Variable(String),
}

impl KeySeal {
    /// Reads the key out of a file that only its owner can access: 32 bytes in standard base64, on one line. It may be
    /// anything that can be read once, such as a pipe.
    ///
    /// # Errors
    /// When the file is not like that. The message says what is wrong, and never what is in it.
    pub fn from_file(path: &Path) -> Result<Self, SealError> {
        let text = read(path, PATIENCE)?;
        Self::parse(Source::File(path.to_owned()), &text)
    }

    /// Takes the key from `text`, which is the value of the environment variable `name`: as in a file.
    ///
    /// # Errors
    /// When `text` is not a key.
    pub fn from_variable(name: &str, text: &str) -> Result<Self, SealError> {
        Self::parse(Source::Variable(name.to_owned()), text.as_bytes())
    }

    /// A fresh key, as the text of a seal file: base64, one line with its line break.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn generate_text() -> Result<Zeroizing<String>, SealError> {
        let mut key = Zeroizing::new([0; KEY]);
        fill_random(&mut *key)?;
        let mut text = Zeroizing::new(vec![0; TEXT]);
        STANDARD
            .encode_slice(key.as_slice(), &mut text)
            .expect("32 bytes are 44 characters");
        // With room for the line break the text does not move, which would leave a copy.
        let mut line = Zeroizing::new(String::with_capacity(TEXT + 1));
        line.extend(text.iter().copied().map(char::from));
        line.push('\n');
        Ok(line)
    }

    fn parse(source: Source, text: &[u8]) -> Result<Self, SealError> {
        let malformed = |problem| SealError::Malformed {
            place: source.to_string(),
            problem,
        };
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(malformed("is empty"));
        }
        if line.contains(&b'\n') || line.contains(&b'\r') {
            return Err(malformed("has more than one line"));
        }
        if line.len() > TEXT {
            return Err(malformed("is too long"));
        }
        // The decoder asks for more room than the key needs.
        let mut room = Zeroizing::new([0; TEXT]);
        let length = STANDARD
            .decode_slice(line, &mut *room)
            .map_err(|_| malformed("is not standard base64"))?;
        let key = room.get(..length).unwrap_or_default();
        let cipher = Cipher::new(key).ok_or_else(|| malformed("does not have 32 bytes"))?;
        let id = SealId {
            kind: "key".to_owned(),
            check: check_value(key),
        };
        Ok(Self { id, cipher, source })
    }

    pub(crate) fn wrap_with(
        &self,
        nonce: [u8; NONCE],
        context: &[u8],
        root: &SecretBytes,
    ) -> Result<Vec<u8>, SealError> {
        self.cipher
            .seal(nonce, &self.purpose(context), root.expose_secret())
    }

    pub(crate) fn purpose(&self, context: &[u8]) -> Purpose {
        Purpose::new("kes.seal.wrapping")
            .fixed(&self.id.check)
            .sized(context)
    }
}

#[async_trait]
impl Seal for KeySeal {
    fn id(&self) -> SealId {
        self.id.clone()
    }

    async fn wrap(&self, context: &[u8], root: &SecretBytes) -> Result<Vec<u8>, SealError> {
        self.wrap_with(fresh_nonce()?, context, root)
    }

    async fn unwrap(&self, context: &[u8], blob: &[u8]) -> Result<SecretBytes, SealError> {
        self.cipher.open(&self.purpose(context), blob)
    }
}

impl fmt::Display for KeySeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for KeySeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySeal")
            .field("check", &self.id.check_text())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The whole text of a seal file, or the error that says why it is none. Waits no longer than `patience` for each part of what
/// comes through a pipe.
fn read(path: &Path, patience: Duration) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let unreadable = |source| SealError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Without NONBLOCK, opening a named pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = retry_on_intr(|| openat(CWD, path, flags, Mode::empty()));
    let mut file: File = opened.map_err(|errno| unreadable(errno.into()))?.into();
    // Of what was opened, so that nothing can take its place between the check and the reading.
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Err(SealError::IsAFolder {
            path: path.to_owned(),
        });
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SealError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }

    // No more is read than shows that it is too long, and nothing is copied to where it would not be zeroed.
    let mut text = Zeroizing::new(vec![0; MAX_FILE]);
    let mut filled = 0;
    while let Some(room) = text.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&file, patience).map_err(|errno| unreadable(errno.into()))?;
            }
            Err(error) => return Err(unreadable(error)),
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// Waits until there is something to read.
fn wait(file: &File, patience: Duration) -> Result<(), Errno> {
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    let ready = poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&patience));
    match ready {
        Ok(0) => Err(Errno::TIMEDOUT),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn check_value(key: &[u8]) -> [u8; 8] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, b"kes.seal.check/1");
    let mut check = [0; 8];
    check.copy_from_slice(tag.as_ref().get(..8).expect("the tag has 32 bytes"));
    check
}

/// How long the writer of a pipe may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Length of a key.
const KEY: usize = 32;
/// Length of a key in base64.
const TEXT: usize = 44;
/// As much as is read of a seal file: more than a key and its line break.
const MAX_FILE: usize = 64;
