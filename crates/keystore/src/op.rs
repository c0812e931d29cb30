//! What a wrapper calls the operations of a key store.

use std::fmt;

/// An operation of a [`KeyStore`](crate::KeyStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreOp {
    /// `create`
    Create,
    /// `get`
    Get,
    /// `delete`
    Delete,
    /// `list`
    List,
    /// `ping`
    Ping,
}

impl StoreOp {
    /// Every operation, so that each can be shown before it was first used.
    pub const ALL: [Self; 5] = [Self::Create, Self::Get, Self::Delete, Self::List, Self::Ping];

    /// The operation's name, for a log or as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Ping => "ping",
        }
    }
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
