//! A key store that seals what goes into another one.

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, SealInfo, StoreError};
use kes_types::Timestamp;

use crate::aead::OVERHEAD;
use crate::header::{FORMAT, Header, HeaderError, HeaderRecord, MAX_WRAPPINGS, Wrapping};
use crate::store_key::{Generation, StoreKey};
use crate::{HeaderPart, OpenError, Seal, SealError, SealId, Seals};

/// A key store with a place for a header.
#[async_trait]
pub trait HeaderStore: KeyStore {
    /// Both values as they were last replaced; `None` before the first time.
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError>;

    /// Replaces both values durably in one transaction, if the stored ones are still `expected`; else
    /// [`StoreError::Exists`], and nothing is changed.
    async fn replace_header(
        &self,
        expected: Option<&HeaderRecord>,
        new: &HeaderRecord,
    ) -> Result<(), StoreError>;
}

/// Seals what goes into `S` and opens what comes out. The names, and how many there are, stay visible in `S`.
pub struct Sealed<S: ?Sized> {
    store: Arc<S>,
    key: Arc<StoreKey>,
    /// Never held across an await.
    known: Mutex<Known>,
    /// Held while the header is being replaced.
    resealing: tokio::sync::Mutex<()>,
}

/// What is known of the wrappings, for people to see.
struct Known {
    wrappings: Vec<SealId>,
    /// Where the configured seals are.
    sources: Vec<(SealId, String)>,
}

/// What one step of resealing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// Nothing: the root key is wrapped by the first seal, and by none that is not listed.
    Unchanged,
    /// The first seal has wrapped the root key too.
    Added,
    /// The wrappings by seals that are not listed are gone.
    Dropped,
}

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

impl<S: HeaderStore + ?Sized> Sealed<S> {
    /// Opens a store that has a header.
    ///
    /// # Errors
    /// When there is none, or none that is genuine, or the seals are not those that it needs. Nothing is changed.
    pub async fn open(store: Arc<S>, seals: &Seals) -> Result<Self, OpenError> {
        let place = store.to_string();
        let record = load(&*store, &place).await?;
        let OpenedHeader { header, key } = open_header(&place, &record, seals).await?;
        Ok(Self::with(store, key, &header, seals))
    }

    /// Gives a new, empty store its root key and its header, wrapped by the first seal.
    ///
    /// # Errors
    /// When the store has a header or entries, which stay as they are, or the header could not be written.
    pub async fn initialise(store: Arc<S>, seals: &Seals, now: Timestamp) -> Result<Self, OpenError> {
        let place = store.to_string();
        let first = first(&place, seals)?;
        match store.load_header().await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(OpenError::AlreadyInitialised { store: place }),
            Err(error) => return Err(failed(&place)(error)),
        }
        let some = store
            .list("", None, NonZeroUsize::MIN)
            .await
            .map_err(failed(&place))?;
        if !some.names.is_empty() {
            return Err(OpenError::NotEmpty { store: place });
        }

