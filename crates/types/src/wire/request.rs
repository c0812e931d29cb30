//! What clients send. Read field by field instead of by derived code, which refuses repeated fields.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::Base64;

/// Most ciphertexts in one bulk decryption.
pub const MAX_BULK: usize = 1000;

/// Why a request body cannot be read. Never quotes the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not the JSON that the route wants.
    #[error("request body is not valid JSON for this API")]
    Json,
    /// A byte string is not standard base64.
    #[error("'{0}' is not valid base64")]
    Base64(&'static str),
    /// More than [`MAX_BULK`] ciphertexts.
    #[error("too many ciphertexts")]
    TooMany,
}

/// Body of a request for a data key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GenerateRequest {
    /// Associated data that decryption must repeat.
    #[serde(skip_serializing_if = "is_empty")]
    pub context: Base64,
    /// Version of the key; empty for the newest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Body of a request to encrypt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EncryptRequest {
    /// What to encrypt.
    pub plaintext: Base64,
    /// Associated data that decryption must repeat.
    #[serde(skip_serializing_if = "is_empty")]
    pub context: Base64,
    /// Version of the key; empty for the newest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Body of a request to decrypt, and one element of a bulk request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecryptRequest {
    /// What to decrypt.
    pub ciphertext: Base64,
    /// The associated data given when it was encrypted.
    #[serde(skip_serializing_if = "is_empty")]
    pub context: Base64,
    /// Version of the key; empty for whichever it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Body of a request for a message authentication code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HmacRequest {
    /// What to authenticate.
    pub message: Base64,
    /// Version of the key; empty for the newest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Body of a request to import a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportRequest {
    /// The key itself.
    pub key: Base64,
    /// Its algorithm, in any spelling of any year; empty means AES256.
    pub cipher: String,
}

impl GenerateRequest {
    /// Reads a request body; one that is empty or blank asks for no context.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let [context, version] = object(body, ["context", "version"])?;
        Ok(Self {
            context: bytes("context", context)?,
            version: text(version),
        })
    }
}

impl EncryptRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let [plaintext, context, version] = object(body, ["plaintext", "context", "version"])?;
        let plaintext = bytes("plaintext", plaintext)?;
        Ok(Self {
            plaintext,
            context: bytes("context", context)?,
            version: text(version),
        })
    }
}

impl DecryptRequest {
    const FIELDS: [&'static str; 3] = ["ciphertext", "context", "version"];

    /// Reads a request body.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        Self::from_fields(object(body, Self::FIELDS)?)
    }

    /// Reads the body of a bulk request.
    ///
    /// # Errors
    /// Says what is wrong with the body, also when it asks for more than [`MAX_BULK`].
    pub fn parse_bulk(body: &[u8]) -> Result<Vec<Self>, BadBody> {
        let Elements(elements) = serde_json::from_slice(body).map_err(|_| BadBody::Json)?;
        if elements.len() > MAX_BULK {
            return Err(BadBody::TooMany);
        }
        elements.into_iter().map(Self::from_fields).collect()
    }

    fn from_fields([ciphertext, context, version]: [Field<'_>; 3]) -> Result<Self, BadBody> {
        let ciphertext = bytes("ciphertext", ciphertext)?;
        Ok(Self {
            ciphertext,
            context: bytes("context", context)?,
            version: text(version),
        })
    }
}

impl HmacRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let [message, version] = object(body, ["message", "version"])?;
        Ok(Self {
            message: bytes("message", message)?,
            version: text(version),
        })
    }
}

impl ImportRequest {
    /// Reads a request body. Clients up to 2023 call the key `bytes` and the cipher `algorithm`.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let [key, bytes_, cipher, algorithm] = object(body, ["key", "bytes", "cipher", "algorithm"])?;
        let key = if key.is_some() {
            bytes("key", key)?
        } else {
            bytes("bytes", bytes_)?
        };
        Ok(Self {
            key,
            cipher: text(cipher.or(algorithm)),
        })
    }
}

/// A string field that may be absent or `null`. What has been unescaped is zeroed when dropped.
type Field<'a> = Option<Secret<'a>>;

struct Secret<'a>(Cow<'a, str>);

impl Drop for Secret<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            zeroize::Zeroize::zeroize(text);
        }
    }
}

fn bytes(name: &'static str, field: Field<'_>) -> Result<Base64, BadBody> {
    let Some(text) = field else {
        return Ok(Base64::default());
    };
    let bytes = STANDARD
        .decode(text.0.as_bytes())
        .map_err(|_| BadBody::Base64(name))?;
    Ok(Base64(Zeroizing::new(bytes)))
}

fn text(field: Field<'_>) -> String {
    field.map(|text| text.0.as_ref().to_owned()).unwrap_or_default()
}

fn is_empty(bytes: &Base64) -> bool {
    bytes.0.is_empty()
}

