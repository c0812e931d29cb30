//! Using a key: data keys, encryption, decryption and message authentication codes.

use kes_crypto::SecretBytes;
use kes_types::KeyName;

use crate::cache::Scope;
use crate::{Keyring, KeyringError};

/// A fresh data key, plain and encrypted.
#[derive(Debug)]
pub struct DataKey {
    /// The key itself.
    pub plaintext: SecretBytes,
    /// The key, encrypted with the master key.
    pub ciphertext: Vec<u8>,
    /// The version of the master key; `None` while it has only one.
    pub version: Option<String>,
}

/// A ciphertext.
#[derive(Debug)]
pub struct Encrypted {
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The version of the key that made it; `None` while it has only one.
    pub version: Option<String>,
}

/// A plaintext.
#[derive(Debug)]
pub struct Decrypted {
    /// The plaintext.
    pub plaintext: SecretBytes,
    /// The version of the key that opened it; `None` while it has only one.
    pub version: Option<String>,
}

/// A message authentication code.
#[derive(Debug)]
pub struct Mac {
    /// The code.
    pub hmac: [u8; 32],
    /// The version of the key that made it; `None` while it has only one.
    pub version: Option<String>,
}

impl Keyring {
    /// Makes a random data key of 32 bytes. `context` has to be repeated to decrypt it; an empty `version` is the newest.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn generate(
        &self,
        scope: &Scope,
        name: &KeyName,
        version: &str,
        context: &[u8],
    ) -> Result<DataKey, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        let (plaintext, ciphertext) = entry.keys.version(version)?.seal_data_key(context)?;
        Ok(DataKey {
            plaintext,
            ciphertext,
            version: None,
        })
    }

    /// Encrypts `plaintext`. `context` has to be repeated to decrypt it; an empty `version` is the newest.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn encrypt(
        &self,
        scope: &Scope,
        name: &KeyName,
        version: &str,
        plaintext: &[u8],
        context: &[u8],
    ) -> Result<Encrypted, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        let ciphertext = entry.keys.version(version)?.seal(plaintext, context)?;
        Ok(Encrypted {
            ciphertext,
            version: None,
        })
    }

    /// Decrypts `ciphertext`, which was made with `context`. An empty `version` is whichever made it.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn decrypt(
        &self,
        scope: &Scope,
        name: &KeyName,
        version: &str,
        ciphertext: &[u8],
        context: &[u8],
    ) -> Result<Decrypted, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        let plaintext = entry.keys.version(version)?.open(ciphertext, context)?;
        Ok(Decrypted {
            plaintext,
            version: None,
        })
    }

    /// Decrypts several pairs of ciphertext and context, all with the key as it is now.
    ///
    /// # Errors
    /// See [`KeyringError`]. One that does not decrypt fails them all.
    pub async fn decrypt_bulk(
        &self,
        scope: &Scope,
        name: &KeyName,
        items: &[(&[u8], &[u8])],
    ) -> Result<Vec<Decrypted>, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        let key = entry.keys.newest();
        items
            .iter()
            .map(|(ciphertext, context)| {
                Ok(Decrypted {
                    plaintext: key.open(ciphertext, context)?,
                    version: None,
                })
            })
            .collect()
    }

    /// Computes the HMAC-SHA-256 of `message`. An empty `version` is the newest.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn hmac(
        &self,
        scope: &Scope,
        name: &KeyName,
        version: &str,
        message: &[u8],
    ) -> Result<Mac, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        let hmac = entry
            .keys
            .version(version)?
            .hmac(message)
            .map_err(|_| KeyringError::NoHmacKey)?;
        Ok(Mac { hmac, version: None })
    }
}
