//! What an operator is told when something is not as it should be: one line with the place, the cause and the remedy.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::{ConnectError, KvVersion, VaultStore};
use kes_testkit::{Answer, Fault, FaultProxy};
use kes_types::SystemClock;
use serde_json::{Value, json};

use crate::rig::{Place, assert_says, name, rule, secret, told};

async fn refused(config: kes_keystore_vault::Config) -> String {
    let clock = Arc::new(SystemClock);
    let text = told(&VaultStore::connect(config, clock).await.unwrap_err());
    assert!(!text.contains('\n'), "{text}");
    text
}

#[tokio::test]
async fn each_missing_capability_is_named_with_its_path() {
    for version in [KvVersion::V1, KvVersion::V2] {
        let place = Place::new(version).with_prefix("keys");
        let store = place.store().await;
        store.create(&name("x"), &secret("value")).await.unwrap();
        place.permit(&rule("nothing/*", &["read"]));
        let engine = &place.engine;
        let (entry, whole, folder) = match version {
            KvVersion::V1 => (place.entry("x"), place.entry("x"), format!("{engine}/keys/")),
            KvVersion::V2 => (
                place.entry("x"),
                format!("{engine}/metadata/keys/x"),
                format!("{engine}/metadata/keys/"),
            ),
        };
        let hint = |capability: &str, path: &str| format!("the policy needs \"{capability}\" on {path}");
        let here = store.to_string();
        assert_says(store.get(&name("x")).await, &[&here, &hint("read", &entry)]);
        assert_says(store.delete(&name("x")).await, &[&here, &hint("delete", &whole)]);
        assert_says(
            store.list("", None, NonZeroUsize::MIN).await,
            &[&here, &hint("list", &folder)],
        );

        place.permit(&rule(&format!("{engine}/*"), &["read"]));
        let created = store.create(&name("y"), &secret("value")).await;
        assert!(matches!(created, Err(StoreError::Denied { .. })), "{created:?}");
        assert_says(created, &[&here, &hint("create", &place.entry("y"))]);
    }
}

#[tokio::test]
async fn an_engine_that_was_unmounted_is_an_error_and_not_an_absent_key() {
    for version in [KvVersion::V1, KvVersion::V2] {
        let place = Place::new(version);
        let store = place.store().await;
        store.create(&name("x"), &secret("value")).await.unwrap();
        place.root("DELETE", &format!("sys/mounts/{}", place.engine), Value::Null);
        let engine = format!("must be mounted at {}", place.engine);
        let says = [
            engine.as_str(),
            "keystore.vault.engine",
            "keystore.vault.namespace is not set",
        ];
        assert_says(store.get(&name("x")).await, &says);
        assert_says(store.delete(&name("x")).await, &says);
        assert_says(store.create(&name("y"), &secret("value")).await, &says);
        assert_says(store.list("", None, NonZeroUsize::MIN).await, &says);
    }
}

#[tokio::test]
async fn the_other_version_of_the_engine_is_told_when_connecting() {
    for (version, other, says) in [
        (
            KvVersion::V1,
            KvVersion::V2,
            "is a K/V version 1 engine, but keystore.vault.version is v2",
        ),
        (
            KvVersion::V2,
            KvVersion::V1,
            "is a K/V version 2 engine, but keystore.vault.version is v1",
        ),
    ] {
        let place = Place::new(version);
        let mut config = place.config();
        config.version = other;
        let text = refused(config).await;
        assert!(text.contains(&place.engine) && text.contains(says), "{text}");
    }
}

/// Not every server and every proxy shows what is mounted.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_version_of_the_engine_is_told_by_what_it_answers() {
    for (version, says) in [
        (
            KvVersion::V1,
            "a K/V version 1 engine, but keystore.vault.version is v2",
        ),
        (
            KvVersion::V2,
            "is a K/V version 2 engine, but keystore.vault.version is v1",
        ),
    ] {
        let place = Place::new(version);
        place.permit(&rule(
            &format!("{}/*", place.engine),
            &["create", "read", "list", "delete"],
        ));
        let proxy = FaultProxy::start(place.vault.endpoint());
        proxy.set(|request| {
            if request.path().starts_with("/v1/sys/internal") {
                return Fault::Says(Answer::of(404, "text/html", "<html>"));
            }
            Fault::Pass
        });
        let mut config = place.config();
        config.endpoint = proxy.endpoint();
        config.version = match version {
            KvVersion::V1 => KvVersion::V2,
            KvVersion::V2 => KvVersion::V1,
        };
        let store = crate::rig::connect(config).await;
        assert_says(store.create(&name("x"), &secret("value")).await, &[says]);
        if version == KvVersion::V2 {
            assert_says(store.get(&name("x")).await, &[says]);
            assert_says(store.delete(&name("x")).await, &[says]);
            assert_says(store.list("", None, NonZeroUsize::MIN).await, &[says]);
        }
    }
}

