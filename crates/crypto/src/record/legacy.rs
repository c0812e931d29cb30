//! The forms of a record from before 2024: JSON, and at the very beginning the bare key in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_types::Timestamp;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use zeroize::Zeroizing;

use crate::encoding::{base64, json};
use crate::record::{CorruptRecord, KeyVersion, Keys};
use crate::{Algorithm, SecretBytes};

/// When a key was made that does not say when.
const UNKNOWN: Timestamp = datetime!(0001-01-01 00:00:00 UTC);

/// A key of v0.4.0 and before in Vault: nothing but its bytes.
pub(super) fn bare(key: &[u8; 32]) -> KeyVersion {
    let mut keys = Box::<Keys>::default();
    keys.cipher = *key;
    KeyVersion {
        keys,
        created_by: "".into(),
        created_at: UNKNOWN,
        algorithm: None,
    }
}

/// Reads `{"bytes", "algorithm"?, "created_at"?, "created_by"?}`, or `{"name", "secret"}` of v0.4.0 and before.
pub(super) fn decode_json(value: &[u8]) -> Result<KeyVersion, CorruptRecord> {
    let [bytes, secret, sealed, algorithm, created_at, created_by] = json::members(
        value,
        [
            "bytes",
            "secret",
            "ciphertext",
            "algorithm",
            "created_at",
            "created_by",
        ],
    )
    .ok_or(CorruptRecord::Json)?;

    let Some(key) = bytes.or(secret) else {
        return Err(if sealed.is_some() {
            CorruptRecord::Sealed
        } else {
            CorruptRecord::Missing("secret key")
        });
    };
    let key = base64(key.as_str().as_bytes()).ok_or(CorruptRecord::KeySize("secret key"))?;
    let key: &[u8; 32] = key
        .as_slice()
        .try_into()
        .map_err(|_| CorruptRecord::KeySize("secret key"))?;
    let algorithm = match algorithm.as_ref().map(json::Text::as_str) {
        None | Some("") => None,
        Some(name) => {
            Some(Algorithm::from_name(name.as_bytes()).ok_or(CorruptRecord::Algorithm("secret key"))?)
        }
    };
    let created_at = match created_at {
        None => UNKNOWN,
        Some(text) => parse_time(text.as_str()).ok_or(CorruptRecord::CreatedAt)?,
    };
    let created_by = created_by.as_ref().map_or("", json::Text::as_str).into();
    Ok(KeyVersion {
        created_at,
        created_by,
        algorithm,
        ..bare(key)
    })
}

/// The JSON form as the last releases that wrote it did.
pub(super) fn encode_json(record: &KeyVersion) -> SecretBytes {
    #[derive(serde::Serialize)]
    struct Json<'a> {
        version: &'static str,
        bytes: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        algorithm: Option<&'static str>,
        created_at: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        created_by: &'a str,
    }

    let key = Zeroizing::new(STANDARD.encode(record.keys.cipher));
    let json = Json {
        version: "v1",
        bytes: &key,
        algorithm: record.algorithm.map(Algorithm::as_str),
        created_at: &record
            .created_at
            .format(&Rfc3339)
            .expect("times of records have four-digit years"),
        created_by: &record.created_by,
    };
    let mut out = Vec::with_capacity(256 + 6 * record.created_by.len());
    serde_json::to_writer(&mut out, &json).expect("texts can be written to memory");
    SecretBytes::new(out)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time = Timestamp::parse(text, &Rfc3339)
        .ok()?
        .checked_to_offset(UtcOffset::UTC)?;
    // An offset can move a time out of the years that the format can print.
    (0..=9999).contains(&time.year()).then_some(time)
}
