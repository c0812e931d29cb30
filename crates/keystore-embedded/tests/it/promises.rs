//! What every key store promises, for the engine alone, for the store, and as a server uses it; and what deletions promise
//! beyond, against a model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::conformance::{self, Subject};
use kes_keystore::{EntryName, KeyStore as _, Limited, Limits, Maintenance as _, StoreError};
use kes_keystore_embedded::{Config, EmbeddedStore, Engine, FileMedium, Settings};
use kes_seal::KeySeal;
use kes_types::{ManualClock, SystemClock};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_every_promise_of_a_store() {
    let folders = RefCell::new(Vec::new());
    conformance::all(async || {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys.redb");
        std::fs::write(&path, "").unwrap();
        folders.borrow_mut().push(folder);
        let medium = FileMedium::open(&path).unwrap();
        let undelete = Duration::ZERO;
        let settings = Settings { path, undelete };
        let engine = Engine::create_on(Arc::new(medium), settings, Arc::new(SystemClock)).await;
        Arc::new(engine.unwrap()) as Subject
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_every_promise_of_a_store() {
    let folders = RefCell::new(Vec::new());
    conformance::all(async || {
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), Duration::ZERO);
        folders.borrow_mut().push(folder);
        let store = EmbeddedStore::create(config, Arc::new(SystemClock)).await;
        Arc::new(store.unwrap()) as Subject
    })
    .await;
}

#[tokio::test]
async fn it_keeps_them_within_limits() {
    let folders = RefCell::new(Vec::new());
    conformance::all(async || {
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), Duration::ZERO);
        folders.borrow_mut().push(folder);
        let store = EmbeddedStore::create(config, Arc::new(SystemClock))
            .await
            .unwrap();
        let limits = Limits {
            at_once: NonZeroUsize::new(20).unwrap(),
            ..Limits::default()
        };
        Arc::new(Limited::new(Arc::new(store), limits)) as Subject
    })
    .await;
}

#[tokio::test]
async fn the_size_is_that_of_the_file() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), Duration::ZERO);
    let store = EmbeddedStore::create(config.clone(), Arc::new(SystemClock))
        .await
        .unwrap();
    let name = EntryName::parse("key").unwrap();
    store
        .create(&name, &SecretBytes::copy_of(&[7; 100_000]))
        .await
        .unwrap();
    let size = std::fs::metadata(&config.path).unwrap().len();
    assert_eq!(store.gauges().size, size);
    assert_eq!(store.info().await.unwrap().size, size);
    store.close().await;
}

#[tokio::test]
async fn a_value_is_replaced_where_there_is_one() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), Duration::from_secs(60));
    let open = || EmbeddedStore::connect(config.clone(), Arc::new(SystemClock));
    let store = open().await.unwrap();
    let name = EntryName::parse("key").unwrap();
    let value = |text: &str| SecretBytes::copy_of(text.as_bytes());
    assert!(matches!(
        store.replace(&name, &value("none")).await,
        Err(StoreError::NotFound)
    ));
    store.create(&name, &value("old")).await.unwrap();
    store.replace(&name, &value("new")).await.unwrap();
    assert_eq!(store.info().await.unwrap().keys, 1);
    store.close().await;

    let store = open().await.unwrap();
    assert_eq!(store.get(&name).await.unwrap().value.expose_secret(), b"new");
    store.delete(&name).await.unwrap();
    assert!(
        matches!(
            store.replace(&name, &value("newer")).await,
            Err(StoreError::NotFound)
        ),
        "a deleted one is not there"
    );
    store.undelete(&name).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap().value.expose_secret(), b"new");
    store.close().await;
}

