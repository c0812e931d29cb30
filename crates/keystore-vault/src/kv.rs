//! Where the K/V engine keeps an entry, and in what form: an object with one member, which is named as the key.

mod stored;
mod v1;
mod v2;

use std::collections::BTreeMap;

use kes_keystore::EntryName;
use serde::Deserialize;

pub(crate) use stored::Stored;
pub(crate) use v2::{Hidden, Written};

use crate::KvVersion;
use crate::api::{ApiError, Body, Reply};
use crate::path::Path;

/// A folder in a K/V engine.
#[derive(Debug)]
pub(crate) struct Kv {
    engine: Path,
    version: KvVersion,
    /// Of entries.
    entries: Path,
    /// Of names.
    names: Path,
}

/// What is at a path.
#[derive(Debug)]
pub(crate) struct Found {
    /// What is stored there.
    pub(crate) stored: Stored,
    /// Which version that is, where the engine counts them.
    pub(crate) version: Option<u64>,
}

/// Why an answer holds no entry.
#[derive(Debug)]
pub(crate) enum BadEntry {
    /// It is no answer of a K/V engine.
    Answer(ApiError),
    /// There is an entry, but not one of a key.
    Corrupt(&'static str),
}

impl Kv {
    /// `prefix` in `engine`.
    pub(crate) fn new(engine: Path, version: KvVersion, prefix: Option<&Path>) -> Self {
        let below = |folder: Path| match prefix {
            Some(prefix) => folder.join(prefix),
            None => folder,
        };
        let (entries, names) = match version {
            KvVersion::V1 => (below(engine.clone()), below(engine.clone())),
            KvVersion::V2 => (below(engine.segment("data")), below(engine.segment("metadata"))),
        };
        Self {
            engine,
            version,
            entries,
            names,
        }
    }

    /// The mount path.
    pub(crate) const fn engine(&self) -> &Path {
        &self.engine
    }

    /// The engine's version.
    pub(crate) const fn version(&self) -> KvVersion {
        self.version
    }

    /// What to write an entry to.
    pub(crate) fn entry(&self, name: &EntryName) -> Path {
        self.entries.segment(name.as_str())
    }

    /// What to read an entry from: its first version, which is the key, whatever else was written later.
    pub(crate) fn first(&self, name: &EntryName) -> Path {
        match self.version {
            KvVersion::V1 => self.entry(name),
            KvVersion::V2 => self.entry(name).query("version=1"),
        }
    }

    /// What to delete so that nothing of an entry is left.
    pub(crate) fn whole(&self, name: &EntryName) -> Path {
        self.names.segment(name.as_str())
    }

    /// What to list.
    pub(crate) fn list(&self) -> Path {
        self.names.clone().query("list=true")
    }

    /// The body that writes an entry.
    pub(crate) fn body(&self, name: &EntryName, stored: &Stored) -> Body {
        match self.version {
            KvVersion::V1 => v1::body(name, stored),
            KvVersion::V2 => v2::body(name, stored),
        }
    }

    /// The entry in an answer.
    pub(crate) fn found(&self, name: &EntryName, reply: &Reply) -> Result<Found, BadEntry> {
        match self.version {
            KvVersion::V1 => v1::found(name, reply),
            KvVersion::V2 => v2::found(name, reply),
        }
    }

    /// The names in an answer: those of entries and, with a slash at their end, of folders.
    pub(crate) fn names(reply: &Reply) -> Result<Vec<String>, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            keys: Vec<String>,
        }
        Ok(reply.json::<Answer>()?.data.keys)
    }
}

/// The one member that is a key's. Whatever else was added by hand is left alone.
fn member(name: &EntryName, mut members: BTreeMap<String, stored::Any>) -> Result<Stored, BadEntry> {
    match members.remove(name.as_str()) {
        Some(stored::Any(Some(stored))) => Ok(stored),
        Some(stored::Any(None)) => Err(BadEntry::Corrupt(
            "the member of the entry that has the key's name is not a text",
        )),
        None => Err(BadEntry::Corrupt("the entry has no member with the key's name")),
    }
}
