//! What is done with keys.

use bytes::Bytes;
use http::Method;
use kes_types::Verb;
use kes_types::wire::{
    Base64, DecryptRequest, EncryptRequest, GenerateRequest, HmacRequest, ImportRequest,
    MAX_BULK as WIRE_MAX_BULK,
};
use zeroize::Zeroizing;

use super::{Client, Form, json};
use crate::reply::{Authenticated, Decrypted, Encrypted, Generated};
use crate::transport::Repeat;
use crate::{DataKey, Error, KeyAlgorithm, KeyInfo, Listing, Sealed, Secret};

/// The most ciphertexts of one [`Client::decrypt_bulk`].
///
/// ```no_run
/// # async fn example(client: kes_client::Client, sealed: Vec<kes_client::Sealed<'_>>) -> Result<(), kes_client::Error> {
/// for some in sealed.chunks(kes_client::MAX_BULK) {
///     client.decrypt_bulk("my-key", some).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub const MAX_BULK: usize = WIRE_MAX_BULK;

/// Keys. Contexts and plaintexts are copied into buffers that are zeroed when they have been sent.
impl Client {
    /// Creates a key. One that exists stays as it is: the error is the status 400 with `key already exists`.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// client.create_key("my-key").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when there is no answer, and no other server says that the key does not exist.
    pub async fn create_key(&self, name: &str) -> Result<(), Error> {
        let repeat = Repeat::IfAbsent(name);
        self.order(Method::PUT, Verb::CreateKey, name, Bytes::new(), repeat)
            .await
    }

    /// Stores the 32 bytes of `key` as a key. One that exists stays as it is.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client, key: &[u8; 32]) -> Result<(), kes_client::Error> {
    /// client.import_key("my-key", key, kes_client::KeyAlgorithm::Aes256).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::create_key`].
    pub async fn import_key(&self, name: &str, key: &[u8], algorithm: KeyAlgorithm) -> Result<(), Error> {
        let body = json(&ImportRequest {
            key: Base64::copy_of(key),
            cipher: algorithm.to_string(),
        })?;
        let repeat = Repeat::IfAbsent(name);
        self.order(Method::PUT, Verb::ImportKey, name, body, repeat).await
    }

