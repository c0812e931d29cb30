//! Backups taken apart and put together as the document says, by code that shares nothing with the store's.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use kes_seal::{HeaderRecord, StoreKey, open_header};

use crate::rig;

/// A backup, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) store_id: [u8; 16],
    pub(super) record: HeaderRecord,
    pub(super) entries: Vec<Entry>,
    pub(super) tag: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) deleted: Option<u64>,
    pub(super) name: String,
    pub(super) sealed: Vec<u8>,
}

impl Form {
    pub(super) fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let mut rest = &bytes[..];
        assert_eq!(take(&mut rest, 8), b"KES-BKP\n");
        assert_eq!(number(&mut rest, 4), 1);
        let store_id = take(&mut rest, 16).try_into().unwrap();
        let mut sized = |lengths| {
            let length = number(&mut rest, lengths);
            take(&mut rest, length as usize).to_vec()
        };
        let record = HeaderRecord {
            header: sized(4),
            generation: sized(4),
        };
        let mut entries = Vec::new();
        let kind = loop {
            let deleted = match number(&mut rest, 1) {
                1 => None,
                2 => Some(number(&mut rest, 8)),
                other => break other,
            };
            let length = number(&mut rest, 1);
            let name = String::from_utf8(take(&mut rest, length as usize).to_vec()).unwrap();
            let length = number(&mut rest, 4);
            entries.push(Entry {
                deleted,
                name,
                sealed: take(&mut rest, length as usize).to_vec(),
            });
        };
        assert_eq!(kind, 0);
        let deleted = entries.iter().filter(|entry| entry.deleted.is_some()).count() as u64;
        assert_eq!(number(&mut rest, 8), entries.len() as u64 - deleted);
        assert_eq!(number(&mut rest, 8), deleted);
        let digested = take(&mut &bytes[..], bytes.len() - rest.len());
        assert_eq!(take(&mut rest, 32), digest(&SHA256, digested).as_ref());
        let length = number(&mut rest, 2);
        let tag = take(&mut rest, length as usize).to_vec();
        assert!(rest.is_empty());
        Self {
            store_id,
            record,
            entries,
            tag,
        }
    }

    /// The bytes, with the right counts and digest, and the tag as it is.
    pub(super) fn write(&self) -> Vec<u8> {
        let (mut bytes, digest) = self.digested();
        bytes.extend(digest);
        bytes.extend((self.tag.len() as u16).to_be_bytes());
        bytes.extend(&self.tag);
        bytes
    }

    /// The bytes with a tag that the holder of the root key makes.
    pub(super) fn write_with(&self, key: &StoreKey) -> Vec<u8> {
        let (_, digest) = self.digested();
        Self {
            tag: key.authenticate_backup(&digest).unwrap(),
            ..self.clone()
        }
        .write()
    }

    /// The root key, with which the tests do what only its holder could.
    pub(super) async fn key(&self) -> StoreKey {
        open_header("the test", &self.record, &vec![rig::seal(1)])
            .await
            .unwrap()
            .key
    }

    /// The digest of the content as documented.
    pub(super) fn content_digest(&self) -> String {
        let mut content = b"KES store content v1\0".to_vec();
        content.extend(self.store_id);
        self.put_entries(&mut content);
        let hex = digest(&SHA256, &content);
        hex.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn digested(&self) -> (Vec<u8>, [u8; 32]) {
        let HeaderRecord { header, generation } = &self.record;
        let mut bytes = [b"KES-BKP\n\0\0\0\x01", &self.store_id[..]].concat();
        for part in [header, generation] {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        }
        self.put_entries(&mut bytes);
        let digest = digest(&SHA256, &bytes).as_ref().try_into().unwrap();
        (bytes, digest)
    }

    fn put_entries(&self, bytes: &mut Vec<u8>) {
        let (mut keys, mut gone) = (0_u64, 0_u64);
        for Entry {
            deleted,
            name,
            sealed,
        } in &self.entries
        {
            match deleted {
                None => {
                    keys += 1;
                    bytes.push(1);
                }
                Some(time) => {
                    gone += 1;
                    bytes.push(2);
                    bytes.extend(time.to_be_bytes());
                }
            }
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            bytes.extend((sealed.len() as u32).to_be_bytes());
            bytes.extend(sealed);
        }
        bytes.push(0);
        bytes.extend(keys.to_be_bytes());
        bytes.extend(gone.to_be_bytes());
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, others) = rest.split_at(length);
    *rest = others;
    taken
}

fn number(rest: &mut &[u8], length: usize) -> u64 {
    take(rest, length)
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
