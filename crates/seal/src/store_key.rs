//! The root key of one store, and what is done with it.

#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use kes_crypto::{SecretBytes, fill_random};

use crate::aead::{Cipher, NONCE, OVERHEAD, Purpose, fresh_nonce};
use crate::header::Header;
use crate::{HeaderRecord, SealError};

/// No value has more bytes.
pub const MAX_VALUE: usize = 1024 * 1024;

/// The most bytes that a sealed value has.
pub const MAX_SEALED: usize = MAX_VALUE + OVERHEAD;

/// The root key of one store with the store's id: seals and opens its values. Zeroed when dropped.
pub struct StoreKey {
    store_id: [u8; 16],
    /// Ready for use.
    cipher: Cipher,
    /// Kept only to be wrapped by another seal.
    root: SecretBytes,
}

impl StoreKey {
    /// A new root key for a new store.
    pub(crate) fn generate() -> Result<Self, SealError> {
        let mut store_id = [0; 16];
        fill_random(&mut store_id)?;
        let mut root = zeroize::Zeroizing::new(vec![0; ROOT]);
        fill_random(&mut root)?;
        Self::new(store_id, root.into())
    }

    /// The root key that a seal has unwrapped.
    pub(crate) fn new(store_id: [u8; 16], root: SecretBytes) -> Result<Self, SealError> {
        let cipher = Cipher::new(root.expose_secret()).ok_or(SealError::DoesNotOpen)?;
        Ok(Self {
            store_id,
            cipher,
            root,
        })
    }

    /// The store's id.
    #[must_use]
    pub const fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// The bytes to store for `value` under `name`.
    ///
    /// # Errors
    /// When the value is larger than [`MAX_VALUE`], or there is no randomness to be had.
    pub fn seal_value(&self, name: &str, value: &SecretBytes) -> Result<Vec<u8>, SealError> {
        self.seal_value_with(fresh_nonce()?, name, value)
    }

    pub(crate) fn seal_value_with(
        &self,
        nonce: [u8; NONCE],
        name: &str,
        value: &SecretBytes,
    ) -> Result<Vec<u8>, SealError> {
        if value.len() > MAX_VALUE {
            return Err(SealError::TooLarge {
                length: value.len(),
                limit: MAX_VALUE,
            });
        }
        self.cipher
            .seal(nonce, &self.value_purpose(name), value.expose_secret())
    }

    /// The value in the bytes that were stored under `name`.
    ///
    /// # Errors
    /// When they are not what was stored there.
    pub fn open_value(&self, name: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        if sealed.len() > MAX_SEALED {
            return Err(SealError::TooLarge {
                length: sealed.len(),
                limit: MAX_SEALED,
            });
        }
        self.cipher.open(&self.value_purpose(name), sealed)
    }

    /// A tag by which whoever has the key can tell that this store made a backup with this digest.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn authenticate_backup(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        self.authenticate_backup_with(fresh_nonce()?, digest)
    }

    pub(crate) fn authenticate_backup_with(
        &self,
        nonce: [u8; NONCE],
        digest: &[u8; 32],
    ) -> Result<Vec<u8>, SealError> {
        self.cipher.seal(nonce, &self.backup_purpose(digest), &[])
    }

    /// Whether `tag` is one that [`Self::authenticate_backup`] has given for `digest`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify_backup(&self, digest: &[u8; 32], tag: &[u8]) -> Result<(), SealError> {
        self.open_empty(&self.backup_purpose(digest), tag)
    }

    /// For a seal to wrap.
    pub(crate) const fn root(&self) -> &SecretBytes {
        &self.root
    }

    /// Authenticates the header and makes the generation record that goes with it.
    pub(crate) fn seal_header(&self, header: &mut Header) -> Result<HeaderRecord, SealError> {
        self.seal_header_with([fresh_nonce()?, fresh_nonce()?], header)
    }

    pub(crate) fn seal_header_with(
        &self,
        [header_nonce, generation_nonce]: [[u8; NONCE]; 2],
        header: &mut Header,
    ) -> Result<HeaderRecord, SealError> {
        let purpose = self.header_purpose(&header.authenticated());
        let tag = self.cipher.seal(header_nonce, &purpose, &[])?;
        header.tag = tag.try_into().map_err(|_| SealError::Cipher)?;

        let bytes = header.encode();
        let content = Generation::of(header.generation, &bytes).encode();
        let generation = self
            .cipher
            .seal(generation_nonce, &self.generation_purpose(), &content)?;
        Ok(HeaderRecord {
            header: bytes,
            generation,
        })
    }

    /// Whether this root key has authenticated the header.
    pub(crate) fn verify_header(&self, header: &Header) -> Result<(), SealError> {
        self.open_empty(&self.header_purpose(&header.authenticated()), &header.tag)
    }

    /// What a generation record says.
    pub(crate) fn open_generation(&self, sealed: &[u8]) -> Result<Generation, SealError> {
        if sealed.len() != GENERATION + OVERHEAD {
            return Err(SealError::DoesNotOpen);
        }
        let content = self.cipher.open(&self.generation_purpose(), sealed)?;
        Generation::decode(content.expose_secret()).ok_or(SealError::DoesNotOpen)
    }

    fn open_empty(&self, purpose: &Purpose, sealed: &[u8]) -> Result<(), SealError> {
        if sealed.len() != OVERHEAD {
            return Err(SealError::DoesNotOpen);
        }
        self.cipher.open(purpose, sealed).map(drop)
    }

    pub(crate) fn value_purpose(&self, name: &str) -> Purpose {
        Purpose::new("kes.store.value")
            .fixed(&self.store_id)
            .sized(name.as_bytes())
    }

    pub(crate) fn header_purpose(&self, authenticated: &[u8]) -> Purpose {
        Purpose::new("kes.store.header")
            .fixed(&self.store_id)
            .sized(authenticated)
    }

    pub(crate) fn generation_purpose(&self) -> Purpose {
        Purpose::new("kes.store.generation").fixed(&self.store_id)
    }

    pub(crate) fn backup_purpose(&self, digest: &[u8; 32]) -> Purpose {
        Purpose::new("kes.store.backup")
            .fixed(&self.store_id)
            .fixed(digest)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey")
            .field(
                "store_id",
                &format_args!("{:032x}", u128::from_be_bytes(self.store_id)),
            )
            .finish_non_exhaustive()
    }
}

/// The content of a generation record: which header is the newest one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// SHA-256 of the whole header.
    pub(crate) header: [u8; 32],
}

impl Generation {
    pub(crate) fn of(number: u64, header: &[u8]) -> Self {
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, header).as_ref());
        Self { number, header: sum }
    }

    fn encode(&self) -> [u8; GENERATION] {
        let mut bytes = [0; GENERATION];
        let (number, header) = bytes.split_at_mut(8);
        number.copy_from_slice(&self.number.to_be_bytes());
        header.copy_from_slice(&self.header);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, header) = bytes.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            header: header.try_into().ok()?,
        })
    }
}

/// Length of a root key.
const ROOT: usize = 32;
/// Length of the content of a generation record.
const GENERATION: usize = 40;
