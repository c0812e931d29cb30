//! What may have happened without an answer, and what the service does not show everywhere yet, or still shows, on the fake.

use std::sync::Arc;
use std::time::Duration;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_aws::AwsStore;
use kes_testkit::ThreadLog;
use kes_types::ManualClock;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Says, a_secret, created, in_turn, not_found, refusal, success};
use crate::rig::{connect, name, secret};

const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";
const SCHEDULED: &str =
    "You can't create this secret because a secret with this name is already scheduled for deletion.";

#[tokio::test]
async fn a_create_in_doubt_is_looked_into() {
    // The first attempt is not answered, the second says that the name is taken: by whom is seen in the value.
    let exists = || {
        refusal(
            "ResourceExistsException",
            "The operation failed because the secret already exists.",
        )
    };
    let stored: [(Says, &str); 4] = [
        (|| a_secret("key", "value"), "Ok"),
        (|| a_secret("key", "another"), "Exists"),
        (not_found, "Backend"),
        (|| refusal("InternalServiceError", "no"), "Backend"),
    ];
    for lost in [|| Reply::Nothing, || refusal("InternalServiceError", "no")] {
        for (read, expected) in stored {
            let mut creates = 0;
            let fake = Fake::start(move |asked| match asked.operation.as_str() {
                "CreateSecret" => {
                    creates += 1;
                    if creates == 1 { lost() } else { exists() }
                }
                _ => read(),
            })
            .await;
            let created = fake.connect().await.create(&name("key"), &secret("value")).await;
            let class = match &created {
                Ok(()) => "Ok",
                Err(StoreError::Exists) => "Exists",
                Err(StoreError::Backend { .. }) => "Backend",
                Err(_) => "another",
            };
            assert_eq!(class, expected, "{created:?}");
            let tokens: Vec<Value> = fake
                .asked()
                .iter()
                .filter(|asked| asked.operation == "CreateSecret")
                .map(|asked| asked.body["ClientRequestToken"].clone())
                .collect();
            assert_eq!(tokens.len(), 2);
            assert_eq!(tokens[0], tokens[1], "one create has one token");
        }
    }

    // Without a doubt there is nothing to look into, and each create has a token of its own.
    let fake = Fake::start(move |_| exists()).await;
    let store = fake.connect().await;
    for _ in 0..2 {
        let created = store.create(&name("key"), &secret("value")).await;
        assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    }
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    assert_ne!(
        asked[0].body["ClientRequestToken"],
        asked[1].body["ClientRequestToken"]
    );
}

#[tokio::test]
async fn what_a_create_in_doubt_has_made_is_waited_for_and_known_as_new() {
    // It exists, and then is not to be seen everywhere yet: neither for the create, nor for who reads after it.
    let (mut creates, mut reads) = (0, 0);
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "CreateSecret" => {
            creates += 1;
            match creates {
                1 => Reply::Nothing,
                _ => refusal("ResourceExistsException", "The secret already exists."),
            }
        }
        _ => {
            reads += 1;
            match reads {
                1 | 2 | 4 => not_found(),
                _ => a_secret("key", "value"),
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let entry = store.get(&name("key")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"value");
}

#[tokio::test]
async fn a_delete_in_doubt_that_then_finds_nothing_has_succeeded() {
    let fake = Fake::start(in_turn(vec![|| Reply::Nothing, not_found])).await;
    fake.connect().await.delete(&name("key")).await.unwrap();
    assert_eq!(fake.asked().len(), 2);

    let fake = Fake::start(|_| not_found()).await;
    let deleted = fake.connect().await.delete(&name("key")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound)), "{deleted:?}");
}

#[tokio::test]
async fn a_secret_that_is_scheduled_for_deletion_is_neither_a_key_nor_a_free_name() {
    let (log, _guard) = ThreadLog::capture_all();
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "CreateSecret" => refusal("InvalidRequestException", SCHEDULED),
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let store = fake.connect().await;
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
    let advice = "aws secretsmanager restore-secret --region us-east-2 --secret-id key";
    assert_eq!(log.text().matches(advice).count(), 1, "{}", log.text());

    let created = store.create(&name("key"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    assert_eq!(log.text().matches(advice).count(), 2, "{}", log.text());
    assert_eq!(
        fake.asked().len(),
        2,
        "nobody waits for what another has scheduled"
    );
}

#[tokio::test]
async fn a_name_that_this_process_has_deleted_is_waited_for() {
    let mut creates = 0;
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => {
            creates += 1;
            if creates <= 4 {
                refusal("InvalidRequestException", SCHEDULED)
            } else {
                created("key")
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.delete(&name("key")).await.unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    assert_eq!(fake.asked().len(), 1 + 5);

    // But not for ever.
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => refusal("InvalidRequestException", SCHEDULED),
    })
    .await;
    let mut config = fake.config();
    config.patience.operation = Duration::from_secs(4);
    let store = connect(config).await.unwrap();
    store.delete(&name("key")).await.unwrap();
    let created = store.create(&name("key"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
}

#[tokio::test]
async fn what_this_process_has_deleted_is_gone_although_it_is_on_its_way_out() {
    let (log, _guard) = ThreadLog::capture_all();
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(fake.config(), Arc::clone(&clock) as _)
        .await
        .unwrap();
    store.delete(&name("key")).await.unwrap();
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(log.text(), "", "nobody can restore it");

    // Later it is another's doing.
    clock.advance(Duration::from_secs(60));
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
}

#[tokio::test]
async fn what_perhaps_was_not_deleted_is_not_said_to_be_gone() {
    // The deletion is not answered, and another has scheduled the secret: it can be had back.
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => Reply::Nothing,
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let store = fake.connect().await;
    let deleted = store.delete(&name("key")).await;
    assert!(
        matches!(deleted, Err(StoreError::Unreachable { .. })),
        "{deleted:?}"
    );
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
}

#[tokio::test]
async fn what_was_just_created_is_waited_for_and_what_was_not_is_not() {
    let mut reads = 0;
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "CreateSecret" => created("key"),
        _ => {
            reads += 1;
            match reads {
                1..=3 => not_found(),
                _ => a_secret("key", "value"),
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let entry = store.get(&name("key")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"value");

    let fake = Fake::start(|_| not_found()).await;
    let read = fake.connect().await.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_new_secret_is_waited_for_for_two_seconds_and_ten_seconds_long() {
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "CreateSecret" => created("key"),
        _ => not_found(),
    })
    .await;
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(fake.config(), Arc::clone(&clock) as _)
        .await
        .unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    let while_new = fake.asked().len();
    assert!(while_new > 3, "{while_new}");

    clock.advance(Duration::from_secs(10));
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(
        fake.asked().len(),
        while_new + 1,
        "what is absent later was deleted"
    );
}
