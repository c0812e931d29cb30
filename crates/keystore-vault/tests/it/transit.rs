//! Values that Vault encrypts before they are stored.

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::{KvVersion, Transit};
use serde_json::{Value, json};

use crate::rig::{Place, assert_says, name, rule, secret};

fn place() -> Place<'static> {
    Place::new(KvVersion::V2).with_transit()
}

#[tokio::test]
async fn what_is_stored_is_a_ciphertext() {
    let place = place();
    let store = place.store().await;
    store.create(&name("x"), &secret("the value")).await.unwrap();
    let members = place.members("x");
    let stored = members["x"].as_str().unwrap();
    assert!(
        stored.starts_with("vault:v1:") && !stored.contains("the value"),
        "{stored}"
    );
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"the value"
    );
}

#[tokio::test]
async fn keys_from_before_and_after_a_rotation_are_read() {
    let place = place();
    let store = place.store().await;
    store.create(&name("before"), &secret("old")).await.unwrap();
    for version in 2..=11 {
        place.root(
            "POST",
            &format!("transit/keys/{}/rotate", place.role),
            Value::Null,
        );
        let key = format!("after-{version}");
        store.create(&name(&key), &secret(&key)).await.unwrap();
        let stored = place.members(&key)[&key].as_str().unwrap().to_owned();
        assert!(stored.starts_with(&format!("vault:v{version}:")), "{stored}");
        assert_eq!(
            store.get(&name(&key)).await.unwrap().value.expose_secret(),
            key.as_bytes()
        );
    }
    assert_eq!(
        store.get(&name("before")).await.unwrap().value.expose_secret(),
        b"old"
    );
}

#[tokio::test]
async fn keys_that_were_stored_before_transit_was_switched_on_are_read() {
    let place = place();
    place.lay("old", json!({ "old": "a record" }));
    let store = place.store().await;
    assert_eq!(
        store.get(&name("old")).await.unwrap().value.expose_secret(),
        b"a record"
    );
}

#[tokio::test]
async fn an_encrypted_key_without_transit_is_an_error_and_not_the_ciphertext() {
    let mut place = place();
    place
        .store()
        .await
        .create(&name("x"), &secret("value"))
        .await
        .unwrap();
    place.transit = None;
    let store = place.store().await;
    assert_says(
        store.get(&name("x")).await,
        &[&place.entry("x"), "keystore.vault.transit"],
    );
}

#[tokio::test]
async fn a_value_that_looks_encrypted_comes_back_as_it_was() {
    let value = "vault:v1:bm90IGVuY3J5cHRlZA==";
    for place in [Place::new(KvVersion::V2), Place::new(KvVersion::V1), place()] {
        let store = place.store().await;
        store.create(&name("x"), &secret(value)).await.unwrap();
        assert_eq!(
            store.get(&name("x")).await.unwrap().value.expose_secret(),
            value.as_bytes()
        );
    }
}

#[tokio::test]
async fn a_missing_permission_of_transit_is_named() {
    let place = place();
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    let engine = &place.engine;
    place.permit(&rule(&format!("{engine}/*"), &["create", "read"]));
    let key = &place.role;
    let encrypt = format!("\"update\" on transit/encrypt/{key}");
    let decrypt = format!("\"update\" on transit/decrypt/{key}");
    let created = store.create(&name("y"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Denied { .. })), "{created:?}");
    assert_says(created, &[&encrypt, "the key must exist"]);
    assert_says(store.get(&name("x")).await, &[&decrypt]);
}

#[tokio::test]
async fn a_key_that_transit_cannot_decrypt_is_an_error_that_says_so() {
    let place = place();
    let store = place.store().await;
    place.lay(
        "junk",
        json!({ "junk": "vault:v1:aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=" }),
    );
    place.lay(
        "future",
        json!({ "future": "vault:v99:aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=" }),
    );
    for key in ["junk", "future"] {
        let path = format!("transit/decrypt/{}", place.role);
        assert_says(
            store.get(&name(key)).await,
            &[&path, "status 400", "the transit key must be the one"],
        );
    }
}

#[tokio::test]
async fn a_transit_engine_that_is_another_engine_is_told_at_once() {
    let mut place = place();
    place.transit = Some(Transit {
        engine: place.engine.clone(),
        key: "k".into(),
    });
    let clock = std::sync::Arc::new(kes_types::SystemClock);
    let refused = kes_keystore_vault::VaultStore::connect(place.config(), clock)
        .await
        .unwrap_err();
    let text = crate::rig::told(&refused);
    assert!(
        text.contains("keystore.vault.transit.engine") && text.contains("type kv"),
        "{text}"
    );
}
