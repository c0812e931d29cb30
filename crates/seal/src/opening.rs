//! Headers that are opened: the root key out of one, and whether it is the one that was written last.

use std::sync::Arc;

use kes_crypto::SecretBytes;

use crate::header::{Header, HeaderError, HeaderRecord, Wrapping};
use crate::store_key::{Generation, StoreKey};
use crate::{HeaderPart, OpenError, Seal, SealError, SealId, Seals};

/// A header that has proved to be genuine and the newest, and the root key that was in it.
#[derive(Debug)]
pub struct OpenedHeader {
    /// The header.
    pub header: Header,
    /// The root key.
    pub key: StoreKey,
}

/// Unwraps the root key out of a header, and makes sure that the header is the one that was written last. `place` says in
/// errors where the header is.
///
/// # Errors
/// When no seal unwraps the root key, or the header or the generation record is not as it was written.
pub async fn open_header(
    place: &str,
    record: &HeaderRecord,
    seals: &Seals,
) -> Result<OpenedHeader, OpenError> {
    let header = parse(place, &record.header)?;
    let root = unwrap(place, &header, seals).await?;
    let key = StoreKey::new(header.store_id, root).map_err(|_| OpenError::Damaged {
        store: place.to_owned(),
        part: HeaderPart::Header,
        reason: "the root key in it does not have 32 bytes".to_owned(),
    })?;
    check(place, &key, &header, record)?;
    Ok(OpenedHeader { header, key })
}

pub(crate) fn parse(place: &str, header: &[u8]) -> Result<Header, OpenError> {
    Header::parse(header).map_err(|error| match error {
        HeaderError::NewerFormat { version } => OpenError::NewerFormat {
            store: place.to_owned(),
            version,
        },
        HeaderError::TooShort
        | HeaderError::TooLarge
        | HeaderError::NotAHeader
        | HeaderError::Malformed(_) => OpenError::Damaged {
            store: place.to_owned(),
            part: HeaderPart::Header,
            reason: error.to_string(),
        },
    })
}

/// The root key, by the first seal that gives it.
pub(crate) async fn unwrap(place: &str, header: &Header, seals: &Seals) -> Result<SecretBytes, OpenError> {
    first(place, seals)?;
    let mut failure = None;
    for seal in seals {
        let id = seal.id();
        for wrapping in header.wrappings.iter().filter(|wrapping| *wrapping.id() == id) {
            match seal.unwrap(&header.store_id, wrapping.blob()).await {
                Ok(root) => return Ok(root),
                Err(source) => {
                    failure.get_or_insert(OpenError::Unwrap {
                        store: place.to_owned(),
                        seal: id.clone(),
                        place: seal.to_string(),
                        source,
                    });
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| OpenError::WrongSeal {
        store: place.to_owned(),
        needed: header
            .wrappings
            .iter()
            .map(|wrapping| wrapping.id().clone())
            .collect(),
        given: given(seals),
    }))
}

/// What `seal` makes of the root key, after a look whether it can be undone.
pub(crate) async fn wrap(place: &str, seal: &Arc<dyn Seal>, key: &StoreKey) -> Result<Wrapping, OpenError> {
    let (id, context) = (seal.id(), key.store_id());
    let not_wrapped = |source| OpenError::Wrap {
        store: place.to_owned(),
        seal: seal.id(),
        place: seal.to_string(),
        source,
    };
    let blob = seal.wrap(&context, key.root()).await.map_err(not_wrapped)?;
    let root = seal.unwrap(&context, &blob).await.map_err(not_wrapped)?;
    if !root.ct_eq(key.root()) {
        return Err(not_wrapped(SealError::DoesNotOpen));
    }
    Wrapping::new(id, blob).map_err(not_wrapped)
}

/// Whether the header is genuine and the newest.
pub(crate) fn check(
    place: &str,
    key: &StoreKey,
    header: &Header,
    record: &HeaderRecord,
) -> Result<(), OpenError> {
    let damaged = |part, error: SealError| OpenError::Damaged {
        store: place.to_owned(),
        part,
        reason: format!("it {error}"),
    };
    // Of another store's header too: the store's id is part of what is verified.
    key.verify_header(header)
        .map_err(|error| damaged(HeaderPart::Header, error))?;
    let newest = key
        .open_generation(&record.generation)
        .map_err(|error| damaged(HeaderPart::GenerationRecord, error))?;
    if newest != Generation::of(header.generation, &record.header) {
        return Err(OpenError::OldHeader {
            store: place.to_owned(),
            found: header.generation,
            expected: newest.number,
        });
    }
    Ok(())
}

pub(crate) fn first<'a>(place: &str, seals: &'a Seals) -> Result<&'a Arc<dyn Seal>, OpenError> {
    seals.first().ok_or_else(|| OpenError::NoSeal {
        store: place.to_owned(),
    })
}

pub(crate) fn given(seals: &Seals) -> Vec<(SealId, String)> {
    seals.iter().map(|seal| (seal.id(), seal.to_string())).collect()
}
