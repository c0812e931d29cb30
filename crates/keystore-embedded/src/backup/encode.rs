//! Writing a backup.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{BufMut as _, Bytes, BytesMut};
use kes_keystore::BoxError;
use kes_seal::{HeaderRecord, MAX_HEADER, MAX_SEALED, SealError};

use super::format::{Content, DIGEST, MAGIC, MAX_GENERATION, MAX_TAG, PIECE, VERSION, put_end, put_head};
use crate::snapshot::StoredEntry;

/// Writes a backup entry by entry; what is written has to be taken away meanwhile.
pub(crate) struct Encoder {
    out: BytesMut,
    /// Of everything that was ever put into `out`.
    digest: Context,
    content: Content,
}

impl Encoder {
    /// Begins a backup of the store `store_id`.
    pub(crate) fn new(store_id: [u8; 16], record: &HeaderRecord) -> Result<Self, BoxError> {
        let HeaderRecord { header, generation } = record;
        let mut encoder = Self {
            out: BytesMut::with_capacity(2 * PIECE),
            digest: Context::new(&SHA256),
            content: Content::new(store_id),
        };
        let start = encoder.out.len();
        encoder.out.put_slice(&MAGIC);
        encoder.out.put_u32(VERSION);
        encoder.out.put_slice(&store_id);
        encoder
            .out
            .put_u32(length(header, MAX_HEADER, "the store's header")?);
        encoder.out.put_slice(header);
        let size = length(generation, MAX_GENERATION, "the store's generation record")?;
        encoder.out.put_u32(size);
        encoder.out.put_slice(generation);
        encoder.digest_from(start);
        Ok(encoder)
    }

    /// Adds an entry. The entries come in the order of their names.
    pub(crate) fn entry(&mut self, entry: &StoredEntry) -> Result<(), BoxError> {
        let StoredEntry { name, sealed, .. } = entry;
        length(sealed, MAX_SEALED, "a value")?;
        if !self.content.entry(entry) {
            return Err(format!("key '{name}' is not where it should be in the order of names").into());
        }
        let start = self.out.len();
        put_head(&mut self.out, entry);
        self.out.put_slice(sealed);
        self.digest_from(start);
        Ok(())
    }

    /// A whole piece, if there is one to take away.
    pub(crate) fn piece(&mut self) -> Option<Bytes> {
        (self.out.len() >= PIECE).then(|| self.out.split_to(PIECE).freeze())
    }

    /// Ends the backup, with the tag that `authenticate` makes for its digest. What is left are at most a few pieces.
    pub(crate) fn finish(
        mut self,
        authenticate: impl FnOnce(&[u8; DIGEST]) -> Result<Vec<u8>, SealError>,
    ) -> Result<Vec<Bytes>, BoxError> {
        let start = self.out.len();
        put_end(&mut self.out, self.content.keys(), self.content.deleted());
        self.digest_from(start);
        let digest: [u8; DIGEST] = self.digest.finish().as_ref().try_into()?;
        let tag = authenticate(&digest)?;
        length(&tag, MAX_TAG, "the tag of the trailer")?;
        self.out.put_slice(&digest);
        self.out.put_u16(u16::try_from(tag.len())?);
        self.out.put_slice(&tag);

        let mut out = self.out.freeze();
        let mut pieces = Vec::new();
        while !out.is_empty() {
            pieces.push(out.split_to(out.len().min(PIECE)));
        }
        Ok(pieces)
    }

    fn digest_from(&mut self, start: usize) {
        self.digest.update(self.out.get(start..).unwrap_or_default());
    }
}

/// The length of a part that has a bound. A part beyond it could be written and not be read again.
fn length(bytes: &[u8], at_most: usize, what: &str) -> Result<u32, BoxError> {
    if bytes.len() > at_most {
        return Err(format!("{what} has {} bytes, which is too long for a backup", bytes.len()).into());
    }
    Ok(u32::try_from(bytes.len())?)
}