        let not_written = |source| OpenError::Write {
            store: place.clone(),
            source,
        };
        let key = StoreKey::generate().map_err(not_written)?;
        let mut header = Header {
            store_id: key.store_id(),
            generation: 1,
            created: now,
            wrappings: vec![wrap(&place, first, &key).await?],
            seal: [0; OVERHEAD],
        };
        let record = key.seal_header(&mut header).map_err(not_written)?;
        match store.replace_header(None, &record).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Err(OpenError::AlreadyInitialised { store: place }),
            Err(error) => return Err(failed(&place)(error)),
        }
        tracing::info!(store = %place, seal = %first.id(), "a new root key, wrapped by {first}");
        Ok(Self::with(store, key, &header, seals))
    }

    /// The store with the sealed values.
    #[must_use]
    pub const fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// The root key.
    #[must_use]
    pub const fn key(&self) -> &Arc<StoreKey> {
        &self.key
    }

    /// The version of the store's format.
    #[must_use]
    pub const fn format(&self) -> u32 {
        FORMAT
    }

    /// What the root key is wrapped with, as of the last time that this process looked.
    #[must_use]
    pub fn seals(&self) -> Vec<SealInfo> {
        let known = self.known();
        let infos = known.wrappings.iter().map(|id| SealInfo {
            kind: id.kind.clone(),
            check: id.check_text(),
            source: known
                .sources
                .iter()
                .find_map(|(seal, place)| (seal == id).then(|| place.clone())),
        });
        infos.collect()
    }

    /// One step of resealing: adds the first seal's wrapping if it is missing, else drops the wrappings by seals that are
    /// not listed. Values stay as they are. Whatever happens, and whenever the process ends, the seals of before or those
    /// of after open the store.
    ///
    /// # Errors
    /// When the header is not what this process opened, the first seal does not work, or the header could not be written.
    pub async fn reseal(&self, seals: &Seals) -> Result<Resealed, OpenError> {
        let place = self.store.to_string();
        let first = first(&place, seals)?;
        let _turn = self.resealing.lock().await;
        let mut intended = None;
        for _ in 0..ATTEMPTS {
            let record = load(&*self.store, &place).await?;
            let mut header = parse(&place, &record.header)?;
            check(&place, &self.key, &header, &record)?;

            let step = next_step(&header, seals);
            // After a lost race, the winner's step was ours, or we leave the next one to the next time.
            if step == Resealed::Unchanged || intended.is_some_and(|intended| intended != step) {
                self.remember(&header, seals);
                return Ok(Resealed::Unchanged);
            }
            intended = Some(step);

            if step == Resealed::Added {
                if header.wrappings.len() >= MAX_WRAPPINGS {
                    return Err(OpenError::TooManySeals { store: place });
                }
                header.wrappings.push(wrap(&place, first, &self.key).await?);
            } else {
                // What is kept has to be good for something.
                self.prove(&place, first, &header).await?;
                let listed: Vec<_> = seals.iter().map(|seal| seal.id()).collect();
                header.wrappings.retain(|wrapping| listed.contains(wrapping.id()));
            }
            let not_written = |source| OpenError::Write {
                store: place.clone(),
                source,
            };
            header.generation = header.generation.checked_add(1).ok_or_else(|| {
                not_written(SealError::Unfit {
                    problem: "was replaced too often",
                })
            })?;
            let new = self.key.seal_header(&mut header).map_err(not_written)?;
            match self.store.replace_header(Some(&record), &new).await {
                Ok(()) => {
                    self.remember(&header, seals);
                    tracing::info!(
                        store = %place,
                        generation = header.generation,
                        seals = ?header.wrappings,
                        "{}",
                        match step {
                            Resealed::Added => "the root key is wrapped by the first seal too",
                            Resealed::Dropped => "wrappings by seals that are not listed are gone",
                            Resealed::Unchanged => "unchanged",
                        }
                    );
                    return Ok(step);
                }
                // Somebody was faster.
                Err(StoreError::Exists) => {}
                Err(error) => return Err(failed(&place)(error)),
            }
        }
        Err(OpenError::Raced { store: place })
    }

    fn with(store: Arc<S>, key: StoreKey, header: &Header, seals: &Seals) -> Self {
        Self {
            store,
            key: Arc::new(key),
            known: Mutex::new(Known::new(header, seals)),
            resealing: tokio::sync::Mutex::new(()),
        }
    }

    /// Makes sure that `seal` unwraps the root key.
    async fn prove(&self, place: &str, seal: &Arc<dyn Seal>, header: &Header) -> Result<(), OpenError> {
        let root = unwrap(place, header, &vec![Arc::clone(seal)]).await?;
        if root.ct_eq(self.key.root()) {
            return Ok(());
        }
        Err(OpenError::Unwrap {
            store: place.to_owned(),
            seal: seal.id(),
            place: seal.to_string(),
            source: SealError::DoesNotOpen,
        })
    }

    fn remember(&self, header: &Header, seals: &Seals) {
        *self.known() = Known::new(header, seals);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is replaced whole or read.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn corrupt(name: &EntryName, error: &SealError) -> StoreError {
        StoreError::Corrupt {
            reason: format!("the sealed value of {name} {error}"),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: HeaderStore + ?Sized> KeyStore for Sealed<S> {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let sealed = self
            .key
            .seal_value(name.as_str(), value)
            .map_err(|source| StoreError::Backend {
                store: self.to_string(),
                source: Box::new(NotSealed {
                    name: name.clone(),
                    source,
                }),
            })?;
        self.store.create(name, &SecretBytes::new(sealed)).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let Entry { value, revision } = self.store.get(name).await?;
        let value = self
            .key
            .open_value(name.as_str(), value.expose_secret())
            .map_err(|error| Self::corrupt(name, &error))?;
        Ok(Entry { value, revision })
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.store.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

impl<S: HeaderStore + ?Sized> fmt::Display for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<S: HeaderStore + ?Sized> fmt::Debug for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("store", &self.store)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Known {
    fn new(header: &Header, seals: &Seals) -> Self {
        Self {
            wrappings: header
                .wrappings
                .iter()
                .map(|wrapping| wrapping.id().clone())
                .collect(),
            sources: given(seals),
        }
    }
}

/// A value could not be sealed.
#[derive(Debug, thiserror::Error)]
#[error("the value of {name} was not sealed")]
struct NotSealed {
    name: EntryName,
    source: SealError,
}

/// What resealing has to do next.
fn next_step(header: &Header, seals: &Seals) -> Resealed {
    let wraps = |id: &SealId| header.wrappings.iter().any(|wrapping| wrapping.id() == id);
    let is_listed = |id: &SealId| seals.iter().any(|seal| seal.id() == *id);
    if !seals.first().is_some_and(|seal| wraps(&seal.id())) {
        Resealed::Added
    } else if header.wrappings.iter().all(|wrapping| is_listed(wrapping.id())) {
        Resealed::Unchanged
    } else {
        Resealed::Dropped
    }
}

async fn load<S: HeaderStore + ?Sized>(store: &S, place: &str) -> Result<HeaderRecord, OpenError> {
    store
        .load_header()
        .await
        .map_err(failed(place))?
        .ok_or_else(|| OpenError::NoHeader {
            store: place.to_owned(),
        })
}

fn parse(place: &str, header: &[u8]) -> Result<Header, OpenError> {
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
async fn unwrap(place: &str, header: &Header, seals: &Seals) -> Result<SecretBytes, OpenError> {
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
async fn wrap(place: &str, seal: &Arc<dyn Seal>, key: &StoreKey) -> Result<Wrapping, OpenError> {
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
fn check(place: &str, key: &StoreKey, header: &Header, record: &HeaderRecord) -> Result<(), OpenError> {
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

fn first<'a>(place: &str, seals: &'a Seals) -> Result<&'a Arc<dyn Seal>, OpenError> {
    seals.first().ok_or_else(|| OpenError::NoSeal {
        store: place.to_owned(),
    })
}

fn given(seals: &Seals) -> Vec<(SealId, String)> {
    seals.iter().map(|seal| (seal.id(), seal.to_string())).collect()
}

fn failed(place: &str) -> impl Fn(StoreError) -> OpenError {
    move |source| OpenError::Store {
        store: place.to_owned(),
        source,
    }
}

/// How often a lost race is run again.
const ATTEMPTS: usize = 8;
