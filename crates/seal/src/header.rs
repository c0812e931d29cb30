//! The header of a sealed store: which store it is, and its root key, wrapped by one seal or several.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use kes_types::Timestamp;

use crate::aead::OVERHEAD;
use crate::reader::Reader;
use crate::{SealError, SealId};

/// The newest format of a store that this program knows, and the only one that it writes.
pub const FORMAT: u32 = 1;

/// No header has more bytes.
pub const MAX_HEADER: usize = 64 * 1024;

/// No header has more wrappings.
pub const MAX_WRAPPINGS: usize = 16;

/// What a store keeps beside its entries for the sealing of them: two opaque values that change together.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderRecord {
    /// The header, as [`Header::encode`] gives it.
    pub header: Vec<u8>,
    /// Which header is the newest, sealed under the root key.
    pub generation: Vec<u8>,
}

impl fmt::Debug for HeaderRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, generation } = self;
        write!(f, "HeaderRecord({} and {} bytes)", header.len(), generation.len())
    }
}

/// A header that has been taken apart. That does not make it genuine: only [`crate::open_header`] tells, because it takes
/// the root key.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) created: Timestamp,
    pub(crate) wrappings: Vec<Wrapping>,
    /// A box without content under the root key, whose purpose is all the bytes before it.
    pub(crate) tag: [u8; OVERHEAD],
}

impl Header {
    /// Takes a header apart.
    ///
    /// # Errors
    /// When it is not one, or of a newer format.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_HEADER {
            return Err(HeaderError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(HeaderError::TooShort)? != MAGIC {
            return Err(HeaderError::NotAHeader);
        }
        match u32::from_be_bytes(reader.array().ok_or(HeaderError::TooShort)?) {
            FORMAT => {}
            0 => return Err(HeaderError::NotAHeader),
            version => return Err(HeaderError::NewerFormat { version }),
        }
        let store_id = reader.array().ok_or(HeaderError::TooShort)?;
        let generation = u64::from_be_bytes(reader.array().ok_or(HeaderError::TooShort)?);
        let created = i64::from_be_bytes(reader.array().ok_or(HeaderError::TooShort)?);
        let created = Timestamp::from_unix_timestamp(created)
            .map_err(|_| HeaderError::Malformed("its time of creation is none"))?;
        let count = reader.byte().ok_or(HeaderError::TooShort)?;
        if count == 0 || usize::from(count) > MAX_WRAPPINGS {
            return Err(HeaderError::Malformed(
                "the number of its wrappings is out of range",
            ));
        }
        let wrappings = (0..count)
            .map(|_| Wrapping::parse(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: BTreeSet<_> = wrappings.iter().map(Wrapping::id).collect();
        if ids.len() != wrappings.len() {
            return Err(HeaderError::Malformed("it has two wrappings by the same seal"));
        }
        let tag = reader.array().ok_or(HeaderError::TooShort)?;
        if !reader.rest().is_empty() {
            return Err(HeaderError::Malformed("it has bytes after its end"));
        }
        Ok(Self {
            store_id,
            generation,
            created,
            wrappings,
            tag,
        })
    }

    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.authenticated();
        bytes.extend_from_slice(&self.tag);
        bytes
    }

    /// All but the tag.
    pub(crate) fn authenticated(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.created.unix_timestamp().to_be_bytes());
        bytes.push(u8::try_from(self.wrappings.len()).expect("a header has at most 16 wrappings"));
        for wrapping in &self.wrappings {
            wrapping.encode(&mut bytes);
        }
        bytes
    }

    /// Which store it is.
    #[must_use]
    pub const fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// How often the header has been written.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When the store was made, to the second.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// The root key, once for each seal.
    #[must_use]
    pub fn wrappings(&self) -> &[Wrapping] {
        &self.wrappings
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field(
                "store_id",
                &format_args!("{:032x}", u128::from_be_bytes(self.store_id)),
            )
            .field("generation", &self.generation)
            .field("created", &self.created)
            .field("wrappings", &self.wrappings)
            .finish_non_exhaustive()
    }
}

/// The root key, wrapped by one seal.
#[derive(Clone, PartialEq, Eq)]
pub struct Wrapping {
    id: SealId,
    blob: Vec<u8>,
}

impl Wrapping {
    /// What the seal `id` made of the root key, unless a header cannot hold it.
    pub(crate) fn new(id: SealId, blob: Vec<u8>) -> Result<Self, SealError> {
        if !is_kind(id.kind.as_bytes()) {
            return Err(SealError::Unfit {
                problem: "has a kind that is not 1 to 32 lower-case letters, digits or `-`",
            });
        }
        if blob.is_empty() || blob.len() > MAX_BLOB {
            return Err(SealError::Unfit {
                problem: "makes no wrapping of 1 to 4000 bytes",
            });
        }
        Ok(Self { id, blob })
    }

    /// The seal that wrapped it.
    #[must_use]
    pub const fn id(&self) -> &SealId {
        &self.id
    }

    /// What the seal made of it.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, HeaderError> {
        let length = reader.byte().ok_or(HeaderError::TooShort)?;
        let kind = reader.take(length.into()).ok_or(HeaderError::TooShort)?;
        let kind = str::from_utf8(kind)
            .ok()
            .filter(|kind| is_kind(kind.as_bytes()))
            .ok_or(HeaderError::Malformed("a wrapping has no kind"))?
            .to_owned();
        let check = reader.array().ok_or(HeaderError::TooShort)?;
        let length = u16::from_be_bytes(reader.array().ok_or(HeaderError::TooShort)?);
        if length == 0 || usize::from(length) > MAX_BLOB {
            return Err(HeaderError::Malformed("the length of a wrapping is out of range"));
        }
        let blob = reader.take(length.into()).ok_or(HeaderError::TooShort)?.to_vec();
        Ok(Self {
            id: SealId { kind, check },
            blob,
        })
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let Self { id, blob } = self;
        bytes.push(u8::try_from(id.kind.len()).expect("a kind has at most 32 letters"));
        bytes.extend_from_slice(id.kind.as_bytes());
        bytes.extend_from_slice(&id.check);
        let length = u16::try_from(blob.len()).expect("a blob has at most 4000 bytes");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(blob);
    }
}

impl fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapping({}, {} bytes)", self.id, self.blob.len())
    }
}

/// Why bytes are no header that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It ends too early.
    #[error("it is cut off")]
    TooShort,
    /// It is longer than a header can be.
    #[error("it has more than 64 KiB")]
    TooLarge,
    /// It does not begin as a header does.
    #[error("it does not begin as a header does")]
    NotAHeader,
    /// Written by a newer version of this program.
    #[error("it has format {version}, which this version of the program does not know")]
    NewerFormat {
        /// The format.
        version: u32,
    },
    /// A field is not as it could have been written.
    #[error("{0}")]
    Malformed(&'static str),
}

fn is_kind(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_KIND).contains(&text.len()) && text.iter().all(is_allowed)
}

/// What a header begins with.
const MAGIC: [u8; 8] = *b"KES-SEAL";
/// The longest name of a kind of seal.
const MAX_KIND: usize = 32;
/// The longest wrapping: so 16 of them fit into a header.
const MAX_BLOB: usize = 4000;
