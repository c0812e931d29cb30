//! The in-memory store keeps every promise, and a store that breaks one is found out.

use std::fmt;

use async_trait::async_trait;

use super::*;
use crate::{Entry, MemoryStore, Page};

#[tokio::test]
async fn the_in_memory_store_keeps_every_promise() {
    all(async || Arc::new(MemoryStore::new()) as Subject).await;
}

#[tokio::test]
async fn each_broken_promise_is_found() {
    assert_found(Fault::TrimsValues, values_of_any_bytes_come_back_as_they_were).await;
    assert_found(Fault::CutsLargeValues, a_large_value_comes_back_whole).await;
    assert_found(Fault::Replaces, creating_a_taken_name_changes_nothing).await;
    assert_found(Fault::Replaces, a_race_to_create_has_one_winner).await;
    assert_found(Fault::LooksThenWrites, a_race_to_create_has_one_winner).await;
    assert_found(Fault::DeletesNothing, a_deleted_name_is_gone_and_free_again).await;
    assert_found(
        Fault::WritesInTwoSteps,
        a_cancelled_create_happens_whole_or_not_at_all,
    )
    .await;
    assert_found(Fault::ListsOneMore, a_page_has_exactly_as_many_names_as_asked_for).await;
    assert_found(
        Fault::AlwaysNamesANextPage,
        a_page_has_exactly_as_many_names_as_asked_for,
    )
    .await;
    assert_found(Fault::TakesPositionsForPrefixes, a_page_starts_after_a_position).await;
    assert_found(
        Fault::TakesPositionsForPrefixes,
        thousands_of_names_are_each_listed_once,
    )
    .await;
    assert_found(Fault::ListsBackwards, names_are_listed_in_byte_order).await;
    assert_found(Fault::IgnoresPrefixes, a_prefix_selects_names).await;
    assert_found(Fault::IgnoresPrefixes, a_prefix_that_no_name_has_lists_nothing).await;
}

/// A way to break a promise; most have been seen in the wild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TrimsValues,
    CutsLargeValues,
    Replaces,
    LooksThenWrites,
    WritesInTwoSteps,
    DeletesNothing,
    ListsOneMore,
    AlwaysNamesANextPage,
    TakesPositionsForPrefixes,
    ListsBackwards,
    IgnoresPrefixes,
}

async fn assert_found<F>(fault: Fault, promise: fn(Subject) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let faulty = Arc::new(Faulty {
        fault,
        inner: MemoryStore::new(),
    });
    let examined = tokio::spawn(promise(faulty)).await;
    assert!(
        examined.is_err_and(|error| error.is_panic()),
        "{fault:?} was not found"
    );
}

#[derive(Debug)]
struct Faulty {
    fault: Fault,
    inner: MemoryStore,
}

impl Faulty {
    async fn replace(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let _ = self.inner.delete(name).await;
        self.inner.create(name, value).await
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let bytes = value.expose_secret();
        match self.fault {
            Fault::TrimsValues => {
                self.inner
                    .create(name, &SecretBytes::copy_of(bytes.trim_ascii()))
                    .await
            }
            Fault::CutsLargeValues => {
                self.inner
                    .create(name, &SecretBytes::copy_of(&bytes[..bytes.len().min(65_000)]))
                    .await
            }
            Fault::Replaces => self.replace(name, value).await,
            Fault::LooksThenWrites => {
                if self.inner.get(name).await.is_ok() {
                    return Err(StoreError::Exists);
                }
                tokio::task::yield_now().await;
                self.replace(name, value).await
            }
            Fault::WritesInTwoSteps => {
                self.inner.create(name, &SecretBytes::copy_of(b"")).await?;
                tokio::task::yield_now().await;
                self.replace(name, value).await
            }
            _ => self.inner.create(name, value).await,
        }
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.inner.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        if self.fault == Fault::DeletesNothing {
            Ok(())
        } else {
            self.inner.delete(name).await
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        match self.fault {
            Fault::ListsOneMore => self.inner.list(prefix, after, limit.saturating_add(1)).await,
            Fault::AlwaysNamesANextPage => {
                let mut page = self.inner.list(prefix, after, limit).await?;
                page.next = page.names.last().cloned();
                Ok(page)
            }
            Fault::TakesPositionsForPrefixes => {
                self.inner
                    .list(after.map_or(prefix, EntryName::as_str), None, limit)
                    .await
            }
            Fault::ListsBackwards => {
                let mut page = self.inner.list(prefix, after, limit).await?;
                page.names.reverse();
                Ok(page)
            }
            Fault::IgnoresPrefixes => self.inner.list("", after, limit).await,
            _ => self.inner.list(prefix, after, limit).await,
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn close(&self) {}
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}
