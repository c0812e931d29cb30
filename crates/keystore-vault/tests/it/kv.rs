//! What is stored, and where; looked at by hand.

use std::num::NonZeroUsize;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::KvVersion;
use serde_json::{Value, json};

use crate::rig::{Place, assert_says, name, secret};

const BOTH: [KvVersion; 2] = [KvVersion::V1, KvVersion::V2];

fn limit(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// A record of each kind that a server of this family has ever stored.
const RECORDS: [&str; 7] = [
    "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAESJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=",
    r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#,
    r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"AES256-GCM_SHA256","created_at":"2022-01-01T00:00:00Z"}"#,
    r#"{"version":"v1","bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"XCHACHA20-POLY1305","created_at":"2023-01-01T00:00:00.5+01:00","created_by":"00"}"#,
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\r\n",
    " {\"bytes\" : \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"}\n",
];

#[tokio::test]
async fn an_entry_is_an_object_with_one_member_that_is_named_as_the_key() {
    for (version, prefix) in [
        (KvVersion::V1, None),
        (KvVersion::V1, Some("a/b")),
        (KvVersion::V2, None),
        (KvVersion::V2, Some("a/b")),
    ] {
        let mut place = Place::new(version);
        if let Some(prefix) = prefix {
            place = place.with_prefix(prefix);
        }
        let store = place.store().await;
        for (i, record) in RECORDS.into_iter().enumerate() {
            let key = format!("my-key_{i}");
            store.create(&name(&key), &secret(record)).await.unwrap();
            assert_eq!(place.members(&key), json!({ key: record }));
        }
    }
}

