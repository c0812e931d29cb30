//! What every key store promises, one function a promise: each takes a fresh, empty store and panics where it does not
//! keep its word. [`all`] runs them in turn; a backend may also make each a test of its own.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kes_keystore::{MemoryStore, conformance};
//!
//! # #[tokio::main]
//! # async fn main() {
//! conformance::all(async || Arc::new(MemoryStore::new()) as conformance::Subject).await;
//! # }
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this is test code that other crates run; to panic is its way to report"
)]

mod cancellation;
mod entries;
mod listing;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;

use kes_crypto::SecretBytes;

use crate::{EntryName, KeyStore, StoreError};

pub use cancellation::*;
pub use entries::*;
pub use listing::*;

/// The store under examination.
pub type Subject = Arc<dyn KeyStore>;

/// Runs every promise against a fresh and empty store that `fresh` makes.
pub async fn all(fresh: impl AsyncFn() -> Subject) {
    a_created_entry_is_read_back(fresh().await).await;
    values_of_any_bytes_come_back_as_they_were(fresh().await).await;
    a_large_value_comes_back_whole(fresh().await).await;
    names_at_the_edges_of_the_rule_are_stored(fresh().await).await;
    creating_a_taken_name_changes_nothing(fresh().await).await;
    a_race_to_create_has_one_winner(fresh().await).await;
    an_absent_name_is_not_found(fresh().await).await;
    a_deleted_name_is_gone_and_free_again(fresh().await).await;
    deleting_an_absent_name_harms_nothing(fresh().await).await;
    an_answer_to_a_ping_and_an_end(fresh().await).await;

    an_empty_store_lists_nothing(fresh().await).await;
    names_are_listed_in_byte_order(fresh().await).await;
    a_prefix_selects_names(fresh().await).await;
    a_prefix_that_no_name_has_lists_nothing(fresh().await).await;
    a_page_starts_after_a_position(fresh().await).await;
    a_page_has_exactly_as_many_names_as_asked_for(fresh().await).await;
    thousands_of_names_are_each_listed_once(fresh().await).await;
    changes_do_not_disturb_the_names_that_stay(fresh().await).await;

    a_cancelled_create_happens_whole_or_not_at_all(fresh().await).await;
    a_cancelled_delete_happens_whole_or_not_at_all(fresh().await).await;
    a_cancelled_read_changes_nothing(fresh().await).await;
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn limit(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// No limit that a test reaches, and one that every backend can hand on to its service.
fn plenty() -> NonZeroUsize {
    limit(1000)
}

async fn create(store: &Subject, text: &str, value: &[u8]) {
    let created = store.create(&name(text), &SecretBytes::copy_of(value)).await;
    assert!(created.is_ok(), "creating {text}: {created:?}");
}

async fn assert_holds(store: &Subject, text: &str, value: &[u8]) {
    match store.get(&name(text)).await {
        Ok(entry) => assert!(
            entry.value.expose_secret() == value,
            "{text} holds {} bytes that differ from the {} that were stored",
            entry.value.len(),
            value.len()
        ),
        Err(error) => panic!("reading {text}: {error:?}"),
    }
}

async fn assert_absent(store: &Subject, text: &str) {
    let read = store.get(&name(text)).await;
    assert!(
        matches!(read, Err(StoreError::NotFound)),
        "reading the absent {text}: {read:?}"
    );
}

/// Deletes what may be there or not.
async fn delete(store: &Subject, text: &str) {
    let deleted = store.delete(&name(text)).await;
    assert!(
        matches!(deleted, Ok(()) | Err(StoreError::NotFound)),
        "deleting {text}: {deleted:?}"
    );
}
