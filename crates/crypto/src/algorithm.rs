//! The two algorithms and what they have been called.

use std::fmt;

/// What a key encrypts with. Keys of both kinds have 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-256-GCM under a sub-key derived by HMAC-SHA-256.
    Aes256,
    /// ChaCha20-Poly1305 under a sub-key derived by HChaCha20.
    ChaCha20,
}

impl Algorithm {
    /// Reads a name of any year: `AES256`, `AES256-GCM_SHA256`, `ChaCha20` or `XCHACHA20-POLY1305`.
    ///
    /// # Errors
    /// Quotes any other name.
    pub fn parse(text: &str) -> Result<Self, UnsupportedAlgorithm> {
        Self::from_name(text.as_bytes()).ok_or_else(|| UnsupportedAlgorithm {
            name: printable(text),
        })
    }

    /// The name in use today.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::ChaCha20 => "ChaCha20",
        }
    }

    /// The faster one that is safe here: AES where the CPU has instructions for AES-GCM. Without them AES takes a time that
    /// may depend on the key.
    #[must_use]
    pub fn preferred() -> Self {
        if has_aes_instructions() {
            Self::Aes256
        } else {
            Self::ChaCha20
        }
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"AES256" | b"AES256-GCM_SHA256" => Some(Self::Aes256),
            b"ChaCha20" | b"XCHACHA20-POLY1305" => Some(Self::ChaCha20),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that stands for no algorithm. Its `Display` is the message that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("algorithm '{name}' is not supported")]
pub struct UnsupportedAlgorithm {
    name: String,
}

/// `text` cut to what is worth showing, without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(40)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
const fn has_aes_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_every_year_is_read() {
        for (name, algorithm) in [
            ("AES256", Algorithm::Aes256),
            ("AES256-GCM_SHA256", Algorithm::Aes256),
            ("ChaCha20", Algorithm::ChaCha20),
            ("XCHACHA20-POLY1305", Algorithm::ChaCha20),
        ] {
            assert_eq!(Algorithm::parse(name), Ok(algorithm));
        }
        assert_eq!(
            Algorithm::parse(Algorithm::Aes256.as_str()),
            Ok(Algorithm::Aes256)
        );
        assert_eq!(
            Algorithm::parse(Algorithm::ChaCha20.as_str()),
            Ok(Algorithm::ChaCha20)
        );
    }

    #[test]
    fn any_other_name_is_quoted_and_cut() {
        for bad in ["", "aes256", "AES256 ", "AES128", "CHACHA20"] {
            let error = Algorithm::parse(bad).unwrap_err().to_string();
            assert_eq!(error, format!("algorithm '{bad}' is not supported"));
        }
        let error = Algorithm::parse(&"\n".repeat(500)).unwrap_err().to_string();
        assert!(error.len() < 100 && !error.contains('\n'), "{error}");
    }
}
