//! What operators ask of a store that this program keeps itself.

use std::sync::Arc;

use kes_keyring::{CacheSettings, Doing, Keyring, KeyringError, Scope};
use kes_keystore::{Connected, EntryName, KeyStore as _, StoreError, StoreOp};
use kes_testkit::{Failure, FakeOwnStore, Gate, MaintenanceOp, Step};
use kes_types::ManualClock;

use crate::rig::{Rig, creator, key, named, seconds};

fn over(store: &FakeOwnStore) -> Arc<Keyring> {
    let clock = Arc::new(ManualClock::default());
    Arc::new(Keyring::new(store.connected(), CacheSettings::default(), clock))
}

async fn undelete(ring: &Keyring, name: &str) -> Result<(), KeyringError> {
    ring.upkeep()
        .unwrap()
        .undelete(&Scope::default(), &named(name))
        .await
}

async fn delete(ring: &Keyring, name: &str) {
    ring.delete(&Scope::default(), &named(name)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_looks_after_itself_is_left_alone() {
    assert!(Rig::new().ring.upkeep().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_key_comes_back_as_it_was() {
    let ring = over(&FakeOwnStore::new());
    let (scope, name) = (Scope::default(), named("key"));
    let made = ring.create(&scope, &name, "somebody").await.unwrap();
    let sealed = ring.encrypt(&scope, &name, "", b"text", b"").await.unwrap();
    assert!(matches!(undelete(&ring, "key").await, Err(KeyringError::Exists)));
    delete(&ring, "key").await;
    assert!(matches!(creator(&ring, "key").await, Err(KeyringError::NotFound)));
    assert!(matches!(
        ring.create(&scope, &name, "somebody").await,
        Err(KeyringError::Exists)
    ));
    undelete(&ring, "key").await.unwrap();
    assert_eq!(ring.describe(&scope, &name).await.unwrap(), made);
    let opened = ring
        .decrypt(&scope, &name, "", &sealed.ciphertext, b"")
        .await
        .unwrap();
    assert_eq!(opened.plaintext.expose_secret(), b"text");
    assert!(matches!(
        undelete(&ring, "other").await,
        Err(KeyringError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_found_the_key_deleted_says_so_to_nobody_who_comes_later() {
    let (rig, fake) = (Rig::new(), FakeOwnStore::new());
    let name = EntryName::parse("key").unwrap();
    fake.create(&name, &key("me").encode()).await.unwrap();
    fake.delete(&name).await.unwrap();
    let connected = Connected {
        store: Arc::new(rig.store.clone()),
        ..fake.connected()
    };
    let ring = Arc::new(Keyring::new(
        connected,
        CacheSettings::default(),
        rig.clock.clone(),
    ));
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitAfter(gate.clone()));
    let earlier = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { creator(&ring, "key").await }
    });
    gate.reached().await;
    rig.put("key", "me");
    undelete(&ring, "key").await.unwrap();
    assert_eq!(creator(&ring, "key").await.unwrap(), "me");
    gate.open();
    assert!(matches!(earlier.await.unwrap(), Err(KeyringError::NotFound)));
    assert_eq!(creator(&ring, "key").await.unwrap(), "me");
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_undeletion_runs_to_its_end_when_the_caller_goes_away() {
    let fake = FakeOwnStore::new();
    let ring = over(&fake);
    ring.create(&Scope::default(), &named("key"), "me").await.unwrap();
    delete(&ring, "key").await;
    let gate = Gate::new();
    fake.next(MaintenanceOp::Undelete, Step::WaitBefore(gate.clone()));
    let bringing_back = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { undelete(&ring, "key").await }
    });
    gate.reached().await;
    bringing_back.abort();
    assert!(bringing_back.await.unwrap_err().is_cancelled());
    let closing = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { ring.close().await }
    });
    tokio::time::sleep(seconds(1)).await;
    assert!(!closing.is_finished() && fake.closed() == 0);
    gate.open();
    closing.await.unwrap();
    assert_eq!(fake.closed(), 1);
    assert_eq!(creator(&ring, "key").await.unwrap(), "me");
}

#[tokio::test(start_paused = true)]
async fn the_store_fails_as_it_does_and_is_not_waited_for_for_ever() {
    let fake = FakeOwnStore::new();
    let ring = over(&fake);
    for failure in Failure::ALL {
        for op in [
            MaintenanceOp::Undelete,
            MaintenanceOp::Info,
            MaintenanceOp::Backup,
        ] {
            fake.next(op, Step::Fail(failure));
        }
        match undelete(&ring, "key").await.unwrap_err() {
            KeyringError::Exists => assert_eq!(failure, Failure::Exists),
            KeyringError::NotFound => assert_eq!(failure, Failure::NotFound),
            KeyringError::Store { doing, source } => {
                assert_eq!(doing, Doing::Undelete);
                assert_eq!(source.to_string(), failure.error().to_string());
            }
            other => panic!("{other:?}"),
        }
        let upkeep = ring.upkeep().unwrap();
        let info = upkeep.info().await.map(drop).unwrap_err();
        let backup = upkeep.backup().await.map(drop).unwrap_err();
        for (error, expected) in [(info, Doing::Info), (backup, Doing::Backup)] {
            match error {
                KeyringError::Store { doing, source } => {
                    assert_eq!(doing, expected);
                    assert_eq!(source.to_string(), failure.error().to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for op in [
        MaintenanceOp::Undelete,
        MaintenanceOp::Info,
        MaintenanceOp::Backup,
    ] {
        fake.next(op, Step::WaitBefore(Gate::new()));
    }
    let upkeep = ring.upkeep().unwrap();
    for error in [
        undelete(&ring, "key").await.unwrap_err(),
        upkeep.info().await.map(drop).unwrap_err(),
        upkeep.backup().await.map(drop).unwrap_err(),
    ] {
        let KeyringError::Store { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(source, StoreError::Unreachable { .. }), "{source:?}");
    }
    fake.next(MaintenanceOp::Undelete, Step::Panic);
    assert!(undelete(&ring, "key").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn only_so_many_keys_are_brought_back_at_once() {
    let fake = FakeOwnStore::new();
    let ring = over(&fake);
    let gate = Gate::new();
    let calls: Vec<_> = (0..40)
        .map(|number| {
            fake.next(MaintenanceOp::Undelete, Step::WaitBefore(gate.clone()));
            let ring = Arc::clone(&ring);
            tokio::spawn(async move { undelete(&ring, &format!("key-{number}")).await })
        })
        .collect();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(fake.calls(MaintenanceOp::Undelete), 16);
    gate.open();
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(KeyringError::NotFound)));
    }
    assert_eq!(fake.calls(MaintenanceOp::Undelete), 40);
}
