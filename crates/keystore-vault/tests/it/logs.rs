//! What is told in the log only, because the answer to a client must not tell it.

use kes_keystore::KeyStore as _;
use kes_keystore_vault::KvVersion;
use kes_testkit::{Answer, Fault, FaultProxy, ThreadLog};
use serde_json::{Value, json};

use crate::rig::{Place, name, rule, secret};

#[tokio::test]
async fn a_deleted_version_is_told_with_what_to_do() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    place.root("DELETE", &place.entry("x"), Value::Null);
    let whole = format!("{}/metadata/x", place.engine);

    let (log, _guard) = ThreadLog::capture();
    store.get(&name("x")).await.unwrap_err();
    let line = log.line(&place.entry("x"));
    assert!(
        line.contains("WARN") && line.contains("undelete") && line.contains(&whole),
        "{line}"
    );
    let (log, _guard) = ThreadLog::capture();
    store.create(&name("x"), &secret("value")).await.unwrap_err();
    log.line(&whole);
}

#[tokio::test]
async fn a_version_1_engine_is_warned_of_when_connecting_and_a_version_2_engine_is_not() {
    let (old, new) = (Place::new(KvVersion::V1), Place::new(KvVersion::V2));
    let (log, _guard) = ThreadLog::capture();
    let _store = old.store().await;
    assert!(log.line("version 1 engine").contains(&old.engine));
    let (log, _guard) = ThreadLog::capture();
    let _store = new.store().await;
    assert!(log.text().is_empty());
}

#[tokio::test]
async fn an_engine_that_no_policy_shows_is_warned_of_when_connecting() {
    let place = Place::new(KvVersion::V2);
    place.permit(&rule("another/*", &["read"]));
    let (log, _guard) = ThreadLog::capture();
    let _store = place.store().await;
    let line = log.line("nothing is mounted there, or its policies");
    assert!(
        line.contains(&place.engine) && line.contains(place.vault.endpoint()),
        "{line}"
    );
}

#[tokio::test]
async fn that_vault_is_sealed_and_unsealed_is_told_once_each() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let health = json!({ "initialized": true, "sealed": true }).to_string();
    let (log, _guard) = ThreadLog::capture();
    proxy.always(Fault::Says(Answer::of(299, "application/json", health)));
    store.ping().await.unwrap_err();
    store.ping().await.unwrap_err();
    proxy.heal();
    store.ping().await.unwrap();
    store.ping().await.unwrap();
    assert!(log.line("WARN").contains(&proxy.endpoint()));
    assert!(log.line("INFO").contains(&proxy.endpoint()));
}
