//! Two minutes of requests while tokens end all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::VaultStore;
use kes_testkit::FaultProxy;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::mounts::{Mounts, is_login, is_renewal};
use crate::rig::{connect, name, secret, vault};

#[tokio::test(flavor = "multi_thread")]
async fn two_minutes_with_tokens_that_last_ten_seconds_and_thirty_at_most_fail_no_request() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "10s", "token_max_ttl": "30s" }));
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = Arc::new(connect(config).await);

    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    let end = Instant::now() + LENGTH;
    for worker in 0..WORKERS {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        workers.spawn(async move {
            let mut failures = Vec::new();
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut round = 0u32;
            while Instant::now() < end {
                pace.tick().await;
                round += 1;
                if let Err(error) = requests(&store, &format!("key-{worker}-{round}")).await {
                    failures.push(format!("{error} in round {round}: {error:?}"));
                }
                done.fetch_add(4, Ordering::Relaxed);
            }
            failures
        });
    }
    let failures: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    let done = done.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {done}: {failures:#?}", failures.len());
    assert!(done > 2_000, "{done} requests are no load");

    // A token lives for 28 seconds here, and is renewed three times.
    let (logins, renewals) = (proxy.count_of(is_login), proxy.count_of(is_renewal));
    assert!((4..=8).contains(&logins), "{logins} logins");
    assert!((8..=20).contains(&renewals), "{renewals} renewals");
}

async fn requests(store: &VaultStore, key: &str) -> Result<(), StoreError> {
    let key = name(key);
    store.create(&key, &secret("value")).await?;
    store.get(&key).await?;
    store
        .list(key.as_str(), None, std::num::NonZeroUsize::MIN)
        .await?;
    store.delete(&key).await
}

const LENGTH: Duration = Duration::from_secs(120);

const WORKERS: usize = 8;

/// Each request is a connection of its own, of which a machine has only so many.
const PACE: Duration = Duration::from_millis(200);
