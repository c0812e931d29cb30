//! What a root key is wrapped with.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kes_crypto::SecretBytes;

use crate::SealError;

/// Wraps a store's root key and unwraps it again. Today a key; a hardware module or a key management service is another
/// implementation.
///
/// `Display` says where the seal is (`file /etc/kes/seal.key`, `environment variable KES_SEAL_KEY`), never what it is.
#[async_trait]
pub trait Seal: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Which seal this is. Always the same for the same secret, wherever it is kept.
    fn id(&self) -> SealId;

    /// The root key as an opaque text that only this seal opens, and only with the same `context`.
    async fn wrap(&self, context: &[u8], root: &SecretBytes) -> Result<Vec<u8>, SealError>;

    /// The root key in `blob`, or [`SealError::DoesNotOpen`] if this seal did not wrap it in this context.
    async fn unwrap(&self, context: &[u8], blob: &[u8]) -> Result<SecretBytes, SealError>;
}

/// The seals of a configuration: the first one wraps, any one unwraps. Never empty.
pub type Seals = Vec<Arc<dyn Seal>>;

/// Which seal: its kind and a public check value of its secret. `Display`: `key 0123456789abcdef`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealId {
    /// What kind of seal, such as `key`: 1 to 32 lower-case letters, digits and `-`.
    pub kind: String,
    /// Tells the secret from others and says nothing else about it.
    pub check: [u8; 8],
}

impl SealId {
    /// The check value as people see it: 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn check_text(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.check))
    }
}

impl fmt::Display for SealId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.check_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_value_is_shown_with_all_its_digits() {
        let id = SealId {
            kind: "key".to_owned(),
            check: [0, 1, 2, 3, 4, 5, 0xab, 0xff],
        };
        assert_eq!(id.to_string(), "key 000102030405abff");
    }
}
