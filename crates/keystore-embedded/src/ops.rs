//! What is written, one operation at a time, within a transaction that many of them share.

use kes_keystore::{EntryName, StoreError};
use kes_seal::HeaderRecord;
use kes_types::Timestamp;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use time::format_description::well_known::Rfc3339;

use crate::fault::Fault;
use crate::snapshot::StoredEntry;
use crate::tables::{self, Entries, Found, WriteTable};

/// A write.
#[derive(Debug)]
pub(crate) enum Op {
    Create {
        name: EntryName,
        value: Vec<u8>,
    },
    /// Another value in the place of the one that is there.
    Replace {
        name: EntryName,
        value: Vec<u8>,
    },
    Delete {
        name: EntryName,
    },
    Undelete {
        name: EntryName,
    },
    /// Many entries at once, of which none is there.
    Load(Vec<StoredEntry>),
    ReplaceHeader {
        expected: Option<HeaderRecord>,
        new: HeaderRecord,
    },
    RecordBackup {
        at: u64,
    },
}

impl Op {
    /// Whose entry this reads, before it writes.
    pub(crate) fn name(&self) -> Option<&EntryName> {
        match self {
            Self::Create { name, .. }
            | Self::Replace { name, .. }
            | Self::Delete { name }
            | Self::Undelete { name } => Some(name),
            Self::Load(_) | Self::ReplaceHeader { .. } | Self::RecordBackup { .. } => None,
        }
    }
}

/// What time it is for deletions, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: u64,
    /// For how long deleted entries are kept.
    pub(crate) period: u64,
}

impl Times {
    /// Whether what was deleted then is gone for good.
    pub(crate) const fn is_over(self, deleted: u64) -> bool {
        deleted.saturating_add(self.period) <= self.now
    }
}

/// The tables of a write transaction.
pub(crate) struct Tables<'t> {
    entries: Entries<WriteTable<'t>>,
    expiry: WriteTable<'t>,
    header: WriteTable<'t>,
    generation: WriteTable<'t>,
    meta: WriteTable<'t>,
}

/// How many entries there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) live: u64,
    pub(crate) deleted: u64,
}

