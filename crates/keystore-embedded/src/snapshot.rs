//! One point in time of a store, to be read from beginning to end.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;

use kes_keystore::{EntryName, StoreError};
use kes_seal::HeaderRecord;
use kes_types::Timestamp;
use redb::{ReadTransaction, ReadableTableMetadata as _};

use crate::disk::with_unwinding_reads;
use crate::fault::{Fault, contain};
use crate::ops::Counts;
use crate::tables::{self, Entries as EntryTables, ReadTable};

/// An entry as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    pub(crate) name: EntryName,
    /// When it was deleted, in Unix seconds, if it was.
    pub(crate) deleted: Option<u64>,
    pub(crate) sealed: Vec<u8>,
}

impl fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredEntry")
            .field("name", &self.name)
            .field("deleted", &self.deleted)
            .field("sealed", &format_args!("{} bytes", self.sealed.len()))
            .finish()
    }
}

/// One point in time. Its methods block.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    /// What the store is called in errors.
    store: String,
}

impl Snapshot {
    pub(crate) const fn new(transaction: ReadTransaction, store: String) -> Self {
        Self { transaction, store }
    }

    pub(crate) fn header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        self.read(|| header(&self.transaction))
    }

    /// All entries in the order of their names, deleted ones among them. After an error there is no further one.
    pub(crate) fn entries(&self) -> Result<Entries<'_>, StoreError> {
        let tables = self.read(|| EntryTables::open(&self.transaction))?;
        Ok(Entries {
            snapshot: self,
            live: Merged::new(tables.live, tables.values, Kind::Live),
            deleted: Merged::new(tables.deleted, tables.deleted_values, Kind::Deleted),
            ended: false,
        })
    }

    fn read<T>(&self, read: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
        contain(|| with_unwinding_reads(read)).map_err(|fault| store_error(fault, &self.store))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// All entries of a snapshot.
pub(crate) struct Entries<'s> {
    snapshot: &'s Snapshot,
    live: Merged,
    deleted: Merged,
    ended: bool,
}

impl Entries<'_> {
    fn step(&mut self) -> Result<Option<StoredEntry>, Fault> {
        self.live.fill()?;
        self.deleted.fill()?;
        let take_live = match (self.live.peek(), self.deleted.peek()) {
            (Some(live), Some(deleted)) if live == deleted => return Err(tables::disagreement(live)),
            (Some(live), Some(deleted)) => live < deleted,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(None),
        };
        let side = if take_live {
            &mut self.live
        } else {
            &mut self.deleted
        };
        Ok(side.ready.pop_front())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<StoredEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let snapshot = self.snapshot;
        match snapshot.read(|| self.step()) {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Live,
    Deleted,
}

/// A table and the one of its values, side by side, some rows at a time: no iterator of redb's outlives a call, so that a
/// panic in one leaves nothing behind.
struct Merged {
    index: ReadTable,
    values: ReadTable,
    kind: Kind,
    ready: VecDeque<StoredEntry>,
    after: Option<EntryName>,
    ended: bool,
}

impl Merged {
    fn new(index: ReadTable, values: ReadTable, kind: Kind) -> Self {
        Self {
            index,
            values,
            kind,
            ready: VecDeque::new(),
            after: None,
            ended: false,
        }
    }

    fn peek(&self) -> Option<&EntryName> {
        self.ready.front().map(|entry| &entry.name)
    }

    fn fill(&mut self) -> Result<(), Fault> {
        if self.ended || !self.ready.is_empty() {
            return Ok(());
        }
        let start = match &self.after {
            None => Bound::Unbounded,
            Some(after) => Bound::Excluded(after.as_str().as_bytes()),
        };
        let range = (start, Bound::<&[u8]>::Unbounded);
        let mut index = self.index.range::<&[u8]>(range)?;
        let mut values = self.values.range::<&[u8]>(range)?;
        let mut bytes = 0;
        while self.ready.len() < ROWS && bytes < BYTES {
            let (row, value) = match (index.next().transpose()?, values.next().transpose()?) {
                (None, None) => {
                    self.ended = true;
                    break;
                }
                (Some(row), Some(value)) => (row, value),
                (Some(one), None) | (None, Some(one)) => {
                    return Err(tables::disagreement(&tables::entry_name(one.0.value())?));
                }
            };
            let name = tables::entry_name(row.0.value())?;
            let (key, sealed) = (row.0.value(), value.1.value());
            let is_sound = key == value.0.value();
            let deleted = match self.kind {
                Kind::Live if is_sound && row.1.value() == tables::live_check(key, sealed) => None,
                Kind::Deleted if is_sound => match tables::deleted_at(key, row.1.value(), sealed) {
                    Some(at) => Some(at),
                    None => return Err(tables::disagreement(&name)),
                },
                Kind::Live | Kind::Deleted => return Err(tables::disagreement(&name)),
            };
            bytes += sealed.len();
            self.ready.push_back(StoredEntry {
                name,
                deleted,
                sealed: sealed.to_vec(),
            });
        }
        self.after = self.ready.back().map(|entry| entry.name.clone());
        Ok(())
    }
}

pub(crate) fn counts(transaction: &ReadTransaction) -> Result<Counts, Fault> {
    Ok(Counts {
        live: tables::read(transaction, tables::LIVE)?.len()?,
        deleted: tables::read(transaction, tables::DELETED)?.len()?,
    })
}

/// Whether as many values are there as names. If not, some key is damaged, which is an error for that key only.
pub(crate) fn counts_agree(transaction: &ReadTransaction, counts: Counts) -> Result<bool, Fault> {
    let values = tables::read(transaction, tables::VALUES)?.len()?;
    let deleted = tables::read(transaction, tables::DELETED_VALUES)?.len()?;
    Ok((counts.live, counts.deleted) == (values, deleted))
}

pub(crate) fn header(transaction: &ReadTransaction) -> Result<Option<HeaderRecord>, Fault> {
    let header = tables::read(transaction, tables::HEADER)?.get(tables::HEADER_ROW)?;
    let generation = tables::read(transaction, tables::GENERATION)?.get(tables::GENERATION_ROW)?;
    match (header, generation) {
        (Some(header), Some(generation)) => Ok(Some(HeaderRecord {
            header: header.value().to_vec(),
            generation: generation.value().to_vec(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Fault::Damaged("the generation is missing".to_owned())),
        (None, Some(_)) => Err(Fault::Damaged("the header is missing".to_owned())),
    }
}

pub(crate) fn last_backup(transaction: &ReadTransaction) -> Result<Option<Timestamp>, Fault> {
    let meta = tables::read(transaction, tables::META)?;
    let Some(seconds) = tables::meta_number(&meta, tables::BACKUP_ROW)? else {
        return Ok(None);
    };
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_unix_timestamp(seconds).ok())
        .map(Some)
        .ok_or_else(|| Fault::Damaged("the time of the last backup is none".to_owned()))
}

/// What a fault is called above the tables.
pub(crate) fn store_error(fault: Fault, store: &str) -> StoreError {
    match fault {
        Fault::Damaged(reason) => StoreError::Corrupt { reason },
        fault @ (Fault::Io(_) | Fault::Stale) => StoreError::Backend {
            store: store.to_owned(),
            source: fault.into(),
        },
    }
}

/// Few enough that they take little memory, enough that finding the place again costs little.
const ROWS: usize = 256;
/// As [`ROWS`], for large values. One more value than this is kept at most.
const BYTES: usize = 256 * 1024;
