//! Names that have passed the name rule.

use std::fmt;
use std::sync::Arc;

/// The longest name in bytes.
const MAX_LEN: usize = 80;

/// Whether `text` satisfies the name rule of keys, policies, identities and enclaves: 1 to 80 bytes of ASCII letters,
/// digits, `-` and `_`, where `-` is neither first nor last, and which is not the single `_`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_LEN).contains(&bytes.len())
        && bytes.iter().all(|&b| is_name_byte(b))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
        && bytes != b"_"
}

/// Whether `byte` may stand in a name.
pub(crate) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Whether `text` could begin a name: its characters and its length, but not its end.
pub(crate) fn is_name_prefix(text: &str) -> bool {
    text.len() <= MAX_LEN && text.bytes().all(is_name_byte) && !text.starts_with('-')
}

/// A text that breaks the name rule. Its `Display` is the message that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{}' is empty, too long or contains invalid characters", printable(.text))]
pub struct BadName {
    what: &'static str,
    text: String,
}

impl BadName {
    pub(crate) fn new(what: &'static str, text: &str) -> Self {
        Self {
            what,
            text: text.to_owned(),
        }
    }
}

/// `text` cut to what is worth showing, without control characters.
pub(crate) fn printable(text: &str) -> String {
    const SHOWN: usize = 100;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the name rule ([`is_name`]).
            ///
            /// # Errors
            /// Says which name is bad.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(BadName::new($what, text)) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name!(
    /// The name of a master key.
    KeyName,
    "key name"
);
name!(
    /// The name of a policy.
    PolicyName,
    "policy name"
);
name!(
    /// The name of an enclave, which clients of 2022 and 2023 send. It has no effect.
    EnclaveName,
    "enclave name"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_rule_at_its_edges() {
        let longest = "a".repeat(80);
        for good in ["a", "0", "_-___---_", "__", "a_", "_a", "A-b_9", longest.as_str()] {
            assert!(is_name(good), "{good:?}");
        }
        let too_long = "a".repeat(81);
        for bad in [
            "",
            "_",
            "-",
            "-a",
            "a-",
            "a b",
            "a/b",
            "..",
            ".",
            "a.b",
            "ä",
            "a\0",
            "a%2e",
            "~a",
            "a\n",
            too_long.as_str(),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_is_quoted_in_the_message_that_sdks_compare() {
        assert_eq!(
            KeyName::parse("a.b").unwrap_err().to_string(),
            "key name 'a.b' is empty, too long or contains invalid characters"
        );
        assert_eq!(
            PolicyName::parse("").unwrap_err().to_string(),
            "policy name '' is empty, too long or contains invalid characters"
        );
        let long = KeyName::parse(&"\n".repeat(5000)).unwrap_err().to_string();
        assert!(long.len() < 200 && !long.contains('\n'), "{long}");
    }

    proptest! {
        #[test]
        fn a_name_reads_back_as_it_was(text in "[0-9A-Za-z_][0-9A-Za-z_-]{0,78}[0-9A-Za-z]") {
            let name = KeyName::parse(&text).unwrap();
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(name.to_string(), text);
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in any::<String>()) {
            prop_assert_eq!(KeyName::parse(&text).is_ok(), is_name(&text));
        }
    }
}