impl<'t> Tables<'t> {
    /// Opens the tables, all of which are there.
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        tables::check_all_are_there(transaction)?;
        Self::open_or_make(transaction)
    }

    /// Makes the tables of a new store.
    pub(crate) fn make(transaction: &'t WriteTransaction) -> Result<(), Fault> {
        let mut tables = Self::open_or_make(transaction)?;
        let row = tables::meta_row(tables::FORMAT_ROW, tables::FORMAT);
        tables.meta.insert(tables::FORMAT_ROW, &row[..])?;
        Ok(())
    }

    fn open_or_make(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            entries: Entries::open_to_write(transaction)?,
            expiry: transaction.open_table(tables::EXPIRY)?,
            header: transaction.open_table(tables::HEADER)?,
            generation: transaction.open_table(tables::GENERATION)?,
            meta: transaction.open_table(tables::META)?,
        })
    }

    pub(crate) fn counts(&self) -> Result<Counts, Fault> {
        Ok(Counts {
            live: self.entries.live.len()?,
            deleted: self.entries.deleted.len()?,
        })
    }

    /// Does `op`, or changes nothing and says why. After a fault the transaction must not be committed.
    pub(crate) fn apply(&mut self, op: &Op, times: Times) -> Result<Result<(), StoreError>, Fault> {
        match op {
            Op::Create { name, value } => self.create(name, value, times),
            Op::Replace { name, value } => self.replace(name, value),
            Op::Delete { name } => self.delete(name, times),
            Op::Undelete { name } => self.undelete(name, times),
            Op::Load(entries) => self.load(entries),
            Op::ReplaceHeader { expected, new } => self.replace_header(expected.as_ref(), new),
            Op::RecordBackup { at } => {
                let row = tables::meta_row(tables::BACKUP_ROW, *at);
                self.meta.insert(tables::BACKUP_ROW, &row[..])?;
                Ok(Ok(()))
            }
        }
    }

    fn create(
        &mut self,
        name: &EntryName,
        value: &[u8],
        times: Times,
    ) -> Result<Result<(), StoreError>, Fault> {
        match self.entries.find(name)? {
            Found::Live(_) => return Ok(Err(StoreError::Exists)),
            Found::Deleted(at, _) if !times.is_over(at) => {
                let until = until(at.saturating_add(times.period));
                tracing::info!(
                    key = %name,
                    "the name belongs to a deleted key, which is kept {until}: `kes key undelete {name}` brings it back"
                );
                return Ok(Err(StoreError::Exists));
            }
            Found::Deleted(at, _) => self.forget(name, at)?,
            Found::Nothing => {}
        }
        self.insert_live(name, value)?;
        Ok(Ok(()))
    }

    fn replace(&mut self, name: &EntryName, value: &[u8]) -> Result<Result<(), StoreError>, Fault> {
        match self.entries.find(name)? {
            Found::Live(_) => {}
            Found::Deleted(..) | Found::Nothing => return Ok(Err(StoreError::NotFound)),
        }
        self.insert_live(name, value)?;
        Ok(Ok(()))
    }

    fn delete(&mut self, name: &EntryName, times: Times) -> Result<Result<(), StoreError>, Fault> {
        let Found::Live(value) = self.entries.find(name)? else {
            return Ok(Err(StoreError::NotFound));
        };
        let key = name.as_str().as_bytes();
        self.entries.live.remove(key)?;
        self.entries.values.remove(key)?;
        if times.period > 0 {
            self.insert_deleted(name, times.now, &value)?;
        }
        Ok(Ok(()))
    }

    fn undelete(&mut self, name: &EntryName, times: Times) -> Result<Result<(), StoreError>, Fault> {
        match self.entries.find(name)? {
            Found::Live(_) => Ok(Err(StoreError::Exists)),
            Found::Nothing => Ok(Err(StoreError::NotFound)),
            Found::Deleted(at, _) if times.is_over(at) => Ok(Err(StoreError::NotFound)),
            Found::Deleted(at, value) => {
                self.forget(name, at)?;
                self.insert_live(name, &value)?;
                Ok(Ok(()))
            }
        }
    }

    fn load(&mut self, entries: &[StoredEntry]) -> Result<Result<(), StoreError>, Fault> {
        let mut before: Option<&EntryName> = None;
        for StoredEntry { name, .. } in entries {
            if before.is_some_and(|before| before >= name) || self.entries.find(name)? != Found::Nothing {
                return Ok(Err(StoreError::Exists));
            }
            before = Some(name);
        }
        for StoredEntry {
            name,
            deleted,
            sealed,
        } in entries
        {
            match deleted {
                None => self.insert_live(name, sealed)?,
                Some(at) => self.insert_deleted(name, *at, sealed)?,
            }
        }
        Ok(Ok(()))
    }

    fn replace_header(
        &mut self,
        expected: Option<&HeaderRecord>,
        new: &HeaderRecord,
    ) -> Result<Result<(), StoreError>, Fault> {
        let row = |table: &WriteTable<'_>, row: &[u8]| -> Result<Option<Vec<u8>>, Fault> {
            Ok(table.get(row)?.map(|bytes| bytes.value().to_vec()))
        };
        let header = row(&self.header, tables::HEADER_ROW)?;
        let generation = row(&self.generation, tables::GENERATION_ROW)?;
        let expected_rows = (
            expected.map(|record| &record.header),
            expected.map(|record| &record.generation),
        );
        if (header.as_ref(), generation.as_ref()) != expected_rows {
            return Ok(Err(StoreError::Exists));
        }
        self.header.insert(tables::HEADER_ROW, &new.header[..])?;
        self.generation
            .insert(tables::GENERATION_ROW, &new.generation[..])?;
        Ok(Ok(()))
    }

    /// Removes the oldest deleted entries that are over, at most `limit` of them. How many it were.
    pub(crate) fn purge(&mut self, times: Times, limit: usize) -> Result<usize, Fault> {
        for purged in 0..limit {
            let Some((at, name)) = oldest_deletion(&self.expiry)? else {
                return Ok(purged);
            };
            if !times.is_over(at) {
                return Ok(purged);
            }
            match self.entries.find(&name)? {
                Found::Deleted(found, _) if found == at => self.forget(&name, at)?,
                Found::Deleted(..) | Found::Live(_) | Found::Nothing => {
                    return Err(tables::disagreement(&name));
                }
            }
        }
        Ok(limit)
    }

    fn insert_live(&mut self, name: &EntryName, value: &[u8]) -> Result<(), Fault> {
        let key = name.as_str().as_bytes();
        self.entries
            .live
            .insert(key, &tables::live_check(key, value)[..])?;
        self.entries.values.insert(key, value)?;
        Ok(())
    }

    fn insert_deleted(&mut self, name: &EntryName, at: u64, value: &[u8]) -> Result<(), Fault> {
        let key = name.as_str().as_bytes();
        self.entries
            .deleted
            .insert(key, &tables::deleted_row(key, at, value)[..])?;
        self.entries.deleted_values.insert(key, value)?;
        self.expiry.insert(&tables::expiry_key(at, key)[..], &b""[..])?;
        Ok(())
    }

    fn forget(&mut self, name: &EntryName, at: u64) -> Result<(), Fault> {
        let key = name.as_str().as_bytes();
        self.entries.deleted.remove(key)?;
        self.entries.deleted_values.remove(key)?;
        self.expiry.remove(&tables::expiry_key(at, key)[..])?;
        Ok(())
    }
}

/// Until this time in Unix seconds, in words for the log.
fn until(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .map_or_else(|| "for ever".to_owned(), |time| format!("until {time}"))
}

/// When the entry was deleted that has been deleted for longest, and its name.
pub(crate) fn oldest_deletion(
    expiry: &impl redb::ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<(u64, EntryName)>, Fault> {
    match expiry.first()? {
        None => Ok(None),
        Some((key, _)) => tables::expiry_parts(key.value()).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_until_when_in_rfc_3339() {
        assert_eq!(until(1_795_882_947), "until 2026-11-28T16:22:27Z");
        assert_eq!(until(u64::MAX), "for ever");
    }
}
