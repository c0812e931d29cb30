//! What goes into a key store and comes out of it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use kes_crypto::SecretBytes;
use kes_types::{BadName, KeyName};

/// The name of an entry. Only the key ring makes one out of a [`KeyName`]; today they are the same text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(Arc<str>);

impl EntryName {
    /// The entry that keeps the key `name`.
    #[must_use]
    pub fn of_key(name: &KeyName) -> Self {
        Self(name.as_str().into())
    }

    /// Reads an entry name that a store has listed.
    ///
    /// # Errors
    /// When it could not be the name of a key.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        KeyName::parse(text).map(|name| Self::of_key(&name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets an ordered map of entries be searched by any text, such as a prefix: the order is that of the text's bytes.
impl Borrow<str> for EntryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A stored value.
#[derive(Debug)]
pub struct Entry {
    /// The bytes as they were given to `create`.
    pub value: SecretBytes,
    /// What the service calls this state of the value, where it has such a name.
    pub revision: Option<String>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Names in byte order.
    pub names: Vec<EntryName>,
    /// The position after which the next page starts; `None` on the last one.
    pub next: Option<EntryName>,
}