#[tokio::test]
async fn a_store_that_is_only_examined_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    let kept = config(folder.path(), Duration::from_secs(60));
    let store = EmbeddedStore::create(kept.clone(), Arc::new(SystemClock))
        .await
        .unwrap();
    let (name, deleted) = (
        EntryName::parse("key").unwrap(),
        EntryName::parse("deleted").unwrap(),
    );
    let value = SecretBytes::copy_of(b"value");
    for name in [&name, &deleted] {
        store.create(name, &value).await.unwrap();
    }
    store.delete(&deleted).await.unwrap();
    store.close().await;
    let before = std::fs::read(&kept.path).unwrap();

    // A configuration of another time: with another seal, and without time for deleted keys.
    let mut other = config(folder.path(), Duration::ZERO);
    other.seals.extend(kept.seals.iter().cloned());
    let store = EmbeddedStore::examine(other, Arc::new(SystemClock))
        .await
        .unwrap();
    assert!(store.get(&name).await.unwrap().value.ct_eq(&value));
    assert!(store.create(&deleted, &value).await.is_err());
    assert!(store.delete(&name).await.is_err());
    store.close().await;
    assert!(std::fs::read(&kept.path).unwrap() == before);

    let store = EmbeddedStore::open(kept, Arc::new(SystemClock)).await.unwrap();
    store.undelete(&deleted).await.unwrap();
    assert!(store.get(&name).await.is_ok());
    store.close().await;
}

#[tokio::test]
async fn a_start_removes_what_nobody_can_bring_back_any_more() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::default());
    let config = config(folder.path(), Duration::from_secs(60));
    let store = EmbeddedStore::create(config.clone(), clock.clone())
        .await
        .unwrap();
    let store = Arc::new(store);
    for (numbers, wait) in [(0..1101, 30), (1101..1200, 0)] {
        let mut all = JoinSet::new();
        for number in numbers {
            let store = Arc::clone(&store);
            all.spawn(async move {
                let name = name(&format!("key-{number}"));
                store.create(&name, &secret("value")).await.unwrap();
                store.delete(&name).await.unwrap();
            });
        }
        all.join_all().await;
        clock.advance(Duration::from_secs(wait));
    }
    store.close().await;

    clock.advance(Duration::from_secs(30));
    let store = EmbeddedStore::open(config, clock).await.unwrap();
    let late = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.gauges().deleted > 99 {
        assert!(tokio::time::Instant::now() < late, "{:?}", store.gauges());
        tokio::task::yield_now().await;
    }
    assert_eq!(store.info().await.unwrap().deleted, 99, "and nothing else");
    store.undelete(&name("key-1101")).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn commits_and_only_commits_are_counted() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), Duration::ZERO);
    let store = EmbeddedStore::create(config, Arc::new(SystemClock))
        .await
        .unwrap();
    let commits = || store.gauges().commits.counts.iter().sum::<u64>();
    let before = commits();
    store.create(&name("key"), &secret("value")).await.unwrap();
    assert_eq!(commits(), before + 1);
    assert!(store.create(&name("key"), &secret("value")).await.is_err());
    assert!(store.delete(&name("absent")).await.is_err());
    store.get(&name("key")).await.unwrap();
    assert_eq!(commits(), before + 1);
    assert!(store.gauges().commits.sum > Duration::ZERO);
    assert_eq!(store.gauges().keys, 1);
    store.close().await;
}

