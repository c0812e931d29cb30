//! A key store that forgets everything when the process ends, for tests and the development mode.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kes_crypto::SecretBytes;

use crate::{Entry, EntryName, KeyStore, Page, StoreError};

/// Keeps entries in this process's memory only.
#[derive(Default)]
pub struct MemoryStore {
    /// Held for one map operation at a time, never across an await.
    entries: Mutex<BTreeMap<EntryName, SecretBytes>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<EntryName, SecretBytes>> {
        // A single map operation leaves the map whole even if it panics.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        use std::collections::btree_map::Entry as Place;
        match self.entries().entry(name.clone()) {
            Place::Occupied(_) => Err(StoreError::Exists),
            Place::Vacant(place) => {
                place.insert(SecretBytes::copy_of(value.expose_secret()));
                Ok(())
            }
        }
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let entries = self.entries();
        let value = entries.get(name).ok_or(StoreError::NotFound)?;
        Ok(Entry {
            value: SecretBytes::copy_of(value.expose_secret()),
            revision: None,
        })
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.entries().remove(name).map(drop).ok_or(StoreError::NotFound)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let entries = self.entries();
        let mut matching = entries
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(name, _)| name)
            .take_while(|name| name.as_str().starts_with(prefix));
        let names: Vec<_> = matching.by_ref().take(limit.get()).cloned().collect();
        let next = matching.next().and_then(|_| names.last().cloned());
        Ok(Page { names, next })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

impl fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("In Memory")
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.entries().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn deleting_an_absent_key_says_so() {
        let absent = EntryName::parse("absent").unwrap();
        assert!(matches!(
            MemoryStore::new().delete(&absent).await,
            Err(StoreError::NotFound)
        ));
    }

    #[tokio::test]
    async fn it_says_where_it_is_and_not_what_it_holds() {
        let store = MemoryStore::new();
        let name = EntryName::parse("name").unwrap();
        store
            .create(&name, &SecretBytes::copy_of(b"secret"))
            .await
            .unwrap();
        assert_eq!(store.to_string(), "In Memory");
        assert_eq!(format!("{store:?}"), "MemoryStore { entries: 1 }");
    }
}
