//! Entries of an engine that keeps versions. The first one is the key; there should be no other.

use std::collections::BTreeMap;

use kes_crypto::SecretBytes;
use kes_keystore::EntryName;
use serde::{Deserialize, Serialize};

use super::stored::{Any, Stored};
use super::{BadEntry, Found, member};
use crate::api::{ApiError, Body, Reply};

/// What the engine says of a version that it does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// It can be had back.
    Deleted,
    /// It cannot.
    Destroyed,
}

/// Which version a write has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written(pub(crate) u64);

pub(super) fn body(name: &EntryName, stored: &Stored) -> Body {
    #[derive(Serialize)]
    struct Write<'a> {
        options: Options,
        data: BTreeMap<&'a str, &'a Stored>,
    }
    #[derive(Serialize)]
    struct Options {
        /// Only if there is no version.
        cas: u64,
    }
    let write = Write {
        options: Options { cas: 0 },
        data: BTreeMap::from([(name.as_str(), stored)]),
    };
    Body::new(&write, stored.secret())
}

pub(super) fn found(name: &EntryName, reply: &Reply) -> Result<Found, BadEntry> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        data: BTreeMap<String, Any>,
        metadata: Metadata,
    }
    let answer: Answer = reply.json().map_err(BadEntry::Answer)?;
    let stored = member(name, answer.data.data)?;
    Ok(Found {
        stored,
        version: Some(answer.data.metadata.version),
    })
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    destroyed: bool,
}

impl Hidden {
    /// Reads what comes with a 404.
    pub(crate) fn read(body: &SecretBytes) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            metadata: Metadata,
        }
        let answer: Answer = serde_json::from_slice(body.expose_secret()).ok()?;
        let destroyed = answer.data.metadata.destroyed;
        Some(if destroyed { Self::Destroyed } else { Self::Deleted })
    }
}

impl Written {
    /// Reads the answer to a write.
    pub(crate) fn read(reply: &Reply) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            version: u64,
        }
        Ok(Self(reply.json::<Answer>()?.data.version))
    }
}