/// One thing done to the store and to the model of it.
#[derive(Clone, Debug)]
enum Step {
    Create(&'static str),
    Get(&'static str),
    Delete(&'static str),
    Undelete(&'static str),
    List(usize),
    Wait(u64),
    Period(u64),
    Reopen,
}

/// What a store does, said in another way: live and deleted entries, and a clock.
#[derive(Debug, Default)]
struct Model {
    live: BTreeMap<EntryName, String>,
    deleted: BTreeMap<EntryName, (String, u64)>,
    now: u64,
    period: u64,
}

impl Model {
    fn forget(&mut self) {
        let (now, period) = (self.now, self.period);
        self.deleted.retain(|_, (_, at)| *at + period > now);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = proptest::sample::select(&NAMES[..]);
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Create),
        3 => key.clone().prop_map(Step::Get),
        3 => key.clone().prop_map(Step::Delete),
        3 => key.prop_map(Step::Undelete),
        1 => (1_usize..4).prop_map(Step::List),
        2 => (0_u64..100).prop_map(Step::Wait),
        1 => prop_oneof![Just(0_u64), 1_u64..200].prop_map(Step::Period),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn deletions_are_undone_within_their_time_and_never_after(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut model = Model {
        period: 100,
        ..Model::default()
    };
    let configuration = config(folder.path(), Duration::from_secs(model.period));
    let seals = configuration.seals.clone();
    let mut store = EmbeddedStore::create(configuration.clone(), clock.clone())
        .await
        .unwrap();
    for (number, step) in steps.into_iter().enumerate() {
        model.forget();
        match step {
            Step::Create(key) => {
                let (key, value) = (name(key), format!("value {number}"));
                let created = store.create(&key, &secret(&value)).await;
                if model.live.contains_key(&key) || model.deleted.contains_key(&key) {
                    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
                } else {
                    created.unwrap();
                    model.live.insert(key, value);
                }
            }
            Step::Get(key) => {
                let key = name(key);
                match (store.get(&key).await, model.live.get(&key)) {
                    (Ok(entry), Some(value)) => assert_eq!(entry.value.expose_secret(), value.as_bytes()),
                    (Err(StoreError::NotFound), None) => {}
                    (result, value) => panic!("{result:?} instead of {value:?}"),
                }
            }
            Step::Delete(key) => {
                let key = name(key);
                match (store.delete(&key).await, model.live.remove(&key)) {
                    (Ok(()), Some(value)) => {
                        model.deleted.insert(key, (value, model.now));
                    }
                    (Err(StoreError::NotFound), None) => {}
                    (result, value) => panic!("{result:?} instead of {value:?}"),
                }
            }
            Step::Undelete(key) => {
                let key = name(key);
                let undeleted = store.undelete(&key).await;
                if model.live.contains_key(&key) {
                    assert!(matches!(undeleted, Err(StoreError::Exists)), "{undeleted:?}");
                } else if let Some((value, _)) = model.deleted.remove(&key) {
                    undeleted.unwrap();
                    model.live.insert(key, value);
                } else {
                    assert!(matches!(undeleted, Err(StoreError::NotFound)), "{undeleted:?}");
                }
            }
            Step::List(size) => {
                let (mut listed, mut after) = (Vec::new(), None);
                loop {
                    let limit = NonZeroUsize::new(size).unwrap();
                    let page = store.list("", after.as_ref(), limit).await.unwrap();
                    listed.extend(page.names);
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert!(listed.iter().eq(model.live.keys()), "{listed:?}");
            }
            Step::Wait(seconds) => {
                clock.advance(Duration::from_secs(seconds));
                model.now += seconds;
            }
            Step::Period(seconds) => {
                store
                    .reconfigure(seals.clone(), Duration::from_secs(seconds))
                    .await
                    .unwrap();
                model.period = seconds;
            }
            Step::Reopen => {
                store.close().await;
                let config = Config {
                    undelete: Duration::from_secs(model.period),
                    ..configuration.clone()
                };
                store = EmbeddedStore::connect(config, clock.clone()).await.unwrap();
            }
        }
        let info = store.info().await.unwrap();
        assert_eq!(info.keys, model.live.len() as u64);
    }
    // A write removes what is over, on the side.
    store.create(&name("last"), &secret("x")).await.unwrap();
    model.forget();
    assert_eq!(store.info().await.unwrap().deleted, model.deleted.len() as u64);
    store.close().await;
}

/// A store in `folder`, with a seal of its own.
fn config(folder: &Path, undelete: Duration) -> Config {
    let seal = KeySeal::from_variable("SEAL", &KeySeal::generate_text().unwrap()).unwrap();
    Config {
        path: folder.join("keys.redb"),
        seals: vec![Arc::new(seal)],
        undelete,
    }
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

const NAMES: [&str; 4] = ["a", "b", "key-1", "key-2"];