    /// Describes a key.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{}", client.describe_key("my-key").await?.algorithm);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_key(&self, name: &str) -> Result<KeyInfo, Error> {
        self.get(Verb::DescribeKey, name).await
    }

    /// Deletes a key. What it has encrypted is lost, unless the server's key store keeps deleted keys for a while
    /// ([`Self::undelete_key`]).
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// client.delete_key("my-key").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when there is no answer: it is never repeated, since meanwhile there may be another key of this name.
    pub async fn delete_key(&self, name: &str) -> Result<(), Error> {
        self.order(Method::DELETE, Verb::DeleteKey, name, Bytes::new(), Repeat::Never)
            .await
    }

    /// Brings back a deleted key as it was. Only the admin can, and only where the server keeps its key store itself;
    /// elsewhere the answer is the status 404.
    ///
    /// ```no_run
    /// # async fn example(admin: kes_client::Client) -> Result<(), kes_client::Error> {
    /// admin.undelete_key("my-key").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::delete_key`].
    pub async fn undelete_key(&self, name: &str) -> Result<(), Error> {
        self.order(Method::PUT, Verb::UndeleteKey, name, Bytes::new(), Repeat::Never)
            .await
    }

    /// The names of all keys that start with `prefix`, one after the other.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut names = client.keys("minio-");
    /// while let Some(name) = names.next().await? {
    ///     println!("{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self, prefix: &str) -> Listing {
        Listing::new(self.transport.clone(), Verb::ListKeys, prefix)
    }

    /// The names of all keys that start with `prefix` at once, in byte order. [`Self::keys`] does not hold them all.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{} keys", client.list_keys("").await?.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.keys(prefix).collect().await
    }

    /// A fresh data key, as it is and encrypted. Decryption must repeat `context`.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let data_key = client.generate("my-key", b"bucket/object").await?;
    /// // Encrypt with `data_key.plaintext`, and keep `data_key.ciphertext` beside the result.
    /// # Ok(())
    /// # }
    /// ```
    pub async fn generate(&self, key: &str, context: &[u8]) -> Result<DataKey, Error> {
        let request = GenerateRequest {
            context: Base64::copy_of(context),
            version: String::new(),
        };
        let Generated {
            plaintext,
            ciphertext,
            version,
        } = self.put(Verb::GenerateKey, key, &request).await?;
        Ok(DataKey {
            plaintext: some(plaintext)?.into(),
            ciphertext: std::mem::take(&mut *some(ciphertext)?),
            version,
        })
    }

    /// Encrypts `plaintext`. Decryption must repeat `context`.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let ciphertext = client.encrypt("my-key", b"attack at dawn", b"").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        let request = EncryptRequest {
            plaintext: Base64::copy_of(plaintext),
            context: Base64::copy_of(context),
            version: String::new(),
        };
        let Encrypted { ciphertext } = self.put(Verb::EncryptKey, key, &request).await?;
        Ok(std::mem::take(&mut *some(ciphertext)?))
    }

    /// Decrypts `ciphertext`, which was made with the same `context`.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client, ciphertext: Vec<u8>) -> Result<(), kes_client::Error> {
    /// let plaintext = client.decrypt("my-key", &ciphertext, b"").await?;
    /// assert_eq!(plaintext.expose_secret(), b"attack at dawn");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[u8]) -> Result<Secret, Error> {
        let request = decrypt_request(&Sealed { ciphertext, context });
        let Decrypted { plaintext } = self.put(Verb::DecryptKey, key, &request).await?;
        Ok(plaintext.0.into())
    }

    /// Decrypts at most [`MAX_BULK`] ciphertexts at once. All of them or none.
    ///
    /// ```no_run
    /// use kes_client::Sealed;
    ///
    /// # async fn example(client: kes_client::Client, one: Vec<u8>, other: Vec<u8>) -> Result<(), kes_client::Error> {
    /// let sealed = [
    ///     Sealed { ciphertext: &one, context: b"bucket/one" },
    ///     Sealed { ciphertext: &other, context: b"bucket/other" },
    /// ];
    /// for plaintext in client.decrypt_bulk("my-key", &sealed).await? {
    ///     assert_eq!(plaintext.len(), 32);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn decrypt_bulk(&self, key: &str, sealed: &[Sealed<'_>]) -> Result<Vec<Secret>, Error> {
        if sealed.len() > MAX_BULK {
            return Err(Error::InvalidRequest {
                reason: format!("there are more than {MAX_BULK} ciphertexts"),
            });
        }
        let requests: Vec<_> = sealed.iter().map(decrypt_request).collect();
        let body = json(&requests)?;
        let answer: Vec<Decrypted> = self
            .json(Method::PUT, Verb::BulkDecryptKey, key, body, Form::Array)
            .await?;
        if answer.len() == sealed.len() {
            return Ok(answer
                .into_iter()
                .map(|opened| opened.plaintext.0.into())
                .collect());
        }
        Err(Error::malformed(format!(
            "{} plaintexts for {} ciphertexts",
            answer.len(),
            sealed.len()
        )))
    }

    /// The HMAC-SHA-256 of `message`.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let tag = client.hmac("my-key", b"message").await?;
    /// assert_eq!(tag.len(), 32);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn hmac(&self, key: &str, message: &[u8]) -> Result<Secret, Error> {
        let request = HmacRequest {
            message: Base64::copy_of(message),
            version: String::new(),
        };
        let Authenticated { hmac } = self.put(Verb::HmacKey, key, &request).await?;
        Ok(some(hmac)?.into())
    }
}

/// Bytes of which there must be some: who encrypted with an empty data key would not notice.
fn some(bytes: Base64) -> Result<Zeroizing<Vec<u8>>, Error> {
    if bytes.0.is_empty() {
        return Err(Error::malformed("it is empty"));
    }
    Ok(bytes.0)
}

fn decrypt_request(sealed: &Sealed<'_>) -> DecryptRequest {
    DecryptRequest {
        ciphertext: Base64::copy_of(sealed.ciphertext),
        context: Base64::copy_of(sealed.context),
        version: String::new(),
    }
}