#[tokio::test]
async fn an_engine_of_another_kind_or_below_a_mount_is_told_when_connecting() {
    let place = Place::new(KvVersion::V2);
    place.permit(&(rule(&format!("{}/*", place.engine), &["read"]) + &rule("transit/*", &["update"])));
    let mut config = place.config();
    config.engine = "transit".into();
    let text = refused(config).await;
    assert!(
        text.contains("keystore.vault.engine") && text.contains("type transit"),
        "{text}"
    );

    let mut config = place.config();
    config.engine = format!("{}/folder", place.engine);
    let text = refused(config).await;
    assert!(
        text.contains(&place.engine) && text.contains("keystore.vault.prefix"),
        "{text}"
    );
}

#[tokio::test]
async fn settings_that_are_none_are_told_before_anybody_is_asked() {
    let place = Place::new(KvVersion::V2);
    let with = |change: &dyn Fn(&mut kes_keystore_vault::Config)| {
        let mut config = place.config();
        change(&mut config);
        config
    };
    for (config, says) in [
        (
            with(&|config| config.endpoint = "vault:8200".into()),
            "keystore.vault.endpoint",
        ),
        (
            with(&|config| config.endpoint = "https://user:hunter2@vault".into()),
            "keystore.vault.endpoint",
        ),
        (
            with(&|config| config.endpoint = "https://vault?x=1".into()),
            "keystore.vault.endpoint",
        ),
        (
            with(&|config| config.engine = "/".into()),
            "keystore.vault.engine is empty",
        ),
        (
            with(&|config| config.engine = "kv/../sys".into()),
            "keystore.vault.engine",
        ),
        (
            with(&|config| config.prefix = Some("../x".into())),
            "keystore.vault.prefix",
        ),
        (
            with(&|config| config.namespace = Some("a\nb".into())),
            "keystore.vault.namespace",
        ),
        (
            with(&|config| config.tls.ca = Some("/nowhere/ca.pem".into())),
            "/nowhere/ca.pem",
        ),
    ] {
        let text = refused(config).await;
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_login_that_is_refused_fails_the_connection() {
    let place = Place::new(KvVersion::V2);
    let (id, _) = place.credentials();
    let config = kes_keystore_vault::Config {
        engine: place.engine.clone(),
        ..crate::rig::config(place.vault.endpoint(), &id, "not-the-secret-id")
    };
    let clock = Arc::new(SystemClock);
    let error = VaultStore::connect(config, clock).await.unwrap_err();
    assert!(matches!(error, ConnectError::Login { .. }), "{error:?}");
    let text = told(&error);
    assert!(
        text.contains(place.vault.endpoint()) && text.contains("approle"),
        "{text}"
    );
    assert!(!text.contains("not-the-secret-id"), "{text}");
}

#[tokio::test]
async fn a_vault_that_is_not_there_is_told_with_its_address() {
    let mut config = Place::new(KvVersion::V2).config();
    config.endpoint = "http://127.0.0.1:1".into();
    let text = refused(config).await;
    assert!(text.contains("127.0.0.1:1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_front_of_vault_cannot_make_a_key_absent() {
    for version in [KvVersion::V1, KvVersion::V2] {
        let place = Place::new(version);
        let proxy = FaultProxy::start(place.vault.endpoint());
        let store = place.through(proxy.endpoint()).await;
        store.create(&name("x"), &secret("value")).await.unwrap();
        for answer in [
            Answer::of(404, "text/html", "<html>nothing here</html>"),
            Answer::of(404, "text/plain", ""),
            Answer::of(404, "application/json", "{}"),
            Answer::of(200, "text/html", "<html>please log in</html>"),
            Answer::of(200, "application/json", "{}"),
            Answer::of(200, "application/json", r#"{"data":null}"#),
            Answer::of(200, "application/json", r#"{"data":{"keys":null}}"#),
            Answer::of(302, "text/html", ""),
        ] {
            proxy.always(Fault::Says(answer.clone()));
            let read = store.get(&name("x")).await;
            assert!(
                matches!(read, Err(StoreError::Backend { .. } | StoreError::Corrupt { .. })),
                "{answer:?}: {read:?}"
            );
            let listed = store.list("", None, NonZeroUsize::MIN).await;
            assert!(
                matches!(listed, Err(StoreError::Backend { .. })),
                "{answer:?}: {listed:?}"
            );
        }
        proxy.always(Fault::Says(Answer::of(200, "text/html", "<html>")));
        let created = store.create(&name("y"), &secret("value")).await;
        assert!(matches!(created, Err(StoreError::Backend { .. })), "{created:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_an_error() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let long = json!({ "data": { "x": "v".repeat(2 << 20) } }).to_string();
    proxy.always(Fault::Says(Answer::of(200, "application/json", long)));
    let read = store.get(&name("x")).await;
    assert!(matches!(read, Err(StoreError::Backend { .. })), "{read:?}");
    proxy.heal();
    let names: Vec<_> = (0..100_000).map(|i| format!("name-{i:020}")).collect();
    let listing = json!({ "data": { "keys": names } }).to_string();
    proxy.always(Fault::Says(Answer::of(200, "application/json", listing)));
    let page = store
        .list("", None, NonZeroUsize::new(1000).unwrap())
        .await
        .unwrap();
    assert_eq!((page.names.len(), page.next.is_some()), (1000, true));
}
