//! Listing names.

use std::num::NonZeroUsize;
use std::ops::Bound;

use kes_keystore::{EntryName, Page};
use redb::ReadTransaction;

use crate::fault::Fault;
use crate::tables;

/// At most `limit` names that begin with `prefix`, after `after`.
pub(super) fn list(
    transaction: &ReadTransaction,
    prefix: &str,
    after: Option<&EntryName>,
    limit: NonZeroUsize,
) -> Result<Page, Fault> {
    let start = match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str().as_bytes()),
        Some(_) | None => Bound::Included(prefix.as_bytes()),
    };
    let range = (start, Bound::<&[u8]>::Unbounded);
    // Both tables have the same names, or something is damaged: a name must not go missing from a listing unseen.
    let mut live = tables::read(transaction, tables::LIVE)?.range::<&[u8]>(range)?;
    let mut values = tables::read(transaction, tables::VALUES)?.range::<&[u8]>(range)?;
    let mut names = Vec::new();
    loop {
        let name = match (live.next().transpose()?, values.next().transpose()?) {
            (None, None) => break,
            (Some(entry), Some(value)) => {
                let name = tables::entry_name(entry.0.value())?;
                if entry.0.value() != value.0.value() {
                    return Err(tables::disagreement(&name));
                }
                name
            }
            (Some(one), None) | (None, Some(one)) => {
                return Err(tables::disagreement(&tables::entry_name(one.0.value())?));
            }
        };
        if !name.as_str().starts_with(prefix) {
            break;
        }
        if names.len() >= limit.get() {
            return Ok(Page {
                next: names.last().cloned(),
                names,
            });
        }
        names.push(name);
    }
    Ok(Page { names, next: None })
}
