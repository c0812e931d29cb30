//! Entries of an engine that keeps no versions.

use std::collections::BTreeMap;

use kes_keystore::EntryName;
use serde::Deserialize;

use super::stored::{Any, Stored};
use super::{BadEntry, Found, member};
use crate::api::{Body, Reply};

pub(super) fn body(name: &EntryName, stored: &Stored) -> Body {
    Body::new(&BTreeMap::from([(name.as_str(), stored)]), stored.secret())
}

pub(super) fn found(name: &EntryName, reply: &Reply) -> Result<Found, BadEntry> {
    #[derive(Deserialize)]
    struct Answer {
        data: BTreeMap<String, Any>,
    }
    let answer: Answer = reply.json().map_err(BadEntry::Answer)?;
    let stored = member(name, answer.data)?;
    Ok(Found {
        stored,
        version: None,
    })
}
