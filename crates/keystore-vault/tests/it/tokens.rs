//! Tokens that end, are revoked, or are short-lived, at a real Vault.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::Config;
use kes_peers::Vault;
use kes_testkit::{Fault, FaultProxy, ProxiedRequest, until};
use kes_types::{Clock, ManualClock};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::mounts::{Mounts, is_login, is_renewal, root, text};
use crate::rig::{connect, connect_at, create_key, name, secret, vault};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_by_its_accessor_costs_no_request() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "1h" }));
    let clock = Arc::new(ManualClock::default());
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    create_key(&store).await;

    let requests = proxy.requests();
    let token = requests
        .iter()
        .rev()
        .find_map(|request| request.header("x-vault-token"));
    let body = json!({ "token": token.expect("a token") });
    let accessor = text(
        &root(vault(), "POST", "auth/token/lookup", body),
        "/data/accessor",
    );
    root(
        vault(),
        "POST",
        "auth/token/revoke-accessor",
        json!({ "accessor": accessor }),
    );
    clock.advance(Duration::from_secs(6));
    let entry = store.get(&name("key")).await.expect("a key");
    assert_eq!(entry.value.expose_secret(), b"value");
    assert_eq!(proxy.count_of(is_login), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_does_not_make_one_login_after_another() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "1h" }));
    let policy =
        json!({ "policy": format!(r#"path "{}/data/*" {{ capabilities = ["create"] }}"#, mounts.kv) });
    root(vault(), "PUT", &format!("sys/policies/acl/{}", mounts.kv), policy);
    let clock = Arc::new(ManualClock::default());
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect_at(config, Arc::clone(&clock) as _).await;

    // A fresh token is not suspected; later a login is made to be sure, but ever more rarely, since it does not help.
    for (second, logins) in [
        (0, 1),
        (4, 1),
        (6, 2),
        (9, 2),
        (12, 2),
        (15, 2),
        (65, 2),
        (66, 3),
        (185, 3),
        (186, 4),
    ] {
        let gone = Clock::monotonic(&clock).0.as_secs();
        clock.advance(Duration::from_secs(second - gone));
        for _ in 0..3 {
            let error = store.get(&name("key")).await.expect_err("not permitted");
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        }
        assert_eq!(proxy.count_of(is_login), logins, "after {second} seconds");
    }
}

/// A minute and more of requests would prove no more than these.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_ten_seconds_cost_at_most_one_call_in_eight() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "10s" }));
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect(config).await;
    create_key(&store).await;

    let auth = |request: &ProxiedRequest| is_login(request) || is_renewal(request);
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    while proxy.count_of(auth) < 4 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "three renewals take 24 seconds"
        );
        pace.tick().await;
        store.get(&name("key")).await.expect("a key");
    }
    let requests = proxy.requests();
    let calls: Vec<_> = requests.iter().filter(|request| auth(request)).collect();
    // Every eight seconds from when they are begun; on the way here they may be held up.
    for pair in calls.windows(2) {
        let apart = pair[1].at.duration_since(pair[0].at);
        assert!(apart >= Duration::from_secs(7), "{apart:?} between {:?}", pair);
    }
    assert_eq!(proxy.count_of(is_login), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_is_repeated_in_time() {
    let mounts = Mounts::new(vault());
    // A fifth of it is left for another renewal.
    let role = mounts.role(json!({ "token_ttl": "20s" }));
    let proxy = FaultProxy::start(vault().endpoint());
    proxy.once(is_renewal, Fault::Reset);
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect(config).await;
    create_key(&store).await;
    let mut pace = interval(Duration::from_millis(100));
    until("the renewal is repeated", async || {
        pace.tick().await;
        store.get(&name("key")).await.expect("a key");
        proxy.count_of(is_renewal) == 2
    })
    .await;
    assert_eq!(proxy.count_of(is_login), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_while_vault_was_sealed_is_replaced_after_it() {
    let vault: &'static Vault = Box::leak(Box::new(Vault::start().expect("a Vault")));
    let mounts = Mounts::new(vault);
    let role = mounts.role(json!({ "token_ttl": "3s" }));
    let proxy = FaultProxy::start(vault.endpoint());
    let config = Config {
        ping: Duration::from_millis(50),
        ..mounts.config(&proxy.endpoint(), mounts.login(&role))
    };
    let store = connect(config).await;
    let key = name("key");
    store.create(&key, &secret("value")).await.expect("created");

    vault.seal().expect("sealed");
    until("it is known to be sealed", async || {
        matches!(store.get(&key).await, Err(StoreError::Sealed { .. }))
    })
    .await;
    let (sealed, asked) = (
        Instant::now(),
        proxy.count_of(is_renewal) + proxy.count_of(is_login),
    );
    let mut pace = interval(Duration::from_millis(20));
    while sealed.elapsed() < Duration::from_secs(4) {
        pace.tick().await;
        let error = store.get(&key).await.expect_err("sealed");
        assert!(matches!(error, StoreError::Sealed { .. }), "{error:?}");
    }
    assert!(
        proxy.count_of(is_renewal) + proxy.count_of(is_login) <= asked + 1,
        "nothing is asked of it"
    );

    vault.unseal().expect("unsealed");
    until("it works again", async || store.get(&key).await.is_ok()).await;
    assert_eq!(proxy.count_of(is_login), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_asks_nothing_any_more() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "2s" }));
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect(config).await;
    until("a renewal", async || proxy.count_of(is_renewal) > 0).await;
    store.close().await;
    until("nothing is under way", async || proxy.under_way() == 0).await;
    let before = proxy.count();
    let error = store.get(&name("key")).await.expect_err("closed");
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(said.contains("the key store has been closed"), "{said}");
    assert_eq!(proxy.count(), before);
}
