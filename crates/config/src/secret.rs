//! The secrets a configuration holds: passwords, tokens and access keys.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text, zeroed on drop and absent from every error, log line and `Debug` output.
///
/// It can be compared, unlike key bytes: a reload has to tell whether a password changed. The comparison takes
/// the same time whatever the difference is.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes `text` into custody.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The secret itself, for the call that needs it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretText {}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretText {
        SecretText::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let shown = format!("{:?} {:#?}", secret("hunter2"), Some(secret("hunter2")));
        assert!(!shown.contains("hunter") && !shown.contains('7'), "{shown}");
    }

    #[test]
    fn a_changed_secret_is_noticed() {
        assert_eq!(secret("hunter2"), secret("hunter2"));
        assert_ne!(secret("hunter2"), secret("hunter3"));
        assert_ne!(secret("hunter2"), secret("hunter"));
        assert_eq!(secret("hunter2").expose_secret(), "hunter2");
    }
}
