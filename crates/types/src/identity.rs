//! Who a client is.

use std::fmt;
use std::sync::Arc;

use crate::name::{BadName, is_name};

/// The identity of a client: the lower-case hexadecimal SHA-256 of its certificate's `SubjectPublicKeyInfo`.
///
/// A policy may also be assigned to a text that no certificate hashes to, such as a placeholder; it then never matches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The identity whose SHA-256 is `digest`.
    #[must_use]
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let hex: String = digest
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 0x0f])
            .map(|nibble| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')))
            .collect();
        Self(hex.into())
    }

    /// Checks `text` against the name rule; 64 hexadecimal digits are turned to lower case.
    ///
    /// # Errors
    /// Says which identity is bad.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if !is_name(text) {
            return Err(BadName::new("identity", text));
        }
        Ok(if is_digest(text) {
            Self(text.to_ascii_lowercase().into())
        } else {
            Self(text.into())
        })
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a certificate can have this identity, that is, whether it has 64 hexadecimal digits.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        is_digest(&self.0)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_prints_as_lower_case_hex() {
        let mut digest = [0; 32];
        digest[0] = 0xab;
        digest[31] = 0x01;
        let text = Identity::from_digest(&digest).to_string();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with("ab00") && text.ends_with("0001"), "{text}");
    }

    #[test]
    fn an_upper_case_digest_is_the_same_identity() {
        let lower = Identity::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(Identity::parse(&"AB".repeat(32)).unwrap(), lower);
        assert!(lower.is_digest());
    }

    #[test]
    fn a_placeholder_keeps_its_case_and_is_no_digest() {
        let placeholder = Identity::parse("Disabled").unwrap();
        assert_eq!(placeholder.as_str(), "Disabled");
        assert!(!placeholder.is_digest());
        assert_eq!(
            Identity::parse("a.b").unwrap_err().to_string(),
            "identity 'a.b' is empty, too long or contains invalid characters"
        );
    }
}
