//! What every key store promises, and what the secrets look like at rest.

use std::sync::Arc;

use kes_crypto::SecretBytes;
use kes_keystore::conformance::{self, Subject};
use kes_keystore::{KeyStore as _, StoreError};
use serde_json::{Value, json};

use crate::rig::{Place, connect, name, secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_of_every_store() {
    conformance::all(async || Arc::new(Place::fresh().connect().await) as Subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_them_under_a_kms_key() {
    let fresh = async || {
        let place = Place::fresh();
        let mut config = place.config();
        config.kmskey = place.kms_key()["KeyId"].as_str().map(str::to_owned);
        connect(config).await.unwrap()
    };
    conformance::a_created_entry_is_read_back(Arc::new(fresh().await)).await;
    conformance::values_of_any_bytes_come_back_as_they_were(Arc::new(fresh().await)).await;
    conformance::creating_a_taken_name_changes_nothing(Arc::new(fresh().await)).await;
    conformance::a_race_to_create_has_one_winner(Arc::new(fresh().await)).await;
    conformance::a_deleted_name_is_gone_and_free_again(Arc::new(fresh().await)).await;
    conformance::a_prefix_selects_names(Arc::new(fresh().await)).await;
}

#[tokio::test]
async fn a_secret_is_named_like_the_key_and_holds_its_value_as_text_and_nothing_else() {
    let place = Place::fresh();
    let store = place.connect().await;
    let value = r#"{"bytes":"AAEC","algorithm":1}"#;
    store.create(&name("my-key"), &secret(value)).await.unwrap();

    let read = place.ask_secrets("GetSecretValue", &json!({ "SecretId": "my-key" }));
    assert_eq!(read["Name"], "my-key");
    assert_eq!(read["SecretString"], value);
    assert_eq!(read.get("SecretBinary"), None);
    let about = place.ask_secrets("DescribeSecret", &json!({ "SecretId": "my-key" }));
    for nothing in ["Tags", "Description", "KmsKeyId"] {
        let value = about.get(nothing).unwrap_or(&Value::Null);
        assert!(
            [json!(null), json!([]), json!("")].contains(value),
            "{nothing}: {value}"
        );
    }
    assert_eq!(about["VersionIdsToStages"].as_object().unwrap().len(), 1);

    let entry = store.get(&name("my-key")).await.unwrap();
    assert_eq!(entry.revision.as_deref(), read["VersionId"].as_str());
}

#[tokio::test]
async fn a_secret_is_encrypted_with_the_configured_key_whether_by_id_arn_or_alias() {
    let place = Place::fresh();
    let key = place.kms_key();
    let (id, arn) = (key["KeyId"].clone(), key["Arn"].clone());
    place.ask(
        "kms",
        "TrentService.CreateAlias",
        &json!({ "AliasName": "alias/kes", "TargetKeyId": id }),
    );
    for (i, kmskey) in [&id, &arn, &json!("alias/kes")].into_iter().enumerate() {
        let mut config = place.config();
        config.kmskey = kmskey.as_str().map(str::to_owned);
        let store = connect(config).await.unwrap();
        let key = name(&format!("key-{i}"));
        store.create(&key, &secret("value")).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().value.expose_secret(), b"value");
        let about = place.ask_secrets("DescribeSecret", &json!({ "SecretId": key.as_str() }));
        assert_eq!(about["KmsKeyId"], *kmskey);
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_stored_as_binary() {
    let place = Place::fresh();
    let store = place.connect().await;
    let value = [0xff, 0x00, 0xfe];
    store
        .create(&name("binary"), &SecretBytes::copy_of(&value))
        .await
        .unwrap();
    let read = place.ask_secrets("GetSecretValue", &json!({ "SecretId": "binary" }));
    assert_eq!(read["SecretBinary"], "/wD+");
    assert_eq!(
        store.get(&name("binary")).await.unwrap().value.expose_secret(),
        value
    );
}

#[tokio::test]
async fn what_another_client_has_stored_is_read_and_what_is_no_key_is_not_listed() {
    let place = Place::fresh();
    let create = |body: Value| place.ask_secrets("CreateSecret", &body);
    create(json!({ "Name": "of-another", "SecretString": "eyJieXRlcyI6IiJ9", "Description": "by hand" }));
    create(json!({ "Name": "in/a/folder", "SecretString": "x" }));
    create(json!({ "Name": "user@example.com", "SecretString": "x" }));
    create(json!({ "Name": "leaving", "SecretString": "x" }));
    place.ask_secrets(
        "DeleteSecret",
        &json!({ "SecretId": "leaving", "RecoveryWindowInDays": 7 }),
    );

    let store = place.connect().await;
    let entry = store.get(&name("of-another")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"eyJieXRlcyI6IiJ9");
    let page = store.list("", None, std::num::NonZeroUsize::MAX).await.unwrap();
    assert_eq!(page.names, [name("of-another")]);

    // What is scheduled for deletion is neither a key nor a free name.
    let read = store.get(&name("leaving")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
    let created = store.create(&name("leaving"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    place.ask_secrets("RestoreSecret", &json!({ "SecretId": "leaving" }));
    assert_eq!(
        store.get(&name("leaving")).await.unwrap().value.expose_secret(),
        b"x"
    );
}

#[tokio::test]
async fn two_stores_see_the_same_keys() {
    let place = Place::fresh();
    let (one, other) = (place.connect().await, place.connect().await);
    one.create(&name("shared"), &secret("value")).await.unwrap();
    let taken = other.create(&name("shared"), &secret("another")).await;
    assert!(matches!(taken, Err(StoreError::Exists)), "{taken:?}");
    assert_eq!(
        other.get(&name("shared")).await.unwrap().value.expose_secret(),
        b"value"
    );
    other.delete(&name("shared")).await.unwrap();
    let gone = one.get(&name("shared")).await;
    assert!(matches!(gone, Err(StoreError::NotFound)), "{gone:?}");
}
