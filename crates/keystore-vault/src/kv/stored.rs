//! The form that a value has in an entry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::SecretBytes;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A value as it is in an entry: a text, which is what records of keys are, or else any bytes as `{"base64": "…"}`. No text
/// could be mistaken for the latter.
#[derive(PartialEq, Eq)]
pub(crate) enum Stored {
    /// A text.
    Text(Zeroizing<String>),
    /// Base64 of bytes that are no text, or that would be taken for something else if they were stored as one.
    Base64(Zeroizing<String>),
}

impl Stored {
    /// `value` as it is, if it is a text and `plain` of it.
    pub(crate) fn of(value: &SecretBytes, plain: impl FnOnce(&str) -> bool) -> Self {
        match std::str::from_utf8(value.expose_secret()) {
            Ok(text) if plain(text) => Self::Text(Zeroizing::new(text.to_owned())),
            Ok(_) | Err(_) => Self::Base64(Zeroizing::new(STANDARD.encode(value.expose_secret()))),
        }
    }

    /// A text that is stored as it is.
    pub(crate) fn text(text: String) -> Self {
        Self::Text(Zeroizing::new(text))
    }

    /// The text that is stored as it is, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Base64(_) => None,
        }
    }

    /// The bytes, or what is wrong with them.
    pub(crate) fn into_bytes(self) -> Result<SecretBytes, &'static str> {
        match self {
            Self::Text(text) => Ok(SecretBytes::copy_of(text.as_bytes())),
            Self::Base64(text) => {
                let bytes = STANDARD.decode(text.as_bytes()).map(SecretBytes::new);
                bytes.map_err(|_| "the entry should hold base64, and does not")
            }
        }
    }

    /// What is secret in it.
    pub(crate) fn secret(&self) -> &str {
        match self {
            Self::Text(text) | Self::Base64(text) => text,
        }
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Base64(text) => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry(BASE64, text.as_str())?;
                map.end()
            }
        }
    }
}

struct Member;

impl<'de> Visitor<'de> for Member {
    type Value = Option<Stored>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of an entry")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Stored::Text(Zeroizing::new(text.to_owned()))))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Some(Stored::Text(Zeroizing::new(text))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == BASE64 {
                if let Some(Stored::Text(text)) = map.next_value::<Any>()?.0 {
                    found = Some(Stored::Base64(text));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A member of an entry: `None` for what is neither form.
pub(super) struct Any(pub(super) Option<Stored>);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Member).map(Self)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({} bytes)", self.secret().len())
    }
}

const BASE64: &str = "base64";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> SecretBytes {
        SecretBytes::copy_of(bytes)
    }

    fn parsed(json: &str) -> Option<Stored> {
        serde_json::from_str::<Any>(json).unwrap().0
    }

    #[test]
    fn a_text_is_stored_as_it_is() {
        let stored = Stored::of(&secret(b"{\"bytes\":\"AA==\"}\n"), |_| true);
        assert_eq!(
            serde_json::to_string(&stored).unwrap(),
            r#""{\"bytes\":\"AA==\"}\n""#
        );
    }

    #[test]
    fn what_is_no_text_or_would_be_mistaken_is_stored_in_base64() {
        for (value, plain) in [(&[0xff, 0x00][..], true), (b"vault:v1:x", false)] {
            let stored = Stored::of(&secret(value), |_| plain);
            let json = serde_json::to_string(&stored).unwrap();
            assert!(json.starts_with(r#"{"base64":""#), "{json}");
            assert_eq!(
                parsed(&json).unwrap().into_bytes().unwrap().expose_secret(),
                value
            );
        }
    }

    #[test]
    fn what_is_neither_form_is_no_value() {
        for json in [
            "null",
            "1",
            "-1",
            "1.5",
            "true",
            "[\"x\"]",
            "{}",
            r#"{"other":"x"}"#,
            r#"{"base64":[1]}"#,
        ] {
            assert!(parsed(json).is_none(), "{json}");
        }
        assert!(parsed(r#"{"base64":"?"}"#).unwrap().into_bytes().is_err());
    }

    #[test]
    fn a_value_is_not_shown() {
        let shown = format!("{:?}", Stored::of(&secret(b"secret"), |_| true));
        assert_eq!(shown, "Stored(6 bytes)");
    }
}
