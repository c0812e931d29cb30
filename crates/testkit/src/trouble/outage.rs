//! A key store that is out of reach for a while, under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use kes_keyring::CacheSettings;
use kes_types::ManualClock;

use super::log::Log;
use super::served::{FAILED_TO_READ, generate, online};
use super::*;
use crate::{Running, TestConnection};

const CLIENTS: usize = 4;
/// How many keys a server reads again at once after an outage.
const REFRESHES: usize = 4;
const HOUR: Duration = Duration::from_secs(3600);

/// With the cache's offline time set, ten minutes of outage fail no request for a key that is cached. The others are told
/// at once. When it is over, each key is read again once, a few at a time and not all in one moment.
pub async fn ten_minutes_of_outage_cost_no_cached_key(rig: impl Rig) {
    const KEYS: usize = 100;
    let trial = Trial::new(rig).await;
    let clock = Arc::new(ManualClock::default());
    let running = serve(
        trial.connect(PATIENT).await,
        CacheSettings {
            offline: HOUR,
            ..CacheSettings::default()
        },
        Some(&clock),
    )
    .await;
    let mut clients = connections(&running).await;
    for key in 0..KEYS {
        let client = &mut clients[key % CLIENTS];
        for route in ["create", "generate"] {
            let path = format!("/v1/key/{route}/key-{key}");
            client.send("PUT", &path, "").await.ok();
        }
    }

    trial.proxy().refuse().await;
    for second in 0..600 {
        clock.advance(Duration::from_secs(1));
        let asked = clients.iter_mut().enumerate().map(async |(number, client)| {
            let key = (second * CLIENTS + number) % KEYS;
            let path = format!("/v1/key/generate/key-{key}");
            client.send("PUT", &path, "").await
        });
        for answer in join_all(asked).await {
            assert_eq!(answer.status, 200, "in second {second}: {}", answer.text());
        }
        if second % 10 == 5 {
            let cold = clients[0].send("PUT", "/v1/key/generate/kept", "").await;
            cold.fails(502, FAILED_TO_READ);
        }
    }
    assert!(!online(&running).await);

    trial.proxy().forget();
    trial.proxy().accept();
    until("the outage is over", async || online(&running).await).await;
    let gets = || trial.proxy().count_of(trial.requests_of(StoreOp::Get));
    until("the keys in use are read again", async || gets() >= KEYS).await;
    for key in 0..KEYS {
        let path = format!("/v1/key/generate/key-{key}");
        clients[0].send("PUT", &path, "").await.ok();
    }
    let gets = gets();
    assert_eq!(gets, KEYS, "reads for {KEYS} keys");
    // One sign of life may be asked for besides.
    let at_once = trial.proxy().most_at_once();
    assert!(at_once <= REFRESHES + 1, "{at_once} requests at once");
    let burst = trial.proxy().busiest(Duration::from_millis(100));
    assert!(burst <= KEYS / 3, "{burst} requests in a tenth of a second");
}

/// Without an offline time, a request for a key that is not cached any more fails at once in a known outage: it takes no
/// time-out, and the store is not even asked.
pub async fn without_an_offline_time_errors_come_at_once(rig: impl Rig) {
    const REQUESTS: usize = 100;
    let trial = Trial::new(rig).await;
    let clock = Arc::new(ManualClock::default());
    // Enough for a service on a slow machine, which has to answer before it hangs; but less than the key ring gives a ping,
    // which would find the outage in place of the store.
    let brief = Patience {
        attempt: Duration::from_secs(3),
        operation: Duration::from_secs(4),
        ..PATIENT
    };
    let store = trial.connect(brief).await;
    let running = serve(store, CacheSettings::default(), Some(&clock)).await;
    let client = running.app();
    client.put("/v1/key/create/warm", "").await.ok();
    generate(&client, "warm").await.ok();
    let mut connection = client.connect().await.unwrap();
    trial.proxy().always(Fault::Hang);
    // The first to ask finds the outage.
    generate(&client, "kept").await.fails(502, FAILED_TO_READ);
    until("the outage is known", async || !online(&running).await).await;
    generate(&client, "warm").await.ok();
    clock.advance(HOUR);

    trial.proxy().forget();
    let began = Instant::now();
    for request in 0..REQUESTS {
        let key = if request % 2 == 0 { "warm" } else { "kept" };
        let path = format!("/v1/key/generate/{key}");
        let answer = connection.send("PUT", &path, "").await;
        answer.fails(502, FAILED_TO_READ);
        // A tenth of what they take if each waits for a time-out.
        let took = began.elapsed();
        assert!(took < 10 * brief.operation, "{request} requests took {took:?}");
    }
    assert_eq!(trial.proxy().count_of(trial.requests_of(StoreOp::Get)), 0);

    trial.heal();
    until("the outage is over", async || {
        generate(&client, "warm").await.status == 200
    })
    .await;
}

