//! When the store is out of reach.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kes_keyring::{CacheSettings, Keyring, KeyringError, Scope};
use kes_keystore::{Limited, Limits, StoreError, StoreOp};
use kes_testkit::{Failure, Gate, Step};
use kes_types::ListRequest;

use crate::rig::{Rig, creator, is_outage, named, seconds};

#[tokio::test(start_paused = true)]
async fn only_unreachable_and_sealed_mean_an_outage() {
    for failure in Failure::ALL {
        let rig = Rig::watched();
        rig.store.next(StoreOp::Get, Step::Fail(failure));
        rig.creator("key").await.unwrap_err();
        let outage = matches!(failure, Failure::Unreachable | Failure::Sealed);
        assert_eq!(rig.ring.stats().online, !outage, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_keys_fail_at_once_in_an_outage() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.store.fail(Failure::Sealed);
    assert!(is_outage(&rig.creator("other").await));
    let reads = rig.reads();
    for _ in 0..100 {
        match rig.creator("key").await {
            Err(KeyringError::Store {
                source: StoreError::Sealed { .. },
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn keys_stay_usable_from_the_start_of_the_outage_whatever_any_and_unused_say() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.advance(20);
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    // Neither use nor disuse changes when it ends.
    rig.advance(3000);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    rig.advance(600);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    rig.advance(1);
    assert!(is_outage(&rig.creator("key").await));
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_had_expired_before_the_store_last_answered_does_not_come_back() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.put("other", "other");
    rig.creator("key").await.unwrap();
    rig.advance(31);
    rig.creator("other").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    assert!(is_outage(&rig.creator("key").await));
    assert_eq!(rig.creator("other").await.unwrap(), "other");
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_renewal_finds_the_outage_stays_usable() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.advance(31);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    assert_eq!(rig.reads(), 2);
    assert!(!rig.ring.stats().online);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_expires_unseen_in_an_outage_outlives_the_sweep() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.pass(seconds(1800)).await;
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    rig.pass(seconds(3601)).await;
    assert!(is_outage(&rig.creator("key").await));
    assert_eq!(rig.ring.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_expires_before_anybody_has_found_the_outage_outlives_the_sweep() {
    let hour = seconds(3600);
    let settings = CacheSettings {
        unused: seconds(1),
        offline: hour,
        ..CacheSettings::default()
    };
    let rig = Rig::with(settings).watch();
    rig.put("key", "first");
    for _ in 0..61 {
        rig.creator("key").await.unwrap();
        rig.pass(Duration::from_millis(500)).await;
    }
    rig.store.fail(Failure::Unreachable);
    rig.pass(seconds(5)).await;
    assert!(rig.ring.stats().online);
    rig.pass(seconds(5)).await;
    assert!(!rig.ring.stats().online);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn looking_for_the_store_in_vain_does_not_start_the_outage_anew() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    for _ in 0..36 {
        rig.pass(seconds(100)).await;
        assert_eq!(rig.creator("key").await.unwrap(), "first");
    }
    rig.pass(seconds(1)).await;
    assert!(is_outage(&rig.creator("key").await));
}

#[tokio::test(start_paused = true)]
async fn without_offline_the_usual_times_hold_in_an_outage() {
    let rig = Rig::new().watch();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(30);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    rig.advance(31);
    assert!(is_outage(&rig.creator("key").await));
}

#[tokio::test(start_paused = true)]
async fn offline_never_shortens_the_usual_times() {
    let rig = Rig::with(CacheSettings {
        offline: seconds(5),
        ..CacheSettings::default()
    })
    .watch();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(20);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_out_of_reach() {
    let rig = Rig::watched();
    rig.put("warm", "warm");
    rig.creator("warm").await.unwrap();
    rig.advance(31);
    rig.store.always(StoreOp::Get, Step::WaitBefore(Gate::new()));
    rig.store.always(StoreOp::Ping, Step::WaitBefore(Gate::new()));
    let start = tokio::time::Instant::now();
    // A key that only needed renewal is served from memory, one that is missing fails; neither hangs.
    assert_eq!(rig.creator("warm").await.unwrap(), "warm");
    assert!(is_outage(&rig.creator("cold").await));
    assert!(start.elapsed() <= seconds(15));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_outage_is_found_waits_no_longer() {
    let rig = Rig::watched();
    let hanging = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitBefore(hanging.clone()));
    let ring = Arc::clone(&rig.ring);
    let waiting = tokio::spawn(async move { creator(&ring, "hangs").await });
    hanging.reached().await;
    let start = tokio::time::Instant::now();
    rig.store.fail(Failure::Unreachable);
    rig.creator("fails").await.unwrap_err();
    assert!(is_outage(&waiting.await.unwrap()));
    assert_eq!(start.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_polled_every_ten_seconds() {
    let rig = Rig::watched();
    rig.pass(seconds(61)).await;
    assert_eq!(rig.pings(), 6);
    rig.store.fail(Failure::Unreachable);
    assert!(rig.ring.stats().online);
    rig.pass(seconds(10)).await;
    assert!(!rig.ring.stats().online);
}

#[tokio::test(start_paused = true)]
async fn one_probe_looks_for_the_store_at_growing_intervals() {
    let rig = Rig::watched();
    rig.store.fail(Failure::Unreachable);
    rig.creator("key").await.unwrap_err();
    let start = tokio::time::Instant::now();
    let mut times = Vec::new();
    for call in 1..=8 {
        rig.store.called(StoreOp::Ping, call).await;
        times.push(start.elapsed().as_millis());
    }
    assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 25_500, 35_500, 45_500]);
    assert_eq!(rig.store.most_at_once(StoreOp::Ping), 1);

    rig.store.heal();
    rig.put("key", "first");
    tokio::time::sleep(seconds(11)).await;
    assert!(rig.ring.stats().online);
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_anything_else_is_back() {
    let rig = Rig::watched();
    rig.store.fail(Failure::Unreachable);
    rig.creator("key").await.unwrap_err();
    rig.store.fail(Failure::AuthFailed);
    tokio::time::sleep(seconds(1)).await;
    assert!(rig.ring.stats().online);
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_refreshed_a_few_at_a_time_when_the_store_is_back() {
    let rig = Rig::watched();
    for i in 0..200 {
        rig.put(&format!("key{i}"), "before");
        rig.creator(&format!("key{i}")).await.unwrap();
    }
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(600);
    for i in 0..100 {
        rig.creator(&format!("key{i}")).await.unwrap();
    }

    rig.store.heal();
    for i in 0..200 {
        rig.put(&format!("key{i}"), "after");
    }
    rig.store.remove("key7");
    let reads = rig.reads();
    let slow = Gate::new();
    rig.store.always(StoreOp::Get, Step::WaitAfter(slow.clone()));
    tokio::time::sleep(seconds(1)).await;
    assert!(rig.ring.stats().online);
    assert_eq!(rig.reads() - reads, 4, "no more than four at once");

    slow.open();
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(rig.reads() - reads, 100, "those in use, and no others");
    for i in (0..100).filter(|i| *i != 7) {
        assert_eq!(rig.creator(&format!("key{i}")).await.unwrap(), "after");
    }
    assert_eq!(rig.reads() - reads, 100);
    assert!(matches!(rig.creator("key7").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn refreshes_are_spread_over_time() {
    let rig = Rig::watched();
    for i in 0..100 {
        rig.put(&format!("key{i}"), "before");
        rig.creator(&format!("key{i}")).await.unwrap();
    }
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(600);
    for i in 0..100 {
        rig.creator(&format!("key{i}")).await.unwrap();
    }
    rig.store.heal();
    let reads = rig.reads();
    rig.store.called(StoreOp::Ping, 1).await;
    let start = tokio::time::Instant::now();
    rig.store.called(StoreOp::Get, reads + 100).await;
    assert!(start.elapsed().as_millis() >= 990, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_not_a_use() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(600);
    rig.creator("key").await.unwrap();
    rig.store.heal();
    rig.advance(20);
    tokio::time::sleep(seconds(1)).await;
    let reads = rig.reads();
    rig.advance(11);
    rig.creator("key").await.unwrap();
    assert_eq!(rig.reads(), reads + 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_store_is_back_the_usual_times_hold() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(600);
    rig.store.heal();
    rig.store.remove("key");
    tokio::time::sleep(seconds(1)).await;
    assert!(matches!(rig.creator("key").await, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn each_outage_counts_from_its_own_start() {
    let rig = Rig::watched();
    rig.put("key", "first");
    for _ in 0..3 {
        rig.creator("key").await.unwrap();
        rig.store.fail(Failure::Unreachable);
        rig.creator("other").await.unwrap_err();
        rig.advance(3500);
        rig.creator("key").await.unwrap();
        rig.store.heal();
        tokio::time::sleep(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_and_latency_answer_at_once_in_an_outage() {
    let rig = Rig::watched();
    rig.ring.ready().await.unwrap();
    rig.ring.latency().await.unwrap();
    assert_eq!(rig.pings(), 2);
    rig.store.always(StoreOp::Ping, Step::Fail(Failure::Sealed));
    assert!(matches!(rig.ring.ready().await, Err(StoreError::Sealed { .. })));
    assert_eq!(rig.pings(), 3);
    rig.store.always(StoreOp::Ping, Step::WaitBefore(Gate::new()));
    for _ in 0..10 {
        assert!(matches!(rig.ring.ready().await, Err(StoreError::Sealed { .. })));
        assert!(matches!(rig.ring.latency().await, Err(StoreError::Sealed { .. })));
    }
    assert_eq!(rig.pings(), 3);
}

#[tokio::test(start_paused = true)]
async fn readiness_of_a_store_that_hangs_ends_after_five_seconds() {
    let rig = Rig::watched();
    rig.store.always(StoreOp::Ping, Step::WaitBefore(Gate::new()));
    let start = tokio::time::Instant::now();
    assert!(matches!(
        rig.ring.ready().await,
        Err(StoreError::Unreachable { .. })
    ));
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_write_or_listing_that_fails_has_the_store_looked_at() {
    let rig = Rig::watched();
    rig.store.fail(Failure::Unreachable);
    rig.ring
        .create(&Scope::default(), &named("key"), "me")
        .await
        .unwrap_err();
    rig.settle().await;
    assert_eq!((rig.pings(), rig.ring.stats().online), (1, false));

    // The write alone says nothing: it may take longer than the store has, while reads work.
    let rig = Rig::watched();
    rig.store.next(StoreOp::Delete, Step::Fail(Failure::Unreachable));
    rig.ring
        .delete(&Scope::default(), &named("key"))
        .await
        .unwrap_err();
    rig.settle().await;
    assert_eq!((rig.pings(), rig.ring.stats().online), (1, true));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_cut_off_for_ever_when_nobody_looks_for_the_store() {
    let mut rig = Rig::watched();
    rig.put("key", "first");
    rig.store.next(StoreOp::Get, Step::Fail(Failure::Unreachable));
    rig.creator("key").await.unwrap_err();
    rig.background = None;
    assert_eq!(rig.creator("key").await.unwrap(), "first");

    let rig = Rig::new();
    rig.put("key", "first");
    rig.store.next(StoreOp::Get, Step::Fail(Failure::Unreachable));
    rig.creator("key").await.unwrap_err();
    assert_eq!(rig.creator("key").await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_delete_in_an_outage_takes_the_key_away_also_if_it_fails() {
    let rig = Rig::watched();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.ring
        .delete(&Scope::default(), &named("key"))
        .await
        .unwrap_err();
    assert!(is_outage(&rig.creator("key").await));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_sign_of_life_at_the_same_time_shares_it() {
    let rig = Rig::new();
    let slow = Gate::new();
    rig.store.next(StoreOp::Ping, Step::WaitBefore(slow.clone()));
    let ask = || {
        let ring = Arc::clone(&rig.ring);
        tokio::spawn(async move { ring.latency().await })
    };
    let first = ask();
    slow.reached().await;
    rig.advance(3);
    let others: Vec<_> = (0..50).map(|_| ask()).collect();
    rig.settle().await;
    // The others have theirs, although the one who was first has gone.
    first.abort();
    slow.open();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), seconds(3));
    }
    assert_eq!(rig.pings(), 1);
    rig.ring.ready().await.unwrap();
    assert_eq!(rig.pings(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_panics_fails_alone() {
    let rig = Rig::watched();
    rig.store.next(StoreOp::Ping, Step::Panic);
    let answer = rig.ring.ready().await;
    assert!(matches!(answer, Err(StoreError::Backend { .. })), "{answer:?}");
    rig.ring.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_since_before_the_recovery_does_not_start_an_outage() {
    let rig = Rig::watched();
    rig.put("key", "first");
    let hanging = Gate::new();
    rig.store.next(StoreOp::Get, Step::WaitBefore(hanging.clone()));
    let ring = Arc::clone(&rig.ring);
    let waiting = tokio::spawn(async move { creator(&ring, "hangs").await });
    hanging.reached().await;
    let start = tokio::time::Instant::now();
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    assert!(is_outage(&waiting.await.unwrap()));

    rig.advance(1);
    rig.store.heal();
    tokio::time::sleep(seconds(1)).await;
    assert!(rig.ring.stats().online);
    let pings = rig.pings();
    let ring = Arc::clone(&rig.ring);
    let waiting = tokio::spawn(async move { creator(&ring, "hangs").await });
    assert!(is_outage(&waiting.await.unwrap()));
    assert_eq!(start.elapsed(), seconds(12));
    assert!(rig.ring.stats().online);
    rig.settle().await;
    assert_eq!(
        (rig.pings(), rig.ring.stats().online),
        (pings + 2, true),
        "once by the poll, once because of the failure"
    );
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_hangs_since_before_a_key_was_read_does_not_start_an_outage() {
    let rig = Rig::watched();
    rig.put("key", "first");
    let hanging = Gate::new();
    rig.store.next(StoreOp::Ping, Step::WaitBefore(hanging.clone()));
    let ring = Arc::clone(&rig.ring);
    let waiting = tokio::spawn(async move { ring.ready().await });
    hanging.reached().await;
    rig.advance(1);
    rig.creator("key").await.unwrap();
    assert!(waiting.await.unwrap().is_err());
    assert!(rig.ring.stats().online);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_takes_too_long_while_keys_are_read_proves_nothing() {
    let mut rig = Rig::new();
    let limited = Limited::new(Arc::new(rig.store.clone()), Limits::default());
    rig.ring = Arc::new(Keyring::new(
        Arc::new(limited),
        CacheSettings::default(),
        rig.clock.clone(),
    ));
    let rig = rig.watch();
    rig.put("key", "first");
    tokio::time::sleep(seconds(5)).await;
    for (read, pings) in [(true, 0), (false, 1)] {
        let hanging = Gate::new();
        rig.store.next(StoreOp::List, Step::WaitBefore(hanging.clone()));
        let ring = Arc::clone(&rig.ring);
        let listing = tokio::spawn(async move {
            let all = ListRequest::parse("").unwrap();
            ring.list(&Scope::default(), &all, NonZeroUsize::MIN).await
        });
        hanging.reached().await;
        if read {
            rig.advance(31);
            rig.creator("key").await.unwrap();
        }
        // The poll falls into this time, and no later one into what follows.
        tokio::time::sleep(seconds(9)).await;
        let polled = rig.pings();
        assert!(is_outage(&listing.await.unwrap()));
        rig.settle().await;
        assert_eq!(rig.pings() - polled, pings, "{read}");
    }
}

/// An outage that ends and comes back after some seconds, in which no key that it kept could be fetched again.
async fn flap(reads: Step) -> Rig {
    let rig = Rig::with(CacheSettings {
        unused: seconds(2),
        offline: seconds(3600),
        ..CacheSettings::default()
    })
    .watch();
    for i in 0..100 {
        rig.put(&format!("key{i}"), "before");
        rig.creator(&format!("key{i}")).await.unwrap();
    }
    rig.store.fail(Failure::Unreachable);
    rig.creator("other").await.unwrap_err();
    rig.advance(600);
    for i in 0..100 {
        rig.creator(&format!("key{i}")).await.unwrap();
    }

    rig.store.heal();
    rig.store.always(StoreOp::Get, reads);
    rig.pass(seconds(1)).await;
    assert!(rig.ring.stats().online);
    // The sweep comes by.
    rig.pass(seconds(3)).await;
    assert_eq!(rig.ring.stats().entries, 100);
    rig.store.fail(Failure::Unreachable);
    rig.ring.ready().await.unwrap_err();
    assert!(!rig.ring.stats().online);
    rig
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_for_a_moment_does_not_cost_what_the_outage_has_kept() {
    let rig = flap(Step::WaitBefore(Gate::new())).await;
    for i in 0..100 {
        assert_eq!(rig.creator(&format!("key{i}")).await.unwrap(), "before");
    }
    // Nor does it prolong it: 604 seconds had gone by.
    rig.advance(3600 - 604);
    assert_eq!(rig.creator("key7").await.unwrap(), "before");
    rig.advance(1);
    assert!(is_outage(&rig.creator("key7").await));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_refreshed_at_once_is_refreshed_when_the_store_is_back_for_good() {
    let rig = flap(Step::WaitBefore(Gate::new())).await;
    for i in 0..100 {
        rig.creator(&format!("key{i}")).await.unwrap();
        rig.put(&format!("key{i}"), "after");
    }
    rig.store.heal();
    let reads = rig.reads();
    // Those that hung go first to their end.
    tokio::time::sleep(seconds(60)).await;
    assert!(rig.ring.stats().online);
    assert_eq!(rig.reads() - reads, 100);
    for i in 0..100 {
        assert_eq!(rig.creator(&format!("key{i}")).await.unwrap(), "after");
    }
    assert_eq!(rig.reads() - reads, 100);

    // From now on the usual times hold.
    rig.pass(seconds(61)).await;
    assert_eq!(rig.ring.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_but_reads_nothing_costs_nothing_either() {
    let rig = flap(Step::Fail(Failure::Throttled)).await;
    for i in 0..100 {
        assert_eq!(rig.creator(&format!("key{i}")).await.unwrap(), "before");
    }
}
