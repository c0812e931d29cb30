//! The tables of the file, and what their rows look like. `docs/embedded-format.md` describes them too.
//!
//! Every key is bytes, so that redb has nothing to check in them that damage could make it panic over. Each entry stands in
//! two tables, of which one has a checksum of the other's row: a damaged page can lose a row of one, and that shows.

use aws_lc_rs::digest::{Context, SHA256};
use kes_keystore::EntryName;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableHandle as _, WriteTransaction,
};

use crate::fault::Fault;

pub(crate) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(crate) type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
pub(crate) type WriteTable<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Name of a key that is there: checksum.
pub(crate) const LIVE: Definition = TableDefinition::new("live");
/// Name of a key that is there: its sealed value.
pub(crate) const VALUES: Definition = TableDefinition::new("values");
/// Name of a deleted key: when it was deleted, and checksum.
pub(crate) const DELETED: Definition = TableDefinition::new("deleted");
/// Name of a deleted key: its sealed value.
pub(crate) const DELETED_VALUES: Definition = TableDefinition::new("deleted-values");
/// When a key was deleted, and its name: nothing.
pub(crate) const EXPIRY: Definition = TableDefinition::new("expiry");
/// The header.
pub(crate) const HEADER: Definition = TableDefinition::new("header");
/// The generation.
pub(crate) const GENERATION: Definition = TableDefinition::new("generation");
/// Numbers about the file.
pub(crate) const META: Definition = TableDefinition::new("meta");

pub(crate) const ALL: [Definition; 8] = [
    LIVE,
    VALUES,
    DELETED,
    DELETED_VALUES,
    EXPIRY,
    HEADER,
    GENERATION,
    META,
];

/// The only row of the tables [`HEADER`] and [`GENERATION`].
pub(crate) const HEADER_ROW: &[u8] = b"header";
pub(crate) const GENERATION_ROW: &[u8] = b"generation";
/// The row of [`META`] that says which version of this format the file has.
pub(crate) const FORMAT_ROW: &[u8] = b"format";
/// The row of [`META`] that says when the last backup was read to its end, in Unix seconds.
pub(crate) const BACKUP_ROW: &[u8] = b"last-backup";

/// The version of the tables that this program reads and writes.
pub(crate) const FORMAT: u64 = 1;

/// Opens a table to read.
pub(crate) fn read(transaction: &ReadTransaction, table: Definition) -> Result<ReadTable, Fault> {
    Ok(transaction.open_table(table)?)
}

/// Fails unless all tables are there. To be asked before they are opened to write: redb would make the missing ones anew.
pub(crate) fn check_all_are_there(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut missing: Vec<_> = ALL.iter().map(|table| table.name().to_owned()).collect();
    for table in transaction.list_tables()? {
        missing.retain(|name| name != table.name());
    }
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(Fault::Damaged(format!("the table '{name}' is missing"))),
    }
}

/// What stands under a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Live(Vec<u8>),
    /// Deleted at this time in Unix seconds.
    Deleted(u64, Vec<u8>),
}

/// The four tables of entries, to read.
pub(crate) struct Entries<T> {
    pub(crate) live: T,
    pub(crate) values: T,
    pub(crate) deleted: T,
    pub(crate) deleted_values: T,
}

impl Entries<ReadTable> {
    pub(crate) fn open(transaction: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            live: read(transaction, LIVE)?,
            values: read(transaction, VALUES)?,
            deleted: read(transaction, DELETED)?,
            deleted_values: read(transaction, DELETED_VALUES)?,
        })
    }
}

impl<'t> Entries<WriteTable<'t>> {
    pub(crate) fn open_to_write(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            live: transaction.open_table(LIVE)?,
            values: transaction.open_table(VALUES)?,
            deleted: transaction.open_table(DELETED)?,
            deleted_values: transaction.open_table(DELETED_VALUES)?,
        })
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Entries<T> {
    /// What stands under `name`, after checking that the tables agree.
    pub(crate) fn find(&self, name: &EntryName) -> Result<Found, Fault> {
        let key = name.as_str().as_bytes();
        let live = self.live.get(key)?;
        let value = self.values.get(key)?;
        match (live, value) {
            (Some(entry), Some(value)) => {
                let value = value.value();
                if entry.value() != live_check(key, value) {
                    return Err(disagreement(name));
                }
                return Ok(Found::Live(value.to_vec()));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(disagreement(name)),
        }
        let deleted = self.deleted.get(key)?;
        let value = self.deleted_values.get(key)?;
        match (deleted, value) {
            (Some(entry), Some(value)) => {
                let value = value.value();
                let at = deleted_at(key, entry.value(), value).ok_or_else(|| disagreement(name))?;
                Ok(Found::Deleted(at, value.to_vec()))
            }
            (None, None) => Ok(Found::Nothing),
            (Some(_), None) | (None, Some(_)) => Err(disagreement(name)),
        }
    }
}

/// The tables say different things about `name`.
pub(crate) fn disagreement(name: &EntryName) -> Fault {
    Fault::Damaged(format!("the tables do not agree about the key '{name}'"))
}

/// The name that a listed key is.
pub(crate) fn entry_name(key: &[u8]) -> Result<EntryName, Fault> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|text| EntryName::parse(text).ok())
        .ok_or_else(|| Fault::Damaged("an entry has a name that is none".to_owned()))
}

/// The row of [`LIVE`] for this name and value.
pub(crate) fn live_check(name: &[u8], value: &[u8]) -> [u8; CHECK] {
    check(LIVE_DOMAIN, name, &[value])
}

/// The row of [`DELETED`] for this name and value.
pub(crate) fn deleted_row(name: &[u8], at: u64, value: &[u8]) -> [u8; 8 + CHECK] {
    number_row(DELETED_DOMAIN, name, at, value)
}

