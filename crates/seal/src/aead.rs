//! The one construction that everything here is made of: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce, in a box
//! that begins with the version of its format. What a box is for, and where it belongs, is in its associated data.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use kes_crypto::{RandomError, SecretBytes, fill_random};
use zeroize::Zeroizing;

use crate::SealError;

/// Length of a nonce.
pub(crate) const NONCE: usize = 12;
/// How much longer than its content a box is: version, nonce, tag.
pub(crate) const OVERHEAD: usize = 1 + NONCE + TAG;

const TAG: usize = 16;
/// The only version of a box so far.
const VERSION: u8 = 1;

/// An AES-256-GCM key. The library zeroes its memory when it is dropped.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    /// `None` if `key` has not 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key)
            .ok()
            .map(|key| Self(LessSafeKey::new(key)))
    }

    /// A box with `content` that opens only with the same `purpose`.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE],
        purpose: &Purpose,
        content: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut sealed = vec![0; content.len() + OVERHEAD];
        let (front, rest) = sealed.split_at_mut(1 + NONCE);
        let (ciphertext, tag) = rest.split_at_mut(content.len());
        if let Some((version, room)) = front.split_first_mut() {
            *version = VERSION;
            room.copy_from_slice(&nonce);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_out_of_place_scatter(nonce, Aad::from(&*purpose.0), content, ciphertext, &[], tag)
            .map_err(|_| SealError::Cipher)?;
        Ok(sealed)
    }

    /// The content of a box that was sealed with this key for the same `purpose`.
    pub(crate) fn open(&self, purpose: &Purpose, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::DoesNotOpen)?;
        if version != VERSION {
            return Err(SealError::UnknownVersion { version });
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(SealError::DoesNotOpen)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::DoesNotOpen)?;
        let mut content = Zeroizing::new(vec![0; ciphertext.len()]);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(&*purpose.0), ciphertext, tag, &mut content)
            .map_err(|_| SealError::DoesNotOpen)?;
        Ok(content.into())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

/// The associated data of a box: what it is for, the version of its format, and where it belongs. Each part has a fixed
/// size or its length before it, so that no two lists of parts give the same bytes.
pub(crate) struct Purpose(Vec<u8>);

impl Purpose {
    pub(crate) fn new(domain: &'static str) -> Self {
        let mut purpose = Self(Vec::with_capacity(128)).sized(domain.as_bytes());
        purpose.0.push(VERSION);
        purpose
    }

    /// A part that always has this size.
    pub(crate) fn fixed<const N: usize>(mut self, part: &[u8; N]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    /// A part of any size.
    pub(crate) fn sized(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A nonce for one box.
pub(crate) fn fresh_nonce() -> Result<[u8; NONCE], RandomError> {
    let mut nonce = [0; NONCE];
    fill_random(&mut nonce)?;
    Ok(nonce)
}
