//! Listing keys, a page at a time.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keyring::{CacheSettings, Doing, KeyPage, Keyring, KeyringError, Scope};
use kes_keystore::{Entry, EntryName, KeyStore, Page, StoreError, StoreOp};
use kes_testkit::{Failure, Step};
use kes_types::{ListRequest, ManualClock};

use crate::rig::{Rig, named};

async fn page(rig: &Rig, request: &str, limit: usize) -> Result<KeyPage, KeyringError> {
    let request = ListRequest::parse(request).unwrap();
    rig.ring
        .list(&Scope::default(), &request, NonZeroUsize::new(limit).unwrap())
        .await
}

fn texts(page: &KeyPage) -> Vec<&str> {
    page.names.iter().map(|name| name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn following_the_pages_reaches_every_key_once() {
    for (store_page, limit) in [(1, 1), (1, 7), (3, 10), (1000, 7), (10, 10), (1000, 1000)] {
        let rig = Rig::new();
        rig.store.set_page_size(store_page);
        let mut names: Vec<_> = (0..100).map(|i| format!("key-{i}")).collect();
        names.sort();
        for name in names
            .iter()
            .map(String::as_str)
            .chain(["other", "ke", "KEY-1", "not.a.name"])
        {
            rig.put(name, "somebody");
        }
        let (mut seen, mut request) = (Vec::new(), "key-*".to_owned());
        loop {
            let page = page(&rig, &request, limit).await.unwrap();
            assert!(page.names.len() <= limit);
            seen.extend(texts(&page).into_iter().map(str::to_owned));
            match page.continue_at {
                Some(next) => request = next,
                None => break,
            }
        }
        assert_eq!(seen, names, "{store_page} {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_page_says_so_even_when_it_is_full() {
    let rig = Rig::new();
    for name in ["a", "b", "c", "d"] {
        rig.put(name, "somebody");
    }
    let first = page(&rig, "", 2).await.unwrap();
    assert_eq!(
        (texts(&first), first.continue_at.as_deref()),
        (vec!["a", "b"], Some("~0.b"))
    );
    let last = page(&rig, "~0.b", 2).await.unwrap();
    assert_eq!(
        (texts(&last), last.continue_at.as_deref()),
        (vec!["c", "d"], None)
    );
    assert_eq!(page(&rig, "nothing", 2).await.unwrap(), KeyPage::default());
}

#[tokio::test(start_paused = true)]
async fn a_position_need_not_be_a_name() {
    let rig = Rig::new();
    for name in ["A", "_a", "a", "a-1", "a-b", "a0", "b"] {
        rig.put(name, "somebody");
    }
    for (position, expected) in [
        ("~0.a-", vec!["a-1", "a-b", "a0", "b"]),
        ("~0.a--", vec!["a-1", "a-b", "a0", "b"]),
        ("~1.a--", vec!["a-1", "a-b", "a0"]),
        ("~0._", vec!["_a", "a", "a-1", "a-b", "a0", "b"]),
        ("~0.zzz", vec![]),
    ] {
        assert_eq!(
            texts(&page(&rig, position, 100).await.unwrap()),
            expected,
            "{position}"
        );
        rig.store.set_page_size(1);
        assert_eq!(
            texts(&page(&rig, position, 100).await.unwrap()),
            expected,
            "{position}"
        );
        rig.store.set_page_size(0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_fails_as_the_store_does_at_any_page() {
    for failure in Failure::ALL {
        let rig = Rig::new();
        rig.store.set_page_size(1);
        rig.put("a", "somebody");
        rig.put("b", "somebody");
        rig.store.next(StoreOp::List, Step::Pass);
        rig.store.next(StoreOp::List, Step::Fail(failure));
        match page(&rig, "", 10).await {
            Err(KeyringError::Store {
                doing: Doing::List,
                source,
            }) => {
                assert_eq!(source.to_string(), failure.error().to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_repeats_itself_leads_nobody_in_circles() {
    for (names, next, expected) in [
        (vec!["b", "a", "b", "b", "c"], None, Some(vec!["b", "c"])),
        (vec!["b", "c"], Some("c"), None),
        (vec![], Some("a"), None),
    ] {
        let store = Broken { names, next };
        let ring = Keyring::new(
            Arc::new(store),
            CacheSettings::default(),
            Arc::new(ManualClock::default()),
        );
        let limit = NonZeroUsize::new(100).unwrap();
        let answer = ring
            .list(&Scope::default(), &ListRequest::parse("").unwrap(), limit)
            .await;
        match expected {
            Some(expected) => assert_eq!(texts(&answer.unwrap()), expected),
            None => assert!(
                matches!(
                    answer,
                    Err(KeyringError::Store {
                        doing: Doing::List,
                        ..
                    })
                ),
                "{answer:?}"
            ),
        }
    }
}

/// A store that lists the same page for ever.
#[derive(Debug)]
struct Broken {
    names: Vec<&'static str>,
    next: Option<&'static str>,
}

#[async_trait]
impl KeyStore for Broken {
    async fn create(&self, _: &EntryName, _: &SecretBytes) -> Result<(), StoreError> {
        Err(StoreError::Exists)
    }

    async fn get(&self, _: &EntryName) -> Result<Entry, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn delete(&self, _: &EntryName) -> Result<(), StoreError> {
        Err(StoreError::NotFound)
    }

    async fn list(&self, _: &str, _: Option<&EntryName>, _: NonZeroUsize) -> Result<Page, StoreError> {
        let entry = |name: &&str| EntryName::of_key(&named(name));
        Ok(Page {
            names: self.names.iter().map(entry).collect(),
            next: self.next.as_ref().map(entry),
        })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}
