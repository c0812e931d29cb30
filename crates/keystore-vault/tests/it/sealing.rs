//! A Vault that is sealed while it is used.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::{Config, KvVersion};
use kes_peers::Vault;
use kes_testkit::{Answer, Fault, FaultProxy, ProxiedRequest, until};
use kes_types::ManualClock;
use serde_json::json;

use crate::rig::{Place, assert_says, connect, connect_at, name, prepare, secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_vault_is_noticed_and_used_again_once_it_is_unsealed() {
    let vault = Vault::start().unwrap();
    prepare(&vault);
    let place = Place::of(&vault, KvVersion::V2);
    let proxy = FaultProxy::start(vault.endpoint());
    let store = connect(Config {
        endpoint: proxy.endpoint(),
        ping: Duration::from_millis(20),
        ..place.config()
    })
    .await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    store.ping().await.unwrap();

    vault.seal().unwrap();
    let sealed = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Sealed { .. }));
    assert!(sealed(store.ping().await), "a ping notices at once");
    // From then on nobody is asked, but for how it is.
    proxy.forget();
    assert!(sealed(store.get(&name("x")).await.map(drop)));
    assert!(sealed(store.create(&name("y"), &secret("value")).await));
    assert!(sealed(store.delete(&name("x")).await));
    assert!(sealed(store.list("", None, NonZeroUsize::MIN).await.map(drop)));
    assert_eq!(proxy.count_of(|request| !is_health(request)), 0);

    vault.unseal().unwrap();
    until("the store to be used again", async || {
        store.get(&name("x")).await.is_ok()
    })
    .await;
    store.ping().await.unwrap();
    store.create(&name("y"), &secret("value")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_poll_sees_is_what_operations_say() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = connect(Config {
        endpoint: proxy.endpoint(),
        ping: Duration::from_millis(20),
        ..place.config()
    })
    .await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    let health = |initialized: bool, sealed: bool| {
        let body = json!({ "initialized": initialized, "sealed": sealed, "standby": true });
        Answer::of(299, "application/json", body.to_string())
    };
    for (answer, expected) in [
        (health(true, true), "Sealed"),
        (health(false, true), "Unreachable"),
        (health(true, false), "Ok"),
        (health(true, true), "Sealed"),
        // Nothing new is known.
        (Answer::of(500, "text/plain", ""), "Sealed"),
        (health(true, false), "Ok"),
    ] {
        let answered = answer.clone();
        proxy.set(move |request| {
            if is_health(request) {
                Fault::Says(answered.clone())
            } else {
                Fault::Pass
            }
        });
        until("the poll to be heard", async || {
            let result = match store.get(&name("x")).await {
                Ok(_) => "Ok".to_owned(),
                Err(error) => format!("{error:?}"),
            };
            result.starts_with(expected)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_asks_nobody_any_more() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = connect(Config {
        endpoint: proxy.endpoint(),
        ping: Duration::from_millis(20),
        ..place.config()
    })
    .await;
    until("the poll", async || proxy.count_of(is_health) > 2).await;
    store.close().await;
    // What was under way may still come.
    until("the last request to end", async || proxy.under_way() == 0).await;
    let before = proxy.count();
    let poll_of_another = Place::new(KvVersion::V1);
    let other = FaultProxy::start(poll_of_another.vault.endpoint());
    let another = connect(Config {
        endpoint: other.endpoint(),
        ping: Duration::from_millis(20),
        ..poll_of_another.config()
    })
    .await;
    // While the other one polls, this one does not.
    until("the poll of another", async || other.count() > 20).await;
    assert!(proxy.count() <= before + 1, "{:?}", proxy.requests().last());
    drop(another);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_sees_credentials_that_are_no_longer_good() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let clock = Arc::new(ManualClock::default());
    let config = Config {
        endpoint: proxy.endpoint(),
        ..place.config()
    };
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    store.ping().await.unwrap();

    // Revoked, and no other one to be had.
    clock.advance(Duration::from_secs(60));
    proxy.set(|request| {
        if request.path().contains("/auth/") {
            denied()
        } else {
            Fault::Pass
        }
    });
    let pinged = store.ping().await;
    assert!(matches!(pinged, Err(StoreError::AuthFailed { .. })), "{pinged:?}");
}

/// It is told to be well all the same, and asks no more after a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_ping_needs_no_permission() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let clock = Arc::new(ManualClock::default());
    let config = Config {
        endpoint: proxy.endpoint(),
        ..place.config()
    };
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    proxy.set(|request| if is_lookup(request) { denied() } else { Fault::Pass });
    for _ in 0..5 {
        clock.advance(Duration::from_secs(60));
        store.ping().await.unwrap();
    }
    let asked = proxy.count_of(is_lookup);
    assert!(asked <= 4, "twice, with two tokens each, and not {asked} times");
    store.ping().await.unwrap();
    assert_eq!(proxy.count_of(is_lookup), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_that_is_refused_is_told_as_what_it_is() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    proxy.set(|request| if is_health(request) { denied() } else { Fault::Pass });
    assert_says(store.ping().await, &["sys/health", "in front of Vault"]);
}

fn denied() -> Fault {
    let body = json!({ "errors": ["permission denied"] }).to_string();
    Fault::Says(Answer::of(403, "application/json", body))
}

fn is_lookup(request: &ProxiedRequest) -> bool {
    request.path().ends_with("auth/token/lookup-self")
}

fn is_health(request: &ProxiedRequest) -> bool {
    request.path().ends_with("sys/health")
}
