//! What the cache keeps, and for how long.

use kes_keyring::{CacheSettings, Scope};

use crate::rig::{Rig, named, seconds};

#[tokio::test(start_paused = true)]
async fn a_key_is_used_at_most_any_after_it_was_fetched_however_often() {
    let rig = Rig::new();
    rig.put("key", "first");
    for _ in 0..30 {
        assert_eq!(rig.creator("key").await.unwrap(), "first");
        rig.advance(10);
    }
    assert_eq!(rig.creator("key").await.unwrap(), "first");
    assert_eq!(rig.reads(), 1);

    rig.put("key", "second");
    rig.advance(1);
    assert_eq!(rig.creator("key").await.unwrap(), "second");
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_dropped_when_it_was_not_used_for_a_while() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.advance(30);
    rig.creator("key").await.unwrap();
    assert_eq!(rig.reads(), 1);
    rig.advance(31);
    rig.creator("key").await.unwrap();
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_entry_has_its_own_times() {
    let rig = Rig::new();
    rig.put("early", "early");
    rig.put("late", "late");
    rig.creator("early").await.unwrap();
    rig.advance(20);
    rig.creator("late").await.unwrap();
    rig.advance(20);
    rig.creator("late").await.unwrap();
    assert_eq!(rig.reads(), 2);
    rig.creator("early").await.unwrap();
    assert_eq!(rig.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn creating_and_importing_do_not_fill_the_cache() {
    let rig = Rig::new();
    let scope = Scope::default();
    rig.ring.create(&scope, &named("made"), "me").await.unwrap();
    let algorithm = kes_crypto::Algorithm::Aes256;
    rig.ring
        .import(&scope, &named("brought"), &[7; 32], algorithm, "me")
        .await
        .unwrap();
    assert_eq!((rig.ring.stats().entries, rig.reads()), (0, 0));

    rig.creator("made").await.unwrap();
    rig.creator("brought").await.unwrap();
    assert_eq!((rig.ring.stats().entries, rig.reads()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_lost_after_create_is_not_answered_from_memory() {
    let rig = Rig::new();
    rig.ring
        .create(&Scope::default(), &named("key"), "me")
        .await
        .unwrap();
    rig.store.remove("key");
    assert!(rig.creator("key").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_by_another_server_shows_after_any() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.store.remove("key");
    for _ in 0..15 {
        rig.advance(20);
        assert!(rig.creator("key").await.is_ok());
    }
    rig.advance(1);
    assert!(rig.creator("key").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn new_settings_hold_for_what_is_in_the_cache() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.creator("key").await.unwrap();
    rig.advance(10);
    rig.ring.reconfigure(CacheSettings {
        any: seconds(5),
        ..CacheSettings::default()
    });
    rig.creator("key").await.unwrap();
    assert_eq!(rig.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_fetched_again_has_not_left_for_want_of_room() {
    let rig = Rig::new();
    rig.put("key", "somebody");
    rig.creator("key").await.unwrap();
    rig.ring.reconfigure(CacheSettings {
        any: seconds(5),
        ..CacheSettings::default()
    });
    rig.advance(10);
    rig.creator("key").await.unwrap();
    assert_eq!((rig.reads(), rig.ring.stats().evicted), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_cache_has_a_bound_and_keeps_what_is_used_most() {
    let rig = Rig::with(CacheSettings {
        entries: 100,
        ..CacheSettings::default()
    });
    for i in 0..1000 {
        rig.put(&format!("key{i}"), "somebody");
    }
    for i in 0..1000 {
        rig.creator("key0").await.unwrap();
        rig.creator(&format!("key{i}")).await.unwrap();
    }
    // Shards are rounded up.
    let stats = rig.ring.stats();
    assert!(stats.entries <= 104, "{stats:?}");
    assert_eq!(stats.evicted, 1000 - stats.entries as u64);
    // 999 once each, and the one in constant use once only.
    assert_eq!(rig.reads(), 1000);

    rig.ring.reconfigure(CacheSettings {
        entries: 10,
        ..CacheSettings::default()
    });
    assert!(rig.ring.stats().entries <= 16, "{:?}", rig.ring.stats());
}

#[tokio::test(start_paused = true)]
async fn a_cache_for_no_keys_still_serves() {
    let rig = Rig::with(CacheSettings {
        entries: 0,
        ..CacheSettings::default()
    });
    rig.put("a", "a");
    rig.put("b", "b");
    for name in ["a", "b", "a"] {
        assert_eq!(rig.creator(name).await.unwrap(), name);
    }
    assert!(rig.ring.stats().entries <= 1);
}

#[tokio::test(start_paused = true)]
async fn hits_and_misses_are_counted() {
    let rig = Rig::new();
    rig.put("key", "first");
    for name in ["key", "key", "key", "missing"] {
        let _ = rig.creator(name).await;
    }
    let stats = rig.ring.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.entries, stats.online),
        (2, 2, 1, true)
    );
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_removed_though_nobody_asks_for_it() {
    for keys in [1000, 5000] {
        let rig = Rig::new().watch();
        for i in 0..keys {
            rig.put(&format!("key{i}"), "somebody");
            rig.creator(&format!("key{i}")).await.unwrap();
        }
        rig.pass(seconds(29)).await;
        assert_eq!(rig.ring.stats().entries, keys);
        rig.creator("key7").await.unwrap();
        rig.pass(seconds(17)).await;
        assert_eq!(rig.ring.stats().entries, 1);
        assert_eq!(rig.reads(), keys);
    }
}