/// An outage of some seconds under load, with keys that are read again all the time: nobody fails, neither when it begins nor
/// when it ends, and then the store is not asked more often than before.
pub async fn a_short_outage_under_load_fails_nobody(rig: impl Rig) {
    const KEYS: usize = 10;
    // How long a key may be used. A key that has outlived this when the store last answers is not one that an outage keeps, so
    // it is far longer than the clients take for all of them.
    const LIFE: Duration = Duration::from_secs(3);
    const OUTAGE: Duration = Duration::from_secs(4);
    let _heard = Log::of_the_process();
    let trial = Trial::new(rig).await;
    let cache = CacheSettings {
        any: LIFE,
        offline: HOUR,
        ..CacheSettings::default()
    };
    let running = serve(trial.connect(PATIENT).await, cache, None).await;
    for key in 0..KEYS {
        let path = format!("/v1/key/create/key-{key}");
        running.app().put(&path, "").await.ok();
    }

    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = connections(&running).await;
    let load = clients.into_iter().enumerate().map(async |(number, mut client)| {
        let mut key = number;
        while !ended.load(Ordering::Relaxed) {
            key = (key + 1) % KEYS;
            let path = format!("/v1/key/generate/key-{key}");
            let answer = client.send("PUT", &path, "").await;
            if answer.status != 200 {
                panic!(
                    "key-{key}: {}\n{}",
                    answer.text(),
                    Log::of_the_process().tail().await
                );
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let outage = async {
        let gets = || trial.proxy().count_of(trial.requests_of(StoreOp::Get));
        until("all keys are cached", async || {
            running.keyring().stats().entries == KEYS
        })
        .await;
        trial.proxy().refuse().await;
        let began = Instant::now();
        until("the outage is known and has lasted", async || {
            !online(&running).await && began.elapsed() >= OUTAGE
        })
        .await;
        let before = answered.load(Ordering::Relaxed);
        trial.proxy().forget();
        trial.proxy().accept();
        until("the outage is over", async || online(&running).await).await;
        until("each key has been read again", async || gets() >= KEYS).await;
        until("the load goes on", async || {
            answered.load(Ordering::Relaxed) > before + KEYS
        })
        .await;
        ended.store(true, Ordering::Relaxed);
    };
    futures_util::future::join(join_all(load), outage).await;
    let at_once = trial.proxy().most_at_once();
    assert!(at_once <= CLIENTS + REFRESHES + 1, "{at_once} requests at once");
    // A key lives for longer than a second, so no second has more than two reads of it, and few things else.
    let burst = trial.proxy().busiest(Duration::from_secs(1));
    assert!(burst <= 2 * KEYS + 10, "{burst} requests in a second");
}

async fn serve(store: Subject, cache: CacheSettings, clock: Option<&Arc<ManualClock>>) -> Running {
    let mut server = server(store);
    server.cache = cache;
    if let Some(clock) = clock {
        server.clock = Arc::clone(clock) as _;
    }
    server.start().await
}

async fn connections(running: &Running) -> Vec<TestConnection> {
    let connecting = (0..CLIENTS).map(async |_| running.app().connect().await.unwrap());
    join_all(connecting).await
}
