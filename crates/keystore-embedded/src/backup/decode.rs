//! Reading a backup as it arrives.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use kes_keystore::EntryName;
use kes_seal::{HeaderRecord, MAX_HEADER, MAX_SEALED};

use super::error::BackupError;
use super::format::{Content, DELETED, DIGEST, END, LIVE, MAGIC, MAX_GENERATION, MAX_TAG, VERSION};
use crate::snapshot::StoredEntry;
use crate::verify::Report;

/// A part of a backup.
#[derive(Debug)]
pub(crate) enum Event {
    /// How it begins.
    Start {
        store_id: [u8; 16],
        record: HeaderRecord,
    },
    /// An entry; they come in the order of their names.
    Entry(StoredEntry),
    /// Its end: counts and digest are right, the tag is not checked yet, and there must not come anything else.
    End {
        digest: [u8; DIGEST],
        tag: Bytes,
        report: Report,
    },
}

/// Takes a backup apart. Holds one part of it at most, and what was fed since the last one.
///
/// The digest stands at the end, so nothing before [`Event::End`] may be relied on.
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// Where in the backup `buffer` begins.
    at: u64,
    /// Of everything before `buffer`.
    digest: Context,
    stage: Stage,
}

enum Stage {
    Start,
    Entries(Content),
    Ended,
    Refused,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            at: 0,
            digest: Context::new(&SHA256),
            stage: Stage::Start,
        }
    }

    /// Takes more bytes. Whoever feeds much at once has it all kept at once.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many entries went by.
    pub(crate) const fn entries(&self) -> u64 {
        match &self.stage {
            Stage::Entries(content) => content.entries(),
            Stage::Start | Stage::Ended | Stage::Refused => 0,
        }
    }

    /// The next part; `None` when it takes more bytes to tell.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, BackupError> {
        let event = match &self.stage {
            Stage::Start => self.start(),
            Stage::Entries(_) if self.buffer.first() == Some(&END) => self.end(),
            Stage::Entries(_) => self.entry(),
            Stage::Ended if self.buffer.is_empty() => Ok(None),
            Stage::Ended => Err(BackupError::Extended { end: self.at }),
            Stage::Refused => Err(BackupError::Refused),
        };
        if event.is_err() {
            self.stage = Stage::Refused;
            self.buffer = BytesMut::new();
        }
        event
    }

    /// There are no more bytes.
    pub(crate) fn finish(&self) -> Result<(), BackupError> {
        match &self.stage {
            Stage::Ended if self.buffer.is_empty() => Ok(()),
            Stage::Ended => Err(BackupError::Extended { end: self.at }),
            Stage::Refused => Err(BackupError::Refused),
            Stage::Start | Stage::Entries(_) => Err(BackupError::Truncated {
                length: self.at + self.buffer.len() as u64,
            }),
        }
    }

    fn start(&mut self) -> Result<Option<Event>, BackupError> {
        let mut fields = Fields::of(&self.buffer, self.at);
        let Some(magic) = fields.take(MAGIC.len()) else {
            let so_far = MAGIC.get(..self.buffer.len()).unwrap_or_default();
            return if self.buffer == so_far {
                Ok(None)
            } else {
                Err(BackupError::NotABackup)
            };
        };
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        let Some(version) = fields.array().map(u32::from_be_bytes) else {
            return Ok(None);
        };
        match version {
            VERSION => {}
            0 => return Err(fields.damaged("it has format version 0, which there never was")),
            found => return Err(BackupError::Newer { found }),
        }
        let Some(store_id) = fields.array() else {
            return Ok(None);
        };
        let Some(header) = fields.sized(MAX_HEADER, "the header is too long")? else {
            return Ok(None);
        };
        let Some(generation) = fields.sized(MAX_GENERATION, "the generation record is too long")? else {
            return Ok(None);
        };
        let record = HeaderRecord {
            header: header.to_vec(),
            generation: generation.to_vec(),
        };
        let length = fields.length;
        self.consume(length);
        self.stage = Stage::Entries(Content::new(store_id));
        Ok(Some(Event::Start { store_id, record }))
    }

    fn entry(&mut self) -> Result<Option<Event>, BackupError> {
        let mut fields = Fields::of(&self.buffer, self.at);
        let Some([kind]) = fields.array() else {
            return Ok(None);
        };
        let deleted = match kind {
            LIVE => None,
            DELETED => {
                let Some(time) = fields.array().map(u64::from_be_bytes) else {
                    return Ok(None);
                };
                Some(time)
            }
            _ => return Err(fields.damaged("there is no such kind of entry")),
        };
        let Some([name_length]) = fields.array() else {
            return Ok(None);
        };
        let Some(name) = fields.take(usize::from(name_length)) else {
            return Ok(None);
        };
        let name = std::str::from_utf8(name)
            .ok()
            .and_then(|text| EntryName::parse(text).ok())
            .ok_or_else(|| fields.damaged("the name of an entry is not one that a key can have"))?;
        let Some(sealed) = fields.sized(MAX_SEALED, "the value of an entry is too long")? else {
            return Ok(None);
        };
        let entry = StoredEntry {
            name,
            deleted,
            sealed: sealed.to_vec(),
        };
        if let Stage::Entries(content) = &mut self.stage
            && !content.entry(&entry)
        {
            return Err(fields.damaged("an entry is not where it should be in the order of names"));
        }
        let length = fields.length;
        self.consume(length);
        Ok(Some(Event::Entry(entry)))
    }

    fn end(&mut self) -> Result<Option<Event>, BackupError> {
        let mut fields = Fields::of(&self.buffer, self.at);
        let (Some([END]), Some(keys), Some(deleted)) = (
            fields.array(),
            fields.array().map(u64::from_be_bytes),
            fields.array().map(u64::from_be_bytes),
        ) else {
            return Ok(None);
        };
        let digested = fields.length;
        let (Some(digest), Some(tag_length)) =
            (fields.array::<DIGEST>(), fields.array().map(u16::from_be_bytes))
        else {
            return Ok(None);
        };
        if usize::from(tag_length) > MAX_TAG {
            return Err(fields.damaged("the tag of the trailer is too long"));
        }
        if fields.take(usize::from(tag_length)).is_none() {
            return Ok(None);
        }
        let damaged = |what| Err(BackupError::Damaged { at: self.at, what });
        let length = fields.length;
        let Stage::Entries(content) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return Err(BackupError::Refused);
        };
        if (content.keys(), content.deleted()) != (keys, deleted) {
            return damaged("the counts of the trailer are not those of the entries before it");
        }
        let mut computed = self.digest.clone();
        computed.update(self.buffer.get(..digested).unwrap_or_default());
        if computed.finish().as_ref() != digest {
            return damaged("the digest of the trailer is not that of what comes before it");
        }
        let part = self.consume(length);
        Ok(Some(Event::End {
            digest,
            tag: part.slice(length - usize::from(tag_length)..),
            report: content.finish(VERSION),
        }))
    }

    /// Takes the first `length` bytes out of the buffer, where they are.
    fn consume(&mut self, length: usize) -> Bytes {
        let part = self.buffer.split_to(length).freeze();
        self.digest.update(&part);
        self.at += length as u64;
        part
    }
}

/// The fields of a part, from its front.
struct Fields<'a> {
    rest: &'a [u8],
    /// How long the fields taken so far are.
    length: usize,
    at: u64,
}

impl<'a> Fields<'a> {
    const fn of(rest: &'a [u8], at: u64) -> Self {
        Self { rest, length: 0, at }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.length += length;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A field with its length before it. A length beyond the bound is refused before anything is kept for it.
    fn sized(&mut self, at_most: usize, what: &'static str) -> Result<Option<&'a [u8]>, BackupError> {
        let Some(length) = self.array().map(u32::from_be_bytes) else {
            return Ok(None);
        };
        match usize::try_from(length) {
            Ok(length) if length <= at_most => Ok(self.take(length)),
            _ => Err(self.damaged(what)),
        }
    }

    const fn damaged(&self, what: &'static str) -> BackupError {
        BackupError::Damaged { at: self.at, what }
    }
}
