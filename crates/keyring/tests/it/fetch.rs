//! One fetch for everybody who waits, and what may come of it.

use std::sync::Arc;

use kes_keyring::{Doing, KeyringError, Scope};
use kes_keystore::{EntryName, StoreError, StoreOp};
use kes_testkit::{Failure, Gate, Lie, Step};

use crate::rig::{Rig, creator, key, named};

/// Asks for the key in a task of its own.
fn ask(rig: &Rig, name: &'static str) -> tokio::task::JoinHandle<Result<String, KeyringError>> {
    let ring = Arc::clone(&rig.ring);
    tokio::spawn(async move { creator(&ring, name).await })
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_a_key_share_one_fetch() {
    let rig = Rig::new();
    rig.put("key", "first");
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let waiting: Vec<_> = (0..50).map(|_| ask(&rig, "key")).collect();
    gate.reached().await;
    rig.settle().await;
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap(), "first");
    }
    assert_eq!(rig.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_to_all_who_wait_and_then_forgotten() {
    for failure in Failure::ALL {
        let rig = Rig::new();
        rig.put("key", "first");
        let gate = Gate::new();
        rig.store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
        let waiting: Vec<_> = (0..5).map(|_| ask(&rig, "key")).collect();
        gate.reached().await;
        rig.settle().await;
        // The call that waits was told to pass. Another name shares nothing with it.
        rig.store.lie("key", Lie::Value(b"garbage".to_vec()));
        gate.open();
        for answer in waiting {
            let answer = answer.await.unwrap();
            assert!(
                matches!(
                    answer,
                    Err(KeyringError::Store {
                        doing: Doing::Read,
                        source: StoreError::Corrupt { .. }
                    })
                ),
                "{answer:?}"
            );
        }

        rig.store.heal();
        rig.store.next(StoreOp::Get, Step::Fail(failure));
        let waiting: Vec<_> = (0..5).map(|_| ask(&rig, "key")).collect();
        for answer in waiting {
            match answer.await.unwrap() {
                Err(KeyringError::NotFound) => assert_eq!(failure, Failure::NotFound),
                Err(KeyringError::Store {
                    doing: Doing::Read,
                    source,
                }) => {
                    assert_eq!(source.to_string(), failure.error().to_string());
                }
                other => panic!("{failure:?}: {other:?}"),
            }
        }
        assert_eq!(rig.reads(), 2);
        assert_eq!(rig.creator("key").await.unwrap(), "first");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_first_leaves_the_others_waiting_undisturbed() {
    let rig = Rig::new();
    rig.put("key", "first");
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let leader = ask(&rig, "key");
    gate.reached().await;
    let follower = ask(&rig, "key");
    rig.settle().await;

    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.open();
    assert_eq!(follower.await.unwrap().unwrap(), "first");
    assert_eq!(rig.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_everybody_has_left_still_fills_the_cache() {
    let rig = Rig::new();
    rig.put("key", "first");
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let leader = ask(&rig, "key");
    gate.reached().await;
    leader.abort();
    gate.open();
    rig.settle().await;
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    assert_eq!(rig.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_strands_nobody() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.store.next(StoreOp::Get, Step::Panic);
    let waiting: Vec<_> = (0..3).map(|_| ask(&rig, "key")).collect();
    for answer in waiting {
        assert!(matches!(
            answer.await.unwrap(),
            Err(KeyringError::Store {
                source: StoreError::Backend { .. },
                ..
            })
        ));
    }
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn different_keys_are_fetched_side_by_side() {
    let rig = Rig::new();
    let gate = Gate::new();
    rig.put("slow", "slow");
    rig.put("fast", "fast");
    rig.store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let slow = ask(&rig, "slow");
    gate.reached().await;
    assert_eq!(rig.creator("fast").await.unwrap(), "fast");
    gate.open();
    assert_eq!(slow.await.unwrap().unwrap(), "slow");
}

#[tokio::test(start_paused = true)]
async fn a_delete_beats_a_fetch_that_began_before_it() {
    let rig = Rig::new();
    rig.put("key", "first");
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitAfter(gate.clone()));
    let early = ask(&rig, "key");
    gate.reached().await;
    rig.ring.delete(&Scope::default(), &named("key")).await.unwrap();
    // Who comes after the delete does not wait for the fetch that began before it.
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));

    gate.open();
    // It read the key while the key was there.
    assert_eq!(early.await.unwrap().unwrap(), "first");
    assert_eq!(rig.ring.stats().entries, 0);
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_overlaps_a_delete_does_not_outlive_it() {
    let rig = Rig::new();
    rig.put("key", "first");
    let (deletion, reading) = (Gate::new(), Gate::new());
    rig.store
        .next(StoreOp::Delete, Step::WaitBefore(deletion.clone()));
    let ring = Arc::clone(&rig.ring);
    let delete = tokio::spawn(async move { ring.delete(&Scope::default(), &named("key")).await });
    deletion.reached().await;
    // One is fetched and cached, another one is on its way, before the store has deleted the key.
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    rig.advance(31);
    rig.store.next(StoreOp::Get, Step::WaitAfter(reading.clone()));
    let early = ask(&rig, "key");
    reading.reached().await;

    deletion.open();
    delete.await.unwrap().unwrap();
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
    reading.open();
    early.await.unwrap().unwrap();
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_late_fetch_does_not_bring_back_a_key_that_was_deleted_and_made_anew() {
    let rig = Rig::new();
    let (scope, name) = (Scope::default(), named("key"));
    rig.put("key", "old");
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitAfter(gate.clone()));
    let early = ask(&rig, "key");
    gate.reached().await;
    rig.ring.delete(&scope, &name).await.unwrap();
    rig.ring.create(&scope, &name, "new").await.unwrap();
    assert_eq!(rig.creator("key").await.unwrap(), "new");

    gate.open();
    assert_eq!(early.await.unwrap().unwrap(), "old");
    assert_eq!(rig.creator("key").await.unwrap(), "new");
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_found_nothing_does_not_hide_a_key_created_since() {
    let rig = Rig::new();
    let gate = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitAfter(gate.clone()));
    let early = ask(&rig, "key");
    gate.reached().await;
    rig.ring
        .create(&Scope::default(), &named("key"), "me")
        .await
        .unwrap();
    assert_eq!(rig.creator("key").await.unwrap(), "me");

    gate.open();
    assert!(matches!(early.await.unwrap(), Err(KeyringError::NotFound)));
    assert_eq!(rig.creator("key").await.unwrap(), "me");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_key_is_corrupt_and_never_cached() {
    let rig = Rig::new();
    rig.put("key", "first");
    let whole = rig.store.value("key").unwrap();
    // Further on, a cut may lose nothing but who created it when.
    let garbage = [
        b"".to_vec(),
        b"\0".to_vec(),
        vec![b'A'; 100_000],
        vec![0xff; 64],
        b"{}".to_vec(),
    ];
    for lie in garbage
        .map(Lie::Value)
        .into_iter()
        .chain((0..whole.len() / 2).step_by(7).map(Lie::Truncated))
    {
        rig.store.lie("key", lie.clone());
        match rig.creator("key").await {
            Err(KeyringError::Store {
                doing: Doing::Read,
                source: StoreError::Corrupt { reason },
            }) => {
                assert!(!reason.contains("AAAA"), "{reason}");
            }
            other => panic!("{lie:?}: {other:?}"),
        }
        assert_eq!(rig.ring.stats().entries, 0);
    }
    rig.store.heal();
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_the_right_one_opens_nothing() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.put("other", "second");
    let (scope, name) = (Scope::default(), named("key"));
    let sealed = rig.ring.encrypt(&scope, &name, "", b"text", b"").await.unwrap();
    rig.advance(31);
    rig.store
        .lie("key", Lie::ValueOf(EntryName::of_key(&named("other"))));
    let opened = rig.ring.decrypt(&scope, &name, "", &sealed.ciphertext, b"").await;
    assert!(matches!(opened, Err(KeyringError::Decrypt(_))), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_store_disables_or_loses_is_not_used_in_an_outage_that_follows() {
    for failure in [
        Failure::NotFound,
        Failure::Disabled,
        Failure::Denied,
        Failure::Corrupt,
    ] {
        let rig = Rig::watched();
        rig.put("key", "first");
        rig.creator("key").await.unwrap();
        rig.advance(31);
        rig.store.next(StoreOp::Get, Step::Fail(failure));
        assert!(rig.creator("key").await.is_err());
        rig.store.fail(Failure::Unreachable);
        assert!(rig.creator("key").await.is_err(), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_read_once_however_it_is_formatted() {
    let rig = Rig::new();
    let mut value = key("first").encode().expose_secret().to_vec();
    value.push(b'\n');
    rig.store.put("key", &value);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_ask_at_the_same_moment_share_one_fetch() {
    let rig = Rig::new();
    rig.put("key", "first");
    for round in 1..=200 {
        let waiting: Vec<_> = (0..16).map(|_| ask(&rig, "key")).collect();
        for answer in waiting {
            assert_eq!(answer.await.unwrap().unwrap(), "first");
        }
        assert_eq!(rig.reads(), round);
        rig.advance(31);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_thread_sees_a_key_whose_deletion_has_been_answered() {
    let rig = Rig::new();
    for _ in 0..200 {
        rig.put("key", "first");
        let waiting: Vec<_> = (0..16).map(|_| ask(&rig, "key")).collect();
        rig.ring.delete(&Scope::default(), &named("key")).await.unwrap();
        assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
        for answer in waiting {
            assert!(matches!(
                answer.await.unwrap(),
                Ok(_) | Err(KeyringError::NotFound)
            ));
        }
        assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
    }
}