#[tokio::test]
async fn a_key_is_one_version_with_number_1() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    let (_, metadata) = place.look(&format!("{}/metadata/x", place.engine));
    assert_eq!(metadata["data"]["current_version"], json!(1), "{metadata}");
    assert_eq!(
        store.get(&name("x")).await.unwrap().revision.as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn records_that_were_stored_long_ago_are_read_to_the_byte() {
    for version in BOTH {
        let place = Place::new(version);
        let store = place.store().await;
        for (i, record) in RECORDS.into_iter().enumerate() {
            let key = format!("old-{i}");
            place.lay(&key, json!({ &key: record }));
            let entry = store.get(&name(&key)).await.unwrap();
            assert_eq!(entry.value.expose_secret(), record.as_bytes());
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_an_object_with_base64() {
    for version in BOTH {
        let place = Place::new(version);
        let store = place.store().await;
        let value = kes_crypto::SecretBytes::copy_of(&[0xff, 0, 1]);
        store.create(&name("x"), &value).await.unwrap();
        assert_eq!(place.members("x"), json!({ "x": { "base64": "/wAB" } }));
        assert_eq!(
            store.get(&name("x")).await.unwrap().value.expose_secret(),
            [0xff, 0, 1]
        );
    }
}

#[tokio::test]
async fn what_somebody_has_noted_beside_a_key_does_not_matter() {
    for version in BOTH {
        let place = Place::new(version);
        place.lay(
            "x",
            json!({ "x": "value", "owner": "the storage team", "since": 2021 }),
        );
        let entry = place.store().await.get(&name("x")).await.unwrap();
        assert_eq!(entry.value.expose_secret(), b"value");
    }
}

#[tokio::test]
async fn an_entry_that_is_no_keys_is_corrupt_and_its_name_is_taken() {
    for version in BOTH {
        let place = Place::new(version);
        let store = place.store().await;
        let foreign = [
            json!({ "password": "hunter2" }),
            json!({ "X": "value" }),
            json!({ "x": 7 }),
            json!({ "x": null }),
            json!({ "x": ["value"] }),
            json!({ "x": { "value": "v" } }),
            json!({ "x": { "base64": "?" } }),
        ];
        for members in foreign {
            place.lay("x", members.clone());
            let read = store.get(&name("x")).await;
            let corrupt =
                matches!(&read, Err(StoreError::Corrupt { reason }) if reason.contains(&place.entry("x")));
            assert!(corrupt, "{members}: {read:?}");
            let created = store.create(&name("x"), &secret("new")).await;
            assert!(
                matches!(created, Err(StoreError::Exists)),
                "{members}: {created:?}"
            );
            assert_eq!(place.members("x"), members);
        }
    }
}

#[tokio::test]
async fn a_later_version_is_not_the_key() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("the key")).await.unwrap();
    place.lay("x", json!({ "x": "another program's" }));
    let entry = store.get(&name("x")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"the key");
}

#[tokio::test]
async fn a_key_that_later_versions_have_pushed_out_is_corrupt_and_not_absent() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    let metadata = format!("{}/metadata/x", place.engine);
    place.root("POST", &metadata, json!({ "max_versions": 2 }));
    for i in 1..=3 {
        place.lay("x", json!({ "x": i.to_string() }));
    }
    assert_says(
        store.get(&name("x")).await,
        &["corrupt", &place.entry("x"), "first version", "later ones"],
    );
    let created = store.create(&name("x"), &secret("new")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    assert_eq!(place.members("x"), json!({ "x": "3" }));
}

#[tokio::test]
async fn a_deleted_version_is_not_found_and_its_name_is_not_free() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    place.root("DELETE", &place.entry("x"), Value::Null);

    let read = store.get(&name("x")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    let created = store.create(&name("x"), &secret("new")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");

    place.root(
        "PUT",
        &format!("{}/undelete/x", place.engine),
        json!({ "versions": [1] }),
    );
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"value"
    );

    place.root("DELETE", &place.entry("x"), Value::Null);
    store.delete(&name("x")).await.unwrap();
    store.create(&name("x"), &secret("new")).await.unwrap();
    assert_eq!(store.get(&name("x")).await.unwrap().value.expose_secret(), b"new");
}

#[tokio::test]
async fn a_destroyed_version_is_corrupt_and_its_name_is_not_free() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    place.root(
        "PUT",
        &format!("{}/destroy/x", place.engine),
        json!({ "versions": [1] }),
    );
    assert_says(
        store.get(&name("x")).await,
        &["corrupt", &place.entry("x"), "destroyed"],
    );
    let created = store.create(&name("x"), &secret("new")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
}

#[tokio::test]
async fn a_deleted_key_leaves_nothing_behind() {
    let place = Place::new(KvVersion::V2);
    let store = place.store().await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    store.delete(&name("x")).await.unwrap();
    let (status, _) = place.look(&format!("{}/metadata/x", place.engine));
    assert_eq!(status, 404);
}

#[tokio::test]
async fn folders_and_what_is_in_them_are_not_listed() {
    for version in BOTH {
        let place = Place::new(version).with_prefix("keys");
        let store = place.store().await;
        for key in ["b", "a"] {
            store.create(&name(key), &secret("value")).await.unwrap();
        }
        // The same name as a key and as a folder, names that are none, and another folder beside.
        for foreign in ["a/inner", "sub/inner", "x.y", "-x", "../other/x", "naïve"] {
            place.lay(&foreign.replace("../other", "other"), json!({ "x": "y" }));
        }
        let page = store.list("", None, limit(10)).await.unwrap();
        assert_eq!(page.names, [name("a"), name("b")]);
        assert_eq!(page.next, None);
    }
}

#[tokio::test]
async fn prefixes_and_engines_do_not_see_each_other() {
    let place = Place::new(KvVersion::V2);
    let outer = place.store().await;
    let inner = Place {
        prefix: Some("keys".into()),
        ..Place::new(KvVersion::V2)
    };
    let inner_store = inner.store().await;
    outer.create(&name("x"), &secret("outer")).await.unwrap();
    inner_store.create(&name("x"), &secret("inner")).await.unwrap();
    assert_eq!(
        outer.get(&name("x")).await.unwrap().value.expose_secret(),
        b"outer"
    );
    assert_eq!(
        inner_store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"inner"
    );
    assert_eq!(outer.list("", None, limit(10)).await.unwrap().names, [name("x")]);
}

#[tokio::test]
async fn slashes_around_paths_do_not_matter() {
    for version in BOTH {
        let place = Place::new(version).with_prefix("a/b");
        place
            .store()
            .await
            .create(&name("x"), &secret("value"))
            .await
            .unwrap();
        let mut config = place.config();
        config.engine = format!("/{}/", config.engine);
        config.prefix = Some("/a//b/".into());
        config.endpoint = format!("{}/", config.endpoint);
        let store = crate::rig::connect(config).await;
        assert_eq!(
            store.get(&name("x")).await.unwrap().value.expose_secret(),
            b"value"
        );
        assert_eq!(
            store.to_string(),
            format!("Vault: {}/{}/a/b", place.vault.endpoint(), place.engine)
        );
    }
}