/// The string fields called `names` of a JSON object. A missing, empty or blank body is an empty object.
fn object<'de, const N: usize>(
    body: &'de [u8],
    names: [&'static str; N],
) -> Result<[Field<'de>; N], BadBody> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok([const { None }; N]);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let fields = Names(names).deserialize(&mut json).map_err(|_| BadBody::Json)?;
    json.end().map_err(|_| BadBody::Json)?;
    Ok(fields)
}

struct Names<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Names<N> {
    type Value = [Field<'de>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Names<N> {
    type Value = [Field<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = [const { None }; N];
        while let Some(Text(name)) = map.next_key()? {
            match self.0.iter().zip(&mut fields).find(|(known, _)| **known == name) {
                Some((_, field)) => {
                    *field = map
                        .next_value::<Option<Text<'de>>>()?
                        .map(|Text(text)| Secret(text))
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// A JSON string, borrowed from the body unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// The elements of a bulk request. Stops keeping them past the limit, so that a long list costs no memory.
struct Elements<'a>(Vec<[Field<'a>; 3]>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element_seed(Names(DecryptRequest::FIELDS))? {
                    if elements.len() <= MAX_BULK {
                        elements.push(element);
                    }
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generate(body: &str) -> Result<GenerateRequest, BadBody> {
        GenerateRequest::parse(body.as_bytes())
    }

    #[test]
    fn a_body_that_says_nothing_is_an_empty_object() {
        for body in [
            "",
            " \r\n\t",
            "{}",
            r#"{"context":null}"#,
            r#"{"context":""}"#,
            r#"{"unknown":[{"a":1}]}"#,
        ] {
            assert_eq!(generate(body).unwrap(), GenerateRequest::default(), "{body}");
        }
    }

    #[test]
    fn of_a_repeated_field_the_last_counts() {
        assert_eq!(
            *generate(r#"{"context":"YQ==","x":0,"context":"Yg=="}"#)
                .unwrap()
                .context
                .0,
            b"b"
        );
        assert_eq!(
            generate(r#"{"context":"YQ==","context":null}"#).unwrap(),
            GenerateRequest::default()
        );
    }

    #[test]
    fn an_escaped_field_reads_like_a_plain_one() {
        assert_eq!(
            *generate(r#"{"conte\u0078t":"\u0059Q=="}"#).unwrap().context.0,
            b"a"
        );
    }

    #[test]
    fn bad_bodies_are_refused() {
        let nested = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        for body in [
            "[]",
            "1",
            "null",
            "\"\"",
            "{",
            "{}x",
            "{}{}",
            r#"{"context":[97]}"#,
            r#"{"context":1}"#,
            "\u{feff}{}",
            &nested,
        ] {
            assert_eq!(
                generate(body),
                Err(BadBody::Json),
                "{}",
                &body[..body.len().min(40)]
            );
        }
        for text in ["YQ", "YQ=", "Y Q==", "YQ==\\n", "_-==", "a"] {
            assert_eq!(
                generate(&format!(r#"{{"context":"{text}"}}"#)),
                Err(BadBody::Base64("context")),
                "{text}"
            );
        }
        assert_eq!(
            GenerateRequest::parse(b"{\"context\":\"\xff\"}"),
            Err(BadBody::Json)
        );
    }

    #[test]
    fn both_generations_of_import_are_read() {
        let current = ImportRequest::parse(br#"{"key":"YQ==","cipher":"ChaCha20"}"#).unwrap();
        let older = ImportRequest::parse(br#"{"bytes":"YQ==","algorithm":"ChaCha20"}"#).unwrap();
        assert_eq!(current, older);
        assert_eq!(ImportRequest::parse(br#"{"bytes":"YQ=="}"#).unwrap().cipher, "");
    }

    #[test]
    fn a_bulk_request_has_a_bound() {
        let bulk = |n: usize| DecryptRequest::parse_bulk(format!("[{}]", vec!["{}"; n].join(",")).as_bytes());
        assert_eq!(bulk(0).unwrap().len(), 0);
        assert_eq!(bulk(MAX_BULK).unwrap().len(), MAX_BULK);
        assert_eq!(bulk(MAX_BULK + 1), Err(BadBody::TooMany));
        assert_eq!(DecryptRequest::parse_bulk(b"{}"), Err(BadBody::Json));
        assert_eq!(DecryptRequest::parse_bulk(b"[1]"), Err(BadBody::Json));
    }

    #[test]
    fn debug_output_shows_no_bytes() {
        let request = EncryptRequest::parse(br#"{"plaintext":"c2VjcmV0"}"#).unwrap();
        let shown = format!("{request:?}");
        assert!(
            shown.contains("6 bytes") && !shown.contains("secret") && !shown.contains("c2Vj"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_it_was_written(
            ciphertext in proptest::collection::vec(any::<u8>(), 0..100),
            context in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let request = DecryptRequest {
                ciphertext: Base64::copy_of(&ciphertext),
                context: Base64::copy_of(&context),
                version: String::new(),
            };
            let body = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(DecryptRequest::parse(&body), Ok(request));
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (GenerateRequest::parse(&body), DecryptRequest::parse_bulk(&body), ImportRequest::parse(&body));
        }
    }
}
