//! The three forms of a ciphertext.
//!
//! The current one has no header: ciphertext, tag, IV, nonce. Before it there were MessagePack and JSON, whose first bytes a
//! current one has by chance once in 128. So what cannot be read as one of them is taken for a current one.

use std::borrow::Cow;

use crate::Algorithm;
use crate::cipher::{IV, NONCE, TAG};
use crate::encoding::{Reader, base64, json};

/// How many bytes a current ciphertext has more than its plaintext.
pub(crate) const OVERHEAD: usize = TAG + IV + NONCE;

/// The first byte of the MessagePack form, an array of five.
const MSGPACK: u8 = 0x95;

/// A ciphertext taken apart.
pub(crate) struct Parts<'a> {
    /// What it was made with, where the form says so.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) iv: [u8; IV],
    pub(crate) nonce: [u8; NONCE],
    /// Ciphertext and tag.
    pub(crate) sealed: Cow<'a, [u8]>,
}

impl<'a> Parts<'a> {
    /// Takes `ciphertext` apart, unless it is too short for any form.
    pub(crate) fn parse(ciphertext: &'a [u8]) -> Option<Self> {
        let structured = match ciphertext.first() {
            Some(&MSGPACK) => Self::from_msgpack(ciphertext),
            Some(b'{') => Self::from_json(ciphertext),
            _ => None,
        };
        structured.or_else(|| Self::from_raw(ciphertext))
    }

    fn from_raw(ciphertext: &'a [u8]) -> Option<Self> {
        let (rest, &nonce) = ciphertext.split_last_chunk()?;
        let (sealed, &iv) = rest.split_last_chunk()?;
        Some(Self {
            algorithm: None,
            iv,
            nonce,
            sealed: Cow::Borrowed(sealed),
        })
    }

    /// Written from 2022 (v0.19.2) to January 2024. The key id in it is not compared: the tag decides.
    fn from_msgpack(ciphertext: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(ciphertext);
        let _array_of_five = reader.byte()?;
        let algorithm = Algorithm::from_name(msgpack_str(&mut reader)?)?;
        let _key_id = msgpack_str(&mut reader)?;
        let iv = msgpack_bin(&mut reader)?.try_into().ok()?;
        let nonce = msgpack_bin(&mut reader)?.try_into().ok()?;
        let sealed = Cow::Borrowed(msgpack_bin(&mut reader)?);
        reader.is_empty().then_some(Self {
            algorithm: Some(algorithm),
            iv,
            nonce,
            sealed,
        })
    }

    /// Written up to v0.19.1. Not readable is `AES-256-GCM`, which the releases up to v0.6.0 wrote: its key derivation was
    /// dropped by the reference in v0.7.2.
    fn from_json(ciphertext: &'a [u8]) -> Option<Self> {
        let [aead, iv, nonce, bytes] = json::members(ciphertext, ["aead", "iv", "nonce", "bytes"])?;
        let algorithm = match aead?.as_str() {
            "AES-256-GCM-HMAC-SHA-256" => Algorithm::Aes256,
            "ChaCha20Poly1305" => Algorithm::ChaCha20,
            _ => return None,
        };
        let decode = |text: Option<json::Text<'_>>| base64(text?.as_str().as_bytes());
        Some(Self {
            algorithm: Some(algorithm),
            iv: decode(iv)?.as_slice().try_into().ok()?,
            nonce: decode(nonce)?.as_slice().try_into().ok()?,
            sealed: Cow::Owned(std::mem::take(&mut *decode(bytes)?)),
        })
    }
}

fn msgpack_str<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = match reader.byte()? {
        short @ 0xa0..=0xbf => u32::from(short & 0x1f),
        0xd9 => reader.byte()?.into(),
        0xda => u16::from_be_bytes(reader.array()?).into(),
        0xdb => u32::from_be_bytes(reader.array()?),
        _ => return None,
    };
    reader.take(length.try_into().ok()?)
}

fn msgpack_bin<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = match reader.byte()? {
        0xc4 => reader.byte()?.into(),
        0xc5 => u16::from_be_bytes(reader.array()?).into(),
        0xc6 => u32::from_be_bytes(reader.array()?),
        _ => return None,
    };
    reader.take(length.try_into().ok()?)
}
