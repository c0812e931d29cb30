//! What a backup consists of, and the digest of its content.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::BufMut;
use kes_keystore::EntryName;

use crate::snapshot::StoredEntry;
use crate::verify::Report;

/// How a backup begins.
pub(crate) const MAGIC: [u8; 8] = *b"KES-BKP\n";
/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;

/// First byte of the trailer.
pub(super) const END: u8 = 0;
/// First byte of an entry that is there.
pub(super) const LIVE: u8 = 1;
/// First byte of an entry that was deleted and can be brought back.
pub(super) const DELETED: u8 = 2;

/// The longest generation record. One has less than a hundred bytes.
pub(super) const MAX_GENERATION: usize = 4 * 1024;
/// The longest tag of the trailer. One has less than a hundred bytes.
pub(super) const MAX_TAG: usize = 256;

/// The length of the digest in the trailer.
pub(super) const DIGEST: usize = 32;
/// The most that is sent or parsed at once.
pub(crate) const PIECE: usize = 64 * 1024;

/// Makes the digest of a content differ from that of a file.
const CONTENT_DOMAIN: &[u8] = b"KES store content v1\0";

/// The entries that went by: counts them, holds them to their order, and takes the digest of the content.
///
/// A backup and a store file have the same digest when they are of one store and hold the same entries in the same state.
pub(crate) struct Content {
    store_id: [u8; 16],
    digest: Context,
    last: Option<EntryName>,
    keys: u64,
    deleted: u64,
    head: Vec<u8>,
}

impl Content {
    pub(crate) fn new(store_id: [u8; 16]) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(CONTENT_DOMAIN);
        digest.update(&store_id);
        Self {
            store_id,
            digest,
            last: None,
            keys: 0,
            deleted: 0,
            head: Vec::new(),
        }
    }

    /// Takes the next entry; `false` if its name does not come after the one before.
    #[must_use]
    pub(crate) fn entry(&mut self, entry: &StoredEntry) -> bool {
        let StoredEntry {
            name,
            deleted,
            sealed,
        } = entry;
        if self.last.as_ref().is_some_and(|last| last >= name) {
            return false;
        }
        self.head.clear();
        put_head(&mut self.head, entry);
        self.digest.update(&self.head);
        self.digest.update(sealed);
        match deleted {
            None => self.keys += 1,
            Some(_) => self.deleted += 1,
        }
        self.last = Some(name.clone());
        true
    }

    /// How many entries went by.
    pub(crate) const fn entries(&self) -> u64 {
        self.keys + self.deleted
    }

    pub(super) const fn keys(&self) -> u64 {
        self.keys
    }

    pub(super) const fn deleted(&self) -> u64 {
        self.deleted
    }

    /// There are no more entries.
    pub(crate) fn finish(mut self, format: u32) -> Report {
        self.head.clear();
        put_end(&mut self.head, self.keys, self.deleted);
        self.digest.update(&self.head);
        Report {
            store_id: hex(&self.store_id),
            format,
            keys: self.keys,
            deleted: self.deleted,
            digest: hex(self.digest.finish().as_ref()),
        }
    }
}

/// What stands before an entry's value.
pub(super) fn put_head(out: &mut impl BufMut, entry: &StoredEntry) {
    let StoredEntry {
        name,
        deleted,
        sealed,
    } = entry;
    match deleted {
        None => out.put_u8(LIVE),
        Some(time) => {
            out.put_u8(DELETED);
            out.put_u64(*time);
        }
    }
    let name = name.as_str().as_bytes();
    // A name has at most 80 bytes, and whoever writes an entry has looked at its length.
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.put_slice(name);
    out.put_u32(u32::try_from(sealed.len()).unwrap_or(u32::MAX));
}

/// The trailer up to the digest.
pub(super) fn put_end(out: &mut impl BufMut, keys: u64, deleted: u64) {
    out.put_u8(END);
    out.put_u64(keys);
    out.put_u64(deleted);
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
