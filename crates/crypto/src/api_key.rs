//! API keys: the private key of a client as one line of text.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_types::Identity;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::encoding::base64;
use crate::{RandomError, fill_random, identity_of_spki};

const PREFIX: &str = "kes:v1:";

/// The byte before the seed. No other type was ever given out.
const ED25519: u8 = 0;

const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What precedes the 32 bytes of an Ed25519 public key in its DER `SubjectPublicKeyInfo`.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What precedes the seed in the PKCS#8 of an Ed25519 private key.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The Ed25519 private key of a client, written `kes:v1:` and base64. `Debug` shows its identity only.
///
/// ```
/// use kes_crypto::ApiKey;
///
/// let key = ApiKey::parse("kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc")?;
/// assert_eq!(key.identity().as_str(), "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22");
/// # Ok::<(), kes_crypto::BadApiKey>(())
/// ```
pub struct ApiKey {
    /// Boxed, so that moving the key leaves no copies on the stack.
    seed: Box<Zeroizing<[u8; 32]>>,
    identity: Identity,
}

/// A text or key that is no API key. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadApiKey {
    /// Not base64.
    #[error("the API key is not valid base64")]
    Encoding,
    /// Not the length of an Ed25519 key.
    #[error("the API key does not have the right length")]
    Length,
    /// Of a type from the future.
    #[error("the API key is of an unknown type")]
    Type,
    /// The PKCS#8 is malformed, or of another kind of key.
    #[error("the private key is not an Ed25519 key")]
    NotEd25519,
}

impl ApiKey {
    /// Reads an API key; its prefix `kes:v1:` may be missing.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadApiKey> {
        let text = text.trim_ascii();
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let bytes = base64(encoded.as_bytes()).ok_or(BadApiKey::Encoding)?;
        let (&kind, seed) = bytes.split_first().ok_or(BadApiKey::Length)?;
        let seed = seed.try_into().map_err(|_| BadApiKey::Length)?;
        if kind != ED25519 {
            return Err(BadApiKey::Type);
        }
        Ok(Self::from_seed(seed))
    }

    /// Makes a new API key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, RandomError> {
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The API key of the Ed25519 private key in `pkcs8`, in DER.
    ///
    /// # Errors
    /// When it holds anything else.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, BadApiKey> {
        let info = PrivateKeyInfoRef::try_from(pkcs8).map_err(|_| BadApiKey::NotEd25519)?;
        if info.algorithm.oid != ED25519_OID {
            return Err(BadApiKey::NotEd25519);
        }
        // The private key is an octet string in an octet string.
        let [0x04, 0x20, seed @ ..] = info.private_key.as_bytes() else {
            return Err(BadApiKey::NotEd25519);
        };
        Ok(Self::from_seed(
            seed.try_into().map_err(|_| BadApiKey::NotEd25519)?,
        ))
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
        let mut spki = [0; 44];
        let (prefix, public_key) = spki.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        public_key.copy_from_slice(pair.public_key().as_ref());

        let mut boxed = Box::<Zeroizing<[u8; 32]>>::default();
        boxed.copy_from_slice(seed);
        Self {
            seed: boxed,
            identity: identity_of_spki(&spki),
        }
    }

    /// Who a client with this key is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key as text, with its prefix. It is the whole secret.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 33]);
        let (_, seed) = bytes.split_at_mut(1);
        seed.copy_from_slice(self.seed());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 44));
        text.push_str(PREFIX);
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        text
    }

    /// The Ed25519 seed. It is the whole secret.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The private key as PKCS#8 in DER. It is the whole secret.
    #[must_use]
    pub fn private_key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + 32));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.seed());
        der
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq";

    #[test]
    fn identities_are_those_of_the_published_keys() {
        for (text, identity) in [
            (
                TEXT,
                "7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7",
            ),
            (
                "kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc",
                "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
            ),
            (
                "kes:v1:ABuhW1PU/dL1VL41trsQJzYYFMV5FfAcoF7NHu1U9ckk",
                "d6a5ca74bb1c714b8e4a85136fcc0d8ee8bb83c6cfacff9c7c2551cb5c57caf0",
            ),
        ] {
            let key = ApiKey::parse(text).unwrap();
            assert_eq!(key.identity().as_str(), identity);
            assert_eq!(key.to_secret_text().as_str(), text);
        }
    }

    #[test]
    fn the_prefix_and_white_space_do_not_matter() {
        let identity = ApiKey::parse(TEXT).unwrap().identity().clone();
        for text in [&TEXT["kes:v1:".len()..], &format!(" {TEXT}\r\n")] {
            assert_eq!(*ApiKey::parse(text).unwrap().identity(), identity);
        }
    }

    #[test]
    fn other_texts_are_refused_without_being_quoted() {
        let key = |bytes: &[u8]| format!("kes:v1:{}", STANDARD.encode(bytes));
        for (text, error) in [
            (String::new(), BadApiKey::Length),
            ("kes:v1:".into(), BadApiKey::Length),
            (
                "kes:v2:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq".into(),
                BadApiKey::Encoding,
            ),
            (TEXT.trim_end_matches('q').into(), BadApiKey::Encoding),
            (key(&[0; 32]), BadApiKey::Length),
            (key(&[0; 34]), BadApiKey::Length),
            (key(&[1; 33]), BadApiKey::Type),
        ] {
            assert_eq!(ApiKey::parse(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_new_key_survives_text_and_pkcs8() {
        let key = ApiKey::generate().unwrap();
        let from_text = ApiKey::parse(&key.to_secret_text()).unwrap();
        let from_pkcs8 = ApiKey::from_pkcs8(&key.private_key_pkcs8()).unwrap();
        for same in [from_text, from_pkcs8] {
            assert_eq!((same.identity(), same.seed()), (key.identity(), key.seed()));
        }
        assert_ne!(ApiKey::generate().unwrap().identity(), key.identity());
    }

    #[test]
    fn pkcs8_of_the_provider_is_read_in_both_versions() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let v1 = ApiKey::from_pkcs8(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let v2 = ApiKey::from_pkcs8(pair.to_pkcs8().unwrap().as_ref()).unwrap();
        assert_eq!(v1.identity(), v2.identity());
        assert_eq!(
            v1.private_key_pkcs8().as_slice(),
            pair.to_pkcs8v1().unwrap().as_ref()
        );
        assert_eq!(ApiKey::from_pkcs8(b"0").unwrap_err(), BadApiKey::NotEd25519);
    }

    #[test]
    fn debug_output_shows_the_identity_only() {
        let key = ApiKey::parse(TEXT).unwrap();
        let shown = format!("{key:?}");
        assert!(
            shown.contains(key.identity().as_str()) && !shown.contains("seed"),
            "{shown}"
        );
    }
}
