//! JSON objects whose members of interest are texts.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

/// A text, borrowed where it has no escapes and otherwise zeroed when dropped.
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Zeroizing<String>),
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text::Owned(Zeroizing::new(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// The members of the object `input` that are called `names`. Other members are ignored, of a repeated one the last counts,
/// and `null` is the same as absent. `None` when `input` is no such object.
pub(crate) fn members<'a, const N: usize>(
    input: &'a [u8],
    names: [&'static str; N],
) -> Option<[Option<Text<'a>>; N]> {
    let mut deserializer = serde_json::Deserializer::from_slice(input);
    let found = deserializer.deserialize_map(Members(names)).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

struct Members<const N: usize>([&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<Text<'de>>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match self
                .0
                .iter()
                .zip(&mut found)
                .find(|(wanted, _)| **wanted == name.as_str())
            {
                Some((_, slot)) => {
                    if let Some(text) = map.next_value::<Option<Text<'de>>>()? {
                        *slot = Some(text);
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str) -> Option<[Option<String>; 2]> {
        let found = members(input.as_bytes(), ["a", "b"])?;
        Some(found.map(|text| text.map(|text| text.as_str().to_owned())))
    }

    #[test]
    fn unknown_members_are_ignored_and_the_last_of_a_name_counts() {
        assert_eq!(read("{}"), Some([None, None]));
        assert_eq!(read(r#" {"a":"1"} "#), Some([Some("1".into()), None]));
        assert_eq!(
            read(r#"{"c":[{"a":1}],"a":"1","b":"2","a":"\u0033"}"#),
            Some([Some("3".into()), Some("2".into())])
        );
        assert_eq!(read(r#"{"a":"1","a":null}"#), Some([Some("1".into()), None]));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{",
            r#"{"a":1}"#,
            r#"{"a":"1"}x"#,
            r#"{"a":"1",}"#,
            r#"{"a":"\x"}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
