//! The current form of a record: base64 of a protobuf message.
//!
//! ```text
//! KeyVersion { 1: SecretKey { 1: bytes, 2: type }, 2: HMACKey { 1: bytes, 2: hash }, 3: Timestamp { 1: seconds, 2: nanos },
//!              4: created by }
//! ```
//!
//! Read and written by hand, because a generated decoder keeps copies of the keys that nobody clears.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_types::Timestamp;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::encoding::Reader;
use crate::record::{CorruptRecord, KeyVersion, Keys};
use crate::{Algorithm, SecretBytes};

const AES256: u8 = 1;
const CHACHA20: u8 = 2;
const SHA256: u8 = 1;

/// Bytes of a `SecretKey` or `HMACKey` message: two tags, a length, 32 bytes and a type.
const KEY_MESSAGE: u8 = 36;

pub(super) fn decode(message: &[u8]) -> Result<KeyVersion, CorruptRecord> {
    let mut secret_key = None;
    let mut hmac_key = None;
    let mut created_at = TimestampFields::default();
    let mut created_by = "";
    each_field(message, |number, value| {
        match (number, value) {
            (1, Value::Bytes(bytes)) => secret_key.get_or_insert_with(KeyFields::default).merge(bytes)?,
            (2, Value::Bytes(bytes)) => hmac_key.get_or_insert_with(KeyFields::default).merge(bytes)?,
            (3, Value::Bytes(bytes)) => created_at.merge(bytes)?,
            (4, Value::Bytes(bytes)) => created_by = str::from_utf8(bytes).ok()?,
            _ => {}
        }
        Some(())
    })
    .ok_or(CorruptRecord::Protobuf)?;

    let secret_key = secret_key.ok_or(CorruptRecord::Missing("secret key"))?;
    let hmac_key = hmac_key.ok_or(CorruptRecord::Missing("HMAC key"))?;
    let mut keys = Box::<Keys>::default();
    keys.cipher = *secret_key.bytes("secret key")?;
    *keys.hmac_mut() = *hmac_key.bytes("HMAC key")?;
    let algorithm = match u8::try_from(secret_key.kind) {
        Ok(AES256) => Algorithm::Aes256,
        Ok(CHACHA20) => Algorithm::ChaCha20,
        _ => return Err(CorruptRecord::Algorithm("secret key")),
    };
    if hmac_key.kind != u64::from(SHA256) {
        return Err(CorruptRecord::Algorithm("HMAC key"));
    }
    let created_at = created_at.timestamp().ok_or(CorruptRecord::CreatedAt)?;
    Ok(KeyVersion {
        keys,
        created_by: created_by.into(),
        created_at,
        algorithm: Some(algorithm),
    })
}

pub(super) fn encode(record: &KeyVersion, algorithm: Algorithm, hmac: &[u8; 32]) -> SecretBytes {
    let created_at = encode_timestamp(record.created_at);
    let created_by = record.created_by.as_bytes();
    // Room for all of it, so that the vector does not move and leave a copy.
    let mut message = Zeroizing::new(Vec::with_capacity(128 + created_at.len() + created_by.len()));
    let kind = match algorithm {
        Algorithm::Aes256 => AES256,
        Algorithm::ChaCha20 => CHACHA20,
    };
    for (number, key, kind) in [(1, &record.keys.cipher, kind), (2, hmac, SHA256)] {
        message.extend_from_slice(&[
            tag(number, LENGTH_DELIMITED),
            KEY_MESSAGE,
            tag(1, LENGTH_DELIMITED),
            32,
        ]);
        message.extend_from_slice(key);
        message.extend_from_slice(&[tag(2, VARINT), kind]);
    }
    put_bytes(&mut message, 3, &created_at);
    if !created_by.is_empty() {
        put_bytes(&mut message, 4, created_by);
    }

    let mut text = String::with_capacity(message.len().div_ceil(3) * 4);
    STANDARD.encode_string(message.as_slice(), &mut text);
    SecretBytes::new(text.into_bytes())
}

/// The fields of a `SecretKey` or `HMACKey`, which have the same shape.
#[derive(Default)]
struct KeyFields<'a> {
    bytes: &'a [u8],
    kind: u64,
}

impl<'a> KeyFields<'a> {
    fn merge(&mut self, message: &'a [u8]) -> Option<()> {
        each_field(message, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => self.bytes = bytes,
                (2, Value::Varint(kind)) => self.kind = kind,
                _ => {}
            }
            Some(())
        })
    }

    fn bytes(&self, what: &'static str) -> Result<&'a [u8; 32], CorruptRecord> {
        self.bytes.try_into().map_err(|_| CorruptRecord::KeySize(what))
    }
}

#[derive(Default)]
struct TimestampFields {
    seconds: u64,
    nanos: u64,
}

impl TimestampFields {
    fn merge(&mut self, message: &[u8]) -> Option<()> {
        each_field(message, |number, value| {
            match (number, value) {
                (1, Value::Varint(seconds)) => self.seconds = seconds,
                (2, Value::Varint(nanos)) => self.nanos = nanos,
                _ => {}
            }
            Some(())
        })
    }

    /// A record without a time is of the Unix epoch, as protobuf has it.
    fn timestamp(&self) -> Option<Timestamp> {
        let seconds = OffsetDateTime::from_unix_timestamp(self.seconds.cast_signed()).ok()?;
        seconds.replace_nanosecond(self.nanos.try_into().ok()?).ok()
    }
}

fn encode_timestamp(time: Timestamp) -> Vec<u8> {
    let mut message = Vec::new();
    let seconds = time.unix_timestamp().cast_unsigned();
    for (number, value) in [(1, seconds), (2, time.nanosecond().into())] {
        if value != 0 {
            message.push(tag(number, VARINT));
            put_varint(&mut message, value);
        }
    }
    message
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

const fn tag(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Calls `visit` with each field of `message`; `None` when it is malformed.
fn each_field<'a>(message: &'a [u8], mut visit: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        let key = reader.varint()?;
        let value = match (key & 7) as u8 {
            VARINT => Value::Varint(reader.varint()?),
            LENGTH_DELIMITED => {
                let length = reader.varint()?;
                Value::Bytes(reader.take(length.try_into().ok()?)?)
            }
            FIXED64 => reader.take(8).map(|_| Value::Fixed)?,
            FIXED32 => reader.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        visit(key >> 3, value)?;
    }
    Some(())
}

fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(tag(number, LENGTH_DELIMITED));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
