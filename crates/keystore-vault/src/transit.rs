//! Vault's transit engine, which encrypts values before they are stored.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::SecretBytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::{ApiError, Body, Reply};
use crate::path::{BadPath, Path};

/// A key of a transit engine.
#[derive(Debug)]
pub(crate) struct Transit {
    /// What encrypts.
    pub(crate) encrypt: Path,
    /// What decrypts.
    pub(crate) decrypt: Path,
}

impl Transit {
    /// The key `key` of the engine at `engine`.
    pub(crate) fn new(engine: &Path, key: &str) -> Result<Self, BadPath> {
        let key = Path::parse(key)?;
        Ok(Self {
            encrypt: engine.segment("encrypt").join(&key),
            decrypt: engine.segment("decrypt").join(&key),
        })
    }

    /// The body that has `value` encrypted.
    pub(crate) fn plaintext(value: &SecretBytes) -> Body {
        #[derive(Serialize)]
        struct Encrypt<'a> {
            plaintext: &'a str,
        }
        let plaintext = Zeroizing::new(STANDARD.encode(value.expose_secret()));
        Body::new(
            &Encrypt {
                plaintext: &plaintext,
            },
            &plaintext,
        )
    }

    /// The ciphertext in the answer.
    pub(crate) fn encrypted(reply: &Reply) -> Result<String, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            ciphertext: String,
        }
        let ciphertext = reply.json::<Answer>()?.data.ciphertext;
        if !is_ciphertext(&ciphertext) {
            return Err(reply.unexpected(
                "the transit engine has encrypted into a form that could not be recognised later",
            ));
        }
        Ok(ciphertext)
    }

    /// The body that has `ciphertext` decrypted.
    pub(crate) fn ciphertext(ciphertext: &str) -> Body {
        #[derive(Serialize)]
        struct Decrypt<'a> {
            ciphertext: &'a str,
        }
        Body::new(&Decrypt { ciphertext }, ciphertext)
    }

    /// The value in the answer.
    pub(crate) fn decrypted(reply: &Reply) -> Result<SecretBytes, ApiError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            data: Data<'a>,
        }
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            plaintext: Cow<'a, str>,
        }
        let plaintext = reply.json::<Answer<'_>>()?.data.plaintext;
        let value = STANDARD.decode(plaintext.as_bytes()).map(SecretBytes::new);
        value.map_err(|_| {
            reply.unexpected("the transit engine has decrypted into something that is no base64")
        })
    }
}

/// Whether a stored text is a ciphertext of a transit engine, under any version of its key: `vault:v`, digits, `:`.
pub(crate) fn is_ciphertext(text: &str) -> bool {
    let version = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':'));
    version
        .is_some_and(|(digits, _)| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertexts_of_any_version_of_the_key_are_recognised() {
        for text in [
            "vault:v1:abc",
            "vault:v2:abc",
            "vault:v10:",
            "vault:v123456789012345678901:x",
        ] {
            assert!(is_ciphertext(text), "{text}");
        }
        for text in [
            "",
            "vault:",
            "vault:v:abc",
            "vault:v1",
            "vault:vx:abc",
            "Vault:v1:abc",
            " vault:v1:abc",
            "CiQKI",
        ] {
            assert!(!is_ciphertext(text), "{text}");
        }
    }

    #[test]
    fn paths_name_the_engine_and_the_key() {
        let transit = Transit::new(&Path::parse("team/transit/").unwrap(), "my key").unwrap();
        assert_eq!(transit.encrypt.url(), "team/transit/encrypt/my%20key");
        assert_eq!(transit.decrypt.url(), "team/transit/decrypt/my%20key");
        assert!(Transit::new(&Path::parse("transit").unwrap(), "..").is_err());
    }
}