/// The time in a row of [`DELETED`], if the row is as it was written.
pub(crate) fn deleted_at(name: &[u8], row: &[u8], value: &[u8]) -> Option<u64> {
    number_in(DELETED_DOMAIN, name, row, value)
}

/// A row of [`META`].
pub(crate) fn meta_row(key: &[u8], number: u64) -> [u8; 8 + CHECK] {
    number_row(META_DOMAIN, key, number, b"")
}

/// The number in a row of [`META`].
pub(crate) fn meta_number(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<u64>, Fault> {
    let Some(row) = table.get(key)? else {
        return Ok(None);
    };
    match number_in(META_DOMAIN, key, row.value(), b"") {
        Some(number) => Ok(Some(number)),
        None => Err(Fault::Damaged(format!(
            "the row '{}' of the table 'meta' is damaged",
            String::from_utf8_lossy(key)
        ))),
    }
}

/// A key of [`EXPIRY`].
pub(crate) fn expiry_key(at: u64, name: &[u8]) -> Vec<u8> {
    [&at.to_be_bytes(), name].concat()
}

/// The parts of a key of [`EXPIRY`].
pub(crate) fn expiry_parts(key: &[u8]) -> Result<(u64, EntryName), Fault> {
    let Some((at, name)) = key.split_first_chunk() else {
        return Err(Fault::Damaged(
            "a row of the table 'expiry' is damaged".to_owned(),
        ));
    };
    Ok((u64::from_be_bytes(*at), entry_name(name)?))
}

fn number_row(domain: &[u8], name: &[u8], number: u64, value: &[u8]) -> [u8; 8 + CHECK] {
    let number = number.to_be_bytes();
    let check = check(domain, name, &[&number, value]);
    let mut row = [0; 8 + CHECK];
    let (start, end) = row.split_at_mut(number.len());
    start.copy_from_slice(&number);
    end.copy_from_slice(&check);
    row
}

fn number_in(domain: &[u8], name: &[u8], row: &[u8], value: &[u8]) -> Option<u64> {
    let (number, _) = row.split_first_chunk()?;
    let number = u64::from_be_bytes(*number);
    (row == number_row(domain, name, number, value)).then_some(number)
}

/// The first bytes of SHA-256 over the table, the length of the name, the name, and the rest.
fn check(domain: &[u8], name: &[u8], rest: &[&[u8]]) -> [u8; CHECK] {
    let mut context = Context::new(&SHA256);
    context.update(domain);
    context.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(name);
    for part in rest {
        context.update(part);
    }
    let mut check = [0; CHECK];
    check.copy_from_slice(context.finish().as_ref().get(..CHECK).unwrap_or(&[0; CHECK]));
    check
}

/// Bytes of a checksum. It finds damage; whoever can write to the file is kept out by the sealing.
const CHECK: usize = 8;

const LIVE_DOMAIN: &[u8] = b"kes embedded live\0";
const DELETED_DOMAIN: &[u8] = b"kes embedded deleted\0";
const META_DOMAIN: &[u8] = b"kes embedded meta\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::hex;

    const NAME: &[u8] = b"my-key";
    const VALUE: &[u8] = &[1, 2, 3];
    const TIME: u64 = 1_700_000_000;

    /// The vectors of `docs/embedded-format.md`.
    #[test]
    fn rows_are_made_as_documented() {
        let document = include_str!("../../../docs/embedded-format.md");
        let documented = |what: &str, row: &[u8]| {
            let line = document
                .lines()
                .find_map(|line| line.strip_prefix("    ")?.strip_prefix(what))
                .unwrap_or_else(|| panic!("no vector for the {what}"));
            assert_eq!(line.trim(), hex(row), "{what}");
        };
        documented("row of live ", &live_check(NAME, VALUE));
        documented("row of deleted ", &deleted_row(NAME, TIME, VALUE));
        documented("key of expiry ", &expiry_key(TIME, NAME));
        documented("row format of meta ", &meta_row(FORMAT_ROW, FORMAT));
        documented("row last-backup of meta ", &meta_row(BACKUP_ROW, TIME));
    }

    #[test]
    fn a_row_that_was_altered_or_moved_is_not_read() {
        let row = deleted_row(NAME, TIME, VALUE);
        assert_eq!(deleted_at(NAME, &row, VALUE), Some(TIME));
        assert_eq!(deleted_at(b"my-kez", &row, VALUE), None);
        assert_eq!(deleted_at(NAME, &row, &[1, 2, 4]), None);
        for bit in 0..row.len() * 8 {
            let mut altered = row;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(deleted_at(NAME, &altered, VALUE), None, "bit {bit}");
        }
        for length in 0..row.len() {
            assert_eq!(deleted_at(NAME, &row[..length], VALUE), None, "{length} bytes");
        }
        // The same bytes in another table, or with the border between name and value elsewhere.
        assert_ne!(live_check(NAME, VALUE), live_check(b"my-key\x01", &[2, 3]));
        assert_ne!(row, meta_row(NAME, TIME));
    }

    #[test]
    fn the_keys_of_deletions_are_in_the_order_of_time() {
        let name = EntryName::parse("my-key").unwrap();
        assert_eq!(expiry_parts(&expiry_key(TIME, NAME)).unwrap(), (TIME, name));
        assert!(expiry_key(255, b"z") < expiry_key(256, b"a"));
        for key in [&b""[..], &[0; 7], &[0; 8], &[0, 0, 0, 0, 0, 0, 0, 0, b'/']] {
            assert!(matches!(expiry_parts(key), Err(Fault::Damaged(_))), "{key:?}");
        }
    }
}
