//! What nobody but the caller may see.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes: a plaintext, a data key, or what an HMAC key has made. Zeroed when dropped, and never shown: `Debug` says how
/// many there are.
///
/// ```
/// use kes_client::Secret;
///
/// let secret = Secret::copy_of(b"attack at dawn");
/// assert_eq!(format!("{secret:?}"), "Secret(14 bytes)");
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A copy of `bytes`, which whoever owns them has to clear.
    ///
    /// ```
    /// let secret = kes_client::Secret::copy_of(&[7; 32]);
    /// assert_eq!(secret.len(), 32);
    /// ```
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes. Whoever calls this answers for where they go.
    ///
    /// ```
    /// let secret = kes_client::Secret::copy_of(b"attack at dawn");
    /// assert_eq!(secret.expose_secret(), b"attack at dawn");
    /// ```
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as a buffer that still is zeroed when dropped.
    ///
    /// ```
    /// let buffer = kes_client::Secret::copy_of(b"attack at dawn").into_zeroizing();
    /// assert_eq!(*buffer, b"attack at dawn");
    /// ```
    #[must_use]
    pub fn into_zeroizing(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// How many bytes there are.
    ///
    /// ```
    /// assert_eq!(kes_client::Secret::copy_of(b"abc").len(), 3);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    ///
    /// ```
    /// assert!(kes_client::Secret::copy_of(b"").is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
