//! Creates that race, and creates whose answers are lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use kes_keystore::{EntryName, KeyStore as _, Patience, StoreError};
use kes_keystore_vault::{Config, KvVersion, VaultStore};
use kes_testkit::{Answer, Fault, FaultProxy, ProxiedRequest};
use kes_types::ManualClock;
use serde_json::json;
use tokio::sync::Barrier;

use crate::rig::{Place, connect_at, name, rule, secret, vault};

const RACERS: usize = 20;

/// Has many of two servers create one key at once, and gives the values of those who succeeded.
async fn race(stores: [VaultStore; 2], key: &EntryName) -> Vec<String> {
    let stores = Arc::new(stores);
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (stores, start, key) = (Arc::clone(&stores), Arc::clone(&start), key.clone());
            tokio::spawn(async move {
                let value = format!("value of {racer}");
                start.wait().await;
                match stores[racer % 2].create(&key, &secret(&value)).await {
                    Ok(()) => Some(value),
                    Err(StoreError::Exists) => None,
                    Err(other) => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        winners.extend(racer.await.unwrap());
    }
    winners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_servers_on_version_2_one_creates_the_key() {
    let place = Place::new(KvVersion::V2);
    let winners = race([place.store().await, place.store().await], &name("x")).await;
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(place.members("x"), json!({ "x": winners[0] }));
    let (_, metadata) = place.look(&format!("{}/metadata/x", place.engine));
    assert_eq!(
        metadata["data"]["versions"].as_object().unwrap().len(),
        1,
        "{metadata}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_servers_that_may_update_on_version_2_one_creates_the_key() {
    let place = Place::new(KvVersion::V2);
    place.permit(&rule(
        &format!("{}/data/*", place.engine),
        &["create", "update", "read"],
    ));
    let winners = race([place.store().await, place.store().await], &name("x")).await;
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(place.members("x"), json!({ "x": winners[0] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_servers_that_may_not_update_on_version_1_one_creates_the_key() {
    let place = Place::new(KvVersion::V1);
    place.permit(&rule(&format!("{}/*", place.engine), &["create", "read"]));
    let winners = race([place.store().await, place.store().await], &name("x")).await;
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(place.members("x"), json!({ "x": winners[0] }));
}

/// Whatever a test does at the moment when a request comes.
fn when(
    which: impl Fn(&ProxiedRequest) -> bool + Send + Sync + 'static,
    act: impl Fn() -> Fault + Send + Sync + 'static,
) -> impl Fn(&ProxiedRequest) -> Fault + Send + Sync {
    move |request| if which(request) { act() } else { Fault::Pass }
}

fn is(method: &'static str, end: &'static str) -> impl Fn(&ProxiedRequest) -> bool + Clone + Send + Sync {
    move |request| request.method == method && request.path().ends_with(end)
}

/// Stores another value, once.
fn another(place: &Place<'static>) -> impl Fn() + Send + Sync + use<> {
    let (path, done) = (place.entry("x"), Once::new());
    move || {
        done.call_once(|| {
            vault()
                .root("PUT", &path, json!({ "x": "another server's" }))
                .unwrap();
        });
    }
}

/// The write of another server comes between the write of this one and its comparison.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_overwritten_on_version_1_learns_it() {
    let place = Place::new(KvVersion::V1);
    place.permit(&rule(
        &format!("{}/*", place.engine),
        &["create", "update", "read"],
    ));
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let (written, overwrite) = (AtomicBool::new(false), another(&place));
    proxy.set(move |request| {
        if is("PUT", "/x")(request) {
            written.store(true, Ordering::SeqCst);
        } else if written.load(Ordering::SeqCst) {
            overwrite();
        }
        Fault::Pass
    });
    let created = store.create(&name("x"), &secret("ours")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    assert_eq!(place.members("x"), json!({ "x": "another server's" }));
}

/// The write of another server comes between the look of this one and its write.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_between_look_and_write_is_not_overwritten_without_update() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let write = another(&place);
    proxy.set(when(is("PUT", "/x"), move || {
        write();
        Fault::Pass
    }));
    let created = store.create(&name("x"), &secret("ours")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    assert_eq!(place.members("x"), json!({ "x": "another server's" }));
    assert_eq!(
        proxy.count_of(|request| request.path().contains("/auth/")),
        1,
        "no login is needed to learn this"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_lost_has_succeeded() {
    let places: [fn() -> Place<'static>; 3] = [
        || Place::new(KvVersion::V1),
        || Place::new(KvVersion::V2),
        || Place::new(KvVersion::V2).with_transit(),
    ];
    let faults = [
        Fault::Lose,
        Fault::Half,
        Fault::SaysAfter(Answer::of(502, "text/html", "<html>")),
    ];
    for place in places.map(|place| place()) {
        for fault in &faults {
            for times in 1..=3 {
                let proxy = FaultProxy::start(place.vault.endpoint());
                let store = place.through(proxy.endpoint()).await;
                for _ in 0..times {
                    proxy.once(is("PUT", "/x"), fault.clone());
                }
                let created = store.create(&name("x"), &secret("ours")).await;
                let version = place.version;
                assert!(created.is_ok(), "{version:?} {fault:?} {times}: {created:?}");
                assert_eq!(proxy.count_of(is("PUT", "/x")), 1, "{version:?} {fault:?}");
                assert_eq!(
                    store.get(&name("x")).await.unwrap().value.expose_secret(),
                    b"ours"
                );
                store.delete(&name("x")).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_comparison_is_lost_has_succeeded() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let look = is("GET", "/x");
    proxy.once(look.clone(), Fault::Pass);
    proxy.once(look.clone(), Fault::Lose);
    store.create(&name("x"), &secret("ours")).await.unwrap();
    assert_eq!(place.members("x"), json!({ "x": "ours" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_never_arrives_is_an_error_and_leaves_nothing() {
    for version in [KvVersion::V1, KvVersion::V2] {
        let place = Place::new(version);
        let proxy = FaultProxy::start(place.vault.endpoint());
        let store = place.through(proxy.endpoint()).await;
        proxy.set(when(is("PUT", "/x"), || Fault::Reset));
        let created = store.create(&name("x"), &secret("ours")).await;
        assert!(
            matches!(created, Err(StoreError::Unreachable { .. })),
            "{created:?}"
        );
        assert_eq!(proxy.count_of(is("PUT", "/x")), 3);
        assert_eq!(place.look(&place.entry("x")).0, 404);
    }
}

/// The first attempt does not arrive, and before the second one somebody else creates the key.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_creates_the_key_between_two_attempts_keeps_it() {
    for (version, update) in [
        (KvVersion::V1, true),
        (KvVersion::V1, false),
        (KvVersion::V2, true),
        (KvVersion::V2, false),
    ] {
        let place = Place::new(version);
        let capabilities: &[&str] = if update {
            &["create", "update", "read"]
        } else {
            &["create", "read"]
        };
        place.permit(&rule(&format!("{}/*", place.engine), capabilities));
        let proxy = FaultProxy::start(place.vault.endpoint());
        let store = place.through(proxy.endpoint()).await;
        let path = place.entry("x");
        proxy.set(when(is("PUT", "/x"), move || {
            let members = json!({ "x": "another server's" });
            let body = if path.contains("/data/") {
                json!({ "data": members })
            } else {
                members
            };
            vault().root("PUT", &path, body).unwrap();
            Fault::Reset
        }));
        let created = store.create(&name("x"), &secret("ours")).await;
        assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
        assert_eq!(place.members("x"), json!({ "x": "another server's" }));
    }
}

/// The write comes second, its answer is lost, and there is no other attempt.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_the_last_answer_still_learns_that_the_key_exists() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let config = place.config();
    let store = VaultStore::connect(
        Config {
            endpoint: proxy.endpoint(),
            patience: Patience {
                retries: 0,
                ..config.patience
            },
            ..config
        },
        Arc::new(ManualClock::default()),
    )
    .await
    .unwrap();
    place.lay("x", json!({ "x": "another server's" }));
    proxy.set(when(is("PUT", "/x"), || Fault::Lose));
    let created = store.create(&name("x"), &secret("ours")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
}

/// Something in front of Vault has replaced the body of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_cannot_be_read_has_succeeded() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let unread = Answer::of(200, "text/html", "<html>");
    proxy.once(is("PUT", "/x"), Fault::SaysAfter(unread.clone()));
    store.create(&name("x"), &secret("ours")).await.unwrap();
    // But nothing is taken for stored that was not.
    proxy.once(is("PUT", "/y"), Fault::Says(unread));
    let created = store.create(&name("y"), &secret("ours")).await;
    assert!(matches!(created, Err(StoreError::Backend { .. })), "{created:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_does_not_make_a_create_fail() {
    for version in [KvVersion::V1, KvVersion::V2] {
        let place = Place::new(version);
        let proxy = FaultProxy::start(place.vault.endpoint());
        let clock = Arc::new(ManualClock::default());
        let config = Config {
            endpoint: proxy.endpoint(),
            ..place.config()
        };
        let store = connect_at(config, Arc::clone(&clock) as _).await;
        let denied = json!({ "errors": ["permission denied"] }).to_string();
        let first = Mutex::new(None);
        proxy.set(move |request| {
            if request.path().contains("/auth/") {
                return Fault::Pass;
            }
            // The token of before the login that this leads to is no longer good.
            let token = request.header("x-vault-token").unwrap().to_owned();
            let mut first = first.lock().unwrap();
            if *first.get_or_insert_with(|| token.clone()) == token {
                Fault::Says(Answer::of(403, "application/json", denied.clone()))
            } else {
                Fault::Pass
            }
        });
        // A token that is only just there is not taken for revoked.
        clock.advance(Duration::from_secs(60));
        store.create(&name("x"), &secret("ours")).await.unwrap();
        assert_eq!(place.members("x"), json!({ "x": "ours" }));
    }
}

#[tokio::test]
async fn a_policy_with_create_read_and_delete_only_is_enough_but_to_list() {
    let place = Place::new(KvVersion::V1);
    place.permit(&rule(
        &format!("{}/*", place.engine),
        &["create", "read", "delete"],
    ));
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    let again = store.create(&name("x"), &secret("value")).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"value"
    );
    let listed = store.list("", None, std::num::NonZeroUsize::MIN).await;
    let hint = format!("the policy needs \"list\" on {}/", place.engine);
    assert!(
        matches!(&listed, Err(StoreError::Denied { hint: said, .. }) if *said == hint),
        "{listed:?}"
    );
    store.delete(&name("x")).await.unwrap();
    assert_eq!(place.look(&place.entry("x")), (404, json!({ "errors": [] })));
}

/// The server ignores the condition of a write, as some imitations of Vault do.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_made_another_version_than_the_first_is_no_success() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let second = json!({ "data": { "version": 2 } }).to_string();
    proxy.once(
        is("PUT", "/x"),
        Fault::Says(Answer::of(200, "application/json", second)),
    );
    let created = store.create(&name("x"), &secret("ours")).await;
    crate::rig::assert_says(created, &["another version", &place.entry("x")]);
}
