//! One stored version of a master key.

use std::fmt;

use kes_types::Timestamp;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cipher::{self, IV, NONCE, TAG};
use crate::ciphertext::{OVERHEAD, Parts};
use crate::{Algorithm, DecryptError, RandomError, SecretBytes, fill_random};

mod legacy;
mod protobuf;

/// How many bytes a data key has.
pub const DATA_KEY_LEN: usize = 32;

/// One version of a master key: what a key store holds under a name.
///
/// A server caches very many of them, so it holds no prepared cipher; preparing one costs less than a cache miss.
pub struct KeyVersion {
    keys: Box<Keys>,
    created_by: Box<str>,
    created_at: Timestamp,
    /// `None` for the keys of early releases, which encrypted with whatever the CPU did best and wrote into each ciphertext
    /// what that was.
    algorithm: Option<Algorithm>,
}

/// Boxed, so that moving a [`KeyVersion`] leaves no copies of it on the stack.
#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct Keys {
    cipher: [u8; 32],
    /// Keys made before 2024 have none.
    hmac: Option<[u8; 32]>,
}

impl Keys {
    /// The place of the HMAC key, to be filled.
    fn hmac_mut(&mut self) -> &mut [u8; 32] {
        self.hmac.get_or_insert_default()
    }
}

/// A stored value that holds no usable key. Never quotes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptRecord {
    /// There is nothing.
    #[error("the key record is empty")]
    Empty,
    /// It begins like JSON and is none, or a member has the wrong type.
    #[error("the key record is not valid JSON")]
    Json,
    /// It is no base64.
    #[error("the key record is neither JSON nor base64")]
    Base64,
    /// It is base64 of something else.
    #[error("the key record is not a valid protobuf message")]
    Protobuf,
    /// A required part is not there.
    #[error("the key record has no {0}")]
    Missing(&'static str),
    /// A key has not 32 bytes.
    #[error("the {0} of the key record has not 32 bytes")]
    KeySize(&'static str),
    /// It is for an algorithm that nobody has written yet.
    #[error("the {0} of the key record is of an unknown type")]
    Algorithm(&'static str),
    /// The time of creation does not exist.
    #[error("the time of creation in the key record is invalid")]
    CreatedAt,
    /// A release of 2020 sealed it with the key of another service, which has to open it first.
    #[error("the key record is sealed by an external KMS")]
    Sealed,
}

/// Why a key cannot be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It has not 32 bytes.
    #[error("the key has not 32 bytes")]
    KeySize,
    /// No HMAC key could be made for it.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The key was made before there were HMAC keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has no HMAC key")]
pub struct NoHmacKey;

impl KeyVersion {
    /// Makes a new key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(
        algorithm: Algorithm,
        created_at: Timestamp,
        created_by: &str,
    ) -> Result<Self, RandomError> {
        let mut keys = Box::<Keys>::default();
        fill_random(&mut keys.cipher)?;
        fill_random(keys.hmac_mut())?;
        Ok(Self {
            keys,
            created_by: created_by.into(),
            created_at,
            algorithm: Some(algorithm),
        })
    }

    /// Makes a key out of the 32 bytes `key`, with a new HMAC key.
    ///
    /// # Errors
    /// When `key` has another length, or there is no randomness.
    pub fn import(
        key: &[u8],
        algorithm: Algorithm,
        created_at: Timestamp,
        created_by: &str,
    ) -> Result<Self, ImportError> {
        let key: &[u8; 32] = key.try_into().map_err(|_| ImportError::KeySize)?;
        let mut keys = Box::<Keys>::default();
        keys.cipher = *key;
        fill_random(keys.hmac_mut())?;
        Ok(Self {
            keys,
            created_by: created_by.into(),
            created_at,
            algorithm: Some(algorithm),
        })
    }

    /// Reads a stored value of any year. White space around it is ignored: files restored by hand end in a newline.
    ///
    /// # Errors
    /// Says what is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, CorruptRecord> {
        let value = value.trim_ascii();
        match value.first() {
            None => Err(CorruptRecord::Empty),
            Some(b'{') => legacy::decode_json(value),
            Some(_) => {
                let message = crate::encoding::base64(value).ok_or(CorruptRecord::Base64)?;
                // No protobuf record is that short: it holds two keys.
                match message.as_slice().try_into() {
                    Ok(key) => Ok(legacy::bare(key)),
                    Err(_) => protobuf::decode(&message),
                }
            }
        }
    }

    /// The value to store, in the current form.
    ///
    /// That form has no way to say that there is no algorithm or no HMAC key. A record that lacks one of them, which only
    /// [`KeyVersion::decode`] returns, is written as the JSON of before 2024, so that nothing is made up or lost.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        match (self.algorithm, &self.keys.hmac) {
            (Some(algorithm), Some(hmac)) => protobuf::encode(self, algorithm, hmac),
            _ => legacy::encode_json(self),
        }
    }

    /// What the key encrypts with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm.unwrap_or(Algorithm::Aes256)
    }

    /// When the key was made, in UTC; the year 1 where the record does not say.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The identity of who made the key; empty where the record does not say.
    #[must_use]
    pub fn created_by(&self) -> &str {
        &self.created_by
    }

    /// Encrypts `plaintext`. Decrypting takes the same `context`, which is not part of the ciphertext.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, RandomError> {
        let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
        self.seal_into(plaintext, context, &mut out)?;
        Ok(out)
    }

    /// [`KeyVersion::seal`], appended to `out`.
    ///
    /// # Errors
    /// When there is no randomness; `out` is as it was then.
    pub fn seal_into(&self, plaintext: &[u8], context: &[u8], out: &mut Vec<u8>) -> Result<(), RandomError> {
        let mut random = [0; IV + NONCE];
        fill_random(&mut random)?;
        self.seal_with(&random, plaintext, context, out);
        Ok(())
    }

    /// A new data key: [`DATA_KEY_LEN`] random bytes, and the same sealed with `context`.
    ///
    /// It is [`fill_random`] and [`KeyVersion::seal`] with one call of the generator for both: a call costs as much as the
    /// encryption itself, however few bytes it fills.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal_data_key(&self, context: &[u8]) -> Result<(SecretBytes, Vec<u8>), RandomError> {
        let mut random = Zeroizing::new([0; DATA_KEY_LEN + IV + NONCE]);
        fill_random(random.as_mut_slice())?;
        let (plaintext, random) = random
            .split_last_chunk()
            .expect("what seals the data key comes last");
        let mut ciphertext = Vec::with_capacity(DATA_KEY_LEN + OVERHEAD);
        self.seal_with(random, plaintext, context, &mut ciphertext);
        Ok((SecretBytes::copy_of(plaintext), ciphertext))
    }

    fn seal_with(&self, random: &[u8; IV + NONCE], plaintext: &[u8], context: &[u8], out: &mut Vec<u8>) {
        let (iv, nonce) = random.split_first_chunk::<IV>().expect("the IV comes first");
        let nonce = nonce.try_into().expect("the nonce is the rest");

        let start = out.len();
        out.reserve(plaintext.len() + OVERHEAD);
        out.resize(start + plaintext.len(), 0);
        let mut tag = [0; TAG];
        let ciphertext = out.get_mut(start..).expect("the vector has just grown");
        cipher::seal(
            self.algorithm(),
            &self.keys.cipher,
            (iv, nonce),
            plaintext,
            context,
            (ciphertext, &mut tag),
        );
        out.extend_from_slice(&tag);
        out.extend_from_slice(random);
    }

    /// Decrypts a ciphertext of any year.
    ///
    /// # Errors
    /// When `ciphertext` was not made by this key with this `context`.
    pub fn open(&self, ciphertext: &[u8], context: &[u8]) -> Result<SecretBytes, DecryptError> {
        let parts = Parts::parse(ciphertext).ok_or(DecryptError)?;
        // What a ciphertext says counts only under keys that do not know better.
        let algorithm = self.algorithm.or(parts.algorithm).unwrap_or(Algorithm::Aes256);
        cipher::open(
            algorithm,
            &self.keys.cipher,
            (&parts.iv, parts.nonce),
            &parts.sealed,
            context,
        )
    }

    /// The HMAC-SHA-256 of `message`.
    ///
    /// # Errors
    /// When the key is too old to have an HMAC key.
    pub fn hmac(&self, message: &[u8]) -> Result<[u8; 32], NoHmacKey> {
        let key = self.keys.hmac.as_ref().ok_or(NoHmacKey)?;
        let mut hmac = [0; 32];
        cipher::hmac_sha256(key, message, &mut hmac);
        Ok(hmac)
    }
}

impl fmt::Debug for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keys: _,
            created_by,
            created_at,
            algorithm,
        } = self;
        f.debug_struct("KeyVersion")
            .field("algorithm", algorithm)
            .field("created_at", created_at)
            .field("created_by", created_by)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
