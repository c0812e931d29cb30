//! Authenticated encryption under a key that may seal any number of messages.
//!
//! A 96-bit random nonce alone would limit a key to some 2^32 messages. So each message has a sub-key of its own, derived
//! from the key and 128 random bits, the IV; the nonce is random as well.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use chacha20::{R20, hchacha};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Algorithm, SecretBytes};

pub(crate) const IV: usize = 16;
pub(crate) const NONCE: usize = 12;
pub(crate) const TAG: usize = 16;

/// Why a ciphertext could not be decrypted. There is one answer, whatever was wrong: wrong key, other context, altered or
/// malformed ciphertext. Its `Display` is the message that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decryption failed: ciphertext is not authentic")]
pub struct DecryptError;

/// Encrypts `plaintext` into `out`, which has as many bytes, and writes the tag.
pub(crate) fn seal(
    algorithm: Algorithm,
    key: &[u8; 32],
    (iv, nonce): (&[u8; IV], [u8; NONCE]),
    plaintext: &[u8],
    context: &[u8],
    (out, tag): (&mut [u8], &mut [u8; TAG]),
) {
    sub_key(algorithm, key, iv)
        .seal_out_of_place_scatter(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            plaintext,
            out,
            &[],
            tag,
        )
        .expect("the lengths fit and no request comes near 64 GiB");
}

/// Decrypts `sealed`, which is ciphertext and tag.
pub(crate) fn open(
    algorithm: Algorithm,
    key: &[u8; 32],
    (iv, nonce): (&[u8; IV], [u8; NONCE]),
    sealed: &[u8],
    context: &[u8],
) -> Result<SecretBytes, DecryptError> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>().ok_or(DecryptError)?;
    let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
    sub_key(algorithm, key, iv)
        .open_separate_gather(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            ciphertext,
            tag,
            &mut plaintext,
        )
        .map_err(|_| DecryptError)?;
    Ok(plaintext.into())
}

/// HMAC-SHA-256, written straight to where it belongs, so that no copy stays behind.
pub(crate) fn hmac_sha256(key: &[u8; 32], message: &[u8], out: &mut [u8; 32]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign_to_buffer(&key, message, out).expect("the buffer has the length of the digest");
}

fn sub_key(algorithm: Algorithm, key: &[u8; 32], iv: &[u8; IV]) -> LessSafeKey {
    let mut bytes = Zeroizing::new([0; 32]);
    let aead = match algorithm {
        Algorithm::Aes256 => {
            hmac_sha256(key, iv, &mut bytes);
            &AES_256_GCM
        }
        Algorithm::ChaCha20 => {
            let mut derived = hchacha::<R20>(key.into(), iv.into());
            bytes.copy_from_slice(&derived);
            derived.zeroize();
            &CHACHA20_POLY1305
        }
    };
    LessSafeKey::new(UnboundKey::new(aead, bytes.as_slice()).expect("both algorithms take 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const KEY: [u8; 32] = {
        let mut key = [0; 32];
        let mut i = 0;
        while i < 32 {
            key[i] = i as u8;
            i += 1;
        }
        key
    };

    #[test]
    fn sub_keys_are_those_of_the_published_vectors() {
        let iv: [u8; IV] = std::array::from_fn(|i| 0x20 + i as u8);
        let mut aes = [0; 32];
        hmac_sha256(&KEY, &iv, &mut aes);
        assert_eq!(
            hex(&aes),
            "2d718436a7fa1a5153fb28eab9253a186fdac7860cb162005d12c8cbeac1b33c"
        );
        let chacha = hchacha::<R20>(&KEY.into(), &iv.into());
        assert_eq!(
            hex(&chacha),
            "621bfa259b56fe080a65d9762d6b455a245aa56338a6b8e6b0fdb31735a9827c"
        );
    }
}
