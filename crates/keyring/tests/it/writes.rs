//! Creating, importing and deleting.

use std::sync::Arc;

use kes_crypto::Algorithm;
use kes_keyring::{CacheSettings, Doing, Keyring, KeyringError, Scope};
use kes_keystore::{Limited, Limits, StoreError, StoreOp};
use kes_testkit::{Failure, Gate, Step};
use kes_types::Clock as _;

use crate::rig::{Rig, named, seconds};

#[tokio::test(start_paused = true)]
async fn what_is_created_is_described() {
    let rig = Rig::new();
    rig.advance(5);
    let (scope, name) = (Scope::default(), named("key"));
    let made = rig.ring.create(&scope, &name, "somebody").await.unwrap();
    assert_eq!(
        (made.created_at, made.created_by.as_str()),
        (rig.clock.now(), "somebody")
    );
    assert_eq!(
        (made.algorithm, made.version.clone()),
        (Algorithm::preferred(), None)
    );
    assert_eq!(rig.ring.describe(&scope, &name).await.unwrap(), made);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_exists_is_left_as_it_is() {
    let rig = Rig::new();
    rig.put("key", "first");
    let before = rig.store.value("key");
    let (scope, name) = (Scope::default(), named("key"));
    assert!(matches!(
        rig.ring.create(&scope, &name, "me").await,
        Err(KeyringError::Exists)
    ));
    let import = rig
        .ring
        .import(&scope, &name, &[0; 32], Algorithm::ChaCha20, "me")
        .await;
    assert!(matches!(import, Err(KeyringError::Exists)));
    assert_eq!(rig.store.value("key"), before);
}

#[tokio::test(start_paused = true)]
async fn an_imported_key_has_the_size_that_its_algorithm_needs() {
    let rig = Rig::new();
    let (scope, name) = (Scope::default(), named("key"));
    for size in [0, 16, 31, 33, 64] {
        let import = rig
            .ring
            .import(&scope, &name, &vec![1; size], Algorithm::ChaCha20, "me")
            .await;
        assert!(
            matches!(import, Err(KeyringError::KeySize(Algorithm::ChaCha20))),
            "{size}: {import:?}"
        );
    }
    assert_eq!(rig.store.calls(StoreOp::Create), 0);
    let info = rig
        .ring
        .import(&scope, &name, &[1; 32], Algorithm::ChaCha20, "me")
        .await
        .unwrap();
    assert_eq!(info.algorithm, Algorithm::ChaCha20);
    rig.ring.hmac(&scope, &name, "", b"message").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_imported_key_opens_what_the_same_key_sealed_elsewhere() {
    let (here, there) = (Rig::new(), Rig::new());
    let (scope, name) = (Scope::default(), named("key"));
    for rig in [&here, &there] {
        rig.ring
            .import(&scope, &name, &[9; 32], Algorithm::Aes256, "me")
            .await
            .unwrap();
    }
    let sealed = here
        .ring
        .encrypt(&scope, &name, "", b"text", b"context")
        .await
        .unwrap();
    let opened = there
        .ring
        .decrypt(&scope, &name, "", &sealed.ciphertext, b"context")
        .await
        .unwrap();
    assert_eq!(opened.plaintext.expose_secret(), b"text");
}

#[tokio::test(start_paused = true)]
async fn writes_fail_as_the_store_does() {
    let (scope, name) = (Scope::default(), named("key"));
    for failure in Failure::ALL {
        let rig = Rig::new();
        rig.store.fail(failure);
        match rig.ring.create(&scope, &name, "me").await {
            Err(KeyringError::Exists) => assert_eq!(failure, Failure::Exists),
            Err(KeyringError::Store {
                doing: Doing::Create,
                source,
            }) => {
                assert_eq!(source.to_string(), failure.error().to_string());
            }
            other => panic!("{other:?}"),
        }
        match rig.ring.delete(&scope, &name).await {
            Err(KeyringError::NotFound) => assert_eq!(failure, Failure::NotFound),
            Err(KeyringError::Store {
                doing: Doing::Delete,
                source,
            }) => {
                assert_eq!(source.to_string(), failure.error().to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_key_is_gone_at_once() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.ring.delete(&Scope::default(), &named("key")).await.unwrap();
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
    assert!(matches!(
        rig.ring.delete(&Scope::default(), &named("key")).await,
        Err(KeyringError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_could_not_be_deleted_is_not_served_from_memory() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    // The answer got lost, but the key is gone.
    rig.store.next(StoreOp::Delete, Step::FailAfter(Failure::Backend));
    rig.ring
        .delete(&Scope::default(), &named("key"))
        .await
        .unwrap_err();
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));

    rig.put("key", "second");
    rig.creator("key").await.unwrap();
    rig.store.next(StoreOp::Delete, Step::Fail(Failure::Denied));
    rig.ring
        .delete(&Scope::default(), &named("key"))
        .await
        .unwrap_err();
    assert_eq!(rig.ring.stats().entries, 0);
    assert_eq!(rig.creator("key").await.unwrap(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_key_leaves_the_cache_before_the_store_is_asked_to_delete_it() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    let gate = Gate::new();
    rig.store.next(StoreOp::Delete, Step::WaitBefore(gate.clone()));
    let ring = Arc::clone(&rig.ring);
    let delete = tokio::spawn(async move { ring.delete(&Scope::default(), &named("key")).await });
    gate.reached().await;
    assert_eq!(rig.ring.stats().entries, 0);
    gate.open();
    delete.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_created_key_replaces_one_that_another_server_has_deleted() {
    let rig = Rig::new();
    rig.put("key", "old");
    rig.creator("key").await.unwrap();
    rig.store.remove("key");
    rig.ring
        .create(&Scope::default(), &named("key"), "new")
        .await
        .unwrap();
    assert_eq!(rig.creator("key").await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_does_not_cost_a_key_that_an_outage_keeps() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.ring
        .create(&Scope::default(), &named("key"), "me")
        .await
        .unwrap_err();
    rig.settle().await;
    rig.advance(600);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_write_runs_to_its_end_when_the_caller_goes_away() {
    let rig = Rig::new();
    let (created, deleted) = (Gate::new(), Gate::new());
    rig.store.next(StoreOp::Create, Step::WaitBefore(created.clone()));
    let ring = Arc::clone(&rig.ring);
    let create = tokio::spawn(async move { ring.create(&Scope::default(), &named("key"), "me").await });
    created.reached().await;
    create.abort();
    assert!(create.await.unwrap_err().is_cancelled());
    created.open();
    rig.settle().await;
    assert_eq!(rig.creator("key").await.unwrap(), "me");

    rig.store.next(StoreOp::Delete, Step::WaitBefore(deleted.clone()));
    let ring = Arc::clone(&rig.ring);
    let delete = tokio::spawn(async move { ring.delete(&Scope::default(), &named("key")).await });
    deleted.reached().await;
    // Read while the store had it still.
    assert_eq!(rig.creator("key").await.unwrap(), "me");
    delete.abort();
    assert!(delete.await.unwrap_err().is_cancelled());
    deleted.open();
    rig.settle().await;
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_deletion_takes_longer_than_a_read_may_does_not_stay_in_the_cache() {
    let mut rig = Rig::new();
    let limited = Limited::new(Arc::new(rig.store.clone()), Limits::default());
    let settings = CacheSettings::default();
    rig.ring = Arc::new(Keyring::new(Arc::new(limited), settings, rig.clock.clone()));
    rig.put("key", "first");
    let gate = Gate::new();
    rig.store.next(StoreOp::Delete, Step::WaitBefore(gate.clone()));
    let ring = Arc::clone(&rig.ring);
    let delete = tokio::spawn(async move { ring.delete(&Scope::default(), &named("key")).await });
    gate.reached().await;
    tokio::time::sleep(seconds(11)).await;
    // Read while the store had it still.
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    tokio::time::sleep(seconds(1)).await;
    gate.open();
    delete.await.unwrap().unwrap();
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_ends_as_unreachable() {
    let rig = Rig::new();
    rig.store.next(StoreOp::Create, Step::WaitBefore(Gate::new()));
    let create = rig.ring.create(&Scope::default(), &named("key"), "me").await;
    assert!(
        matches!(
            create,
            Err(KeyringError::Store {
                doing: Doing::Create,
                source: StoreError::Unreachable { .. }
            })
        ),
        "{create:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_in_a_write_fails_that_write_only() {
    let rig = Rig::new();
    rig.store.next(StoreOp::Create, Step::Panic);
    let create = rig.ring.create(&Scope::default(), &named("key"), "me").await;
    assert!(
        matches!(
            create,
            Err(KeyringError::Store {
                doing: Doing::Create,
                ..
            })
        ),
        "{create:?}"
    );
    rig.ring
        .create(&Scope::default(), &named("key"), "me")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_writes_and_closes_the_store_once() {
    let rig = Rig::new();
    let gate = Gate::new();
    rig.store.next(StoreOp::Create, Step::WaitBefore(gate.clone()));
    let ring = Arc::clone(&rig.ring);
    let create = tokio::spawn(async move { ring.create(&Scope::default(), &named("key"), "me").await });
    gate.reached().await;
    let ring = Arc::clone(&rig.ring);
    let close = tokio::spawn(async move { ring.close().await });
    rig.settle().await;
    assert_eq!(rig.store.closed(), 0);
    gate.open();
    close.await.unwrap();
    create.await.unwrap().unwrap();
    assert_eq!(rig.store.closed(), 1);
    assert!(rig.store.value("key").is_some());
}
