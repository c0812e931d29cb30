//! A key store that seals what goes into another one.

mod resealing;

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, SealInfo, StoreError};
use kes_types::Timestamp;

pub use self::resealing::Resealed;
use crate::aead::OVERHEAD;
use crate::header::{FORMAT, Header, HeaderRecord};
use crate::opening::{OpenedHeader, first, given, open_header, wrap};
use crate::store_key::StoreKey;
use crate::{OpenError, SealError, SealId, Seals};

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
            tag: [0; OVERHEAD],
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

    fn with(store: Arc<S>, key: StoreKey, header: &Header, seals: &Seals) -> Self {
        Self {
            store,
            key: Arc::new(key),
            known: Mutex::new(Known::new(header, seals)),
            resealing: tokio::sync::Mutex::new(()),
        }
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

async fn load<S: HeaderStore + ?Sized>(store: &S, place: &str) -> Result<HeaderRecord, OpenError> {
    store
        .load_header()
        .await
        .map_err(failed(place))?
        .ok_or_else(|| OpenError::NoHeader {
            store: place.to_owned(),
        })
}

fn failed(place: &str) -> impl Fn(StoreError) -> OpenError {
    move |source| OpenError::Store {
        store: place.to_owned(),
        source,
    }
}
