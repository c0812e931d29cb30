//! Nodes that are not the active one, and servers that want to be left alone for a while. The answers are scripted.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, Patience, StoreError};
use kes_keystore_vault::{Config, KvVersion, VaultStore};
use kes_testkit::{Answer, Fault, FaultProxy, ProxiedRequest};
use serde_json::json;

use crate::rig::{Place, QUICK, assert_says, connect, name, secret};

fn says(status: u16, text: &str) -> Answer {
    Answer::of(
        status,
        "application/json",
        json!({ "errors": [text] }).to_string(),
    )
}

fn of_entries(request: &ProxiedRequest) -> bool {
    request.path().contains("/kv")
}

/// Each operation once.
async fn works(store: &VaultStore) {
    store.create(&name("x"), &secret("value")).await.unwrap();
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"value"
    );
    let page = store.list("", None, NonZeroUsize::new(5).unwrap()).await.unwrap();
    assert_eq!(page.names, [name("x")]);
    store.delete(&name("x")).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_leads_to_the_active_node_with_method_body_and_token() {
    for status in [307, 308] {
        for version in [KvVersion::V1, KvVersion::V2] {
            let place = Place::new(version);
            let (standby, active) = (
                FaultProxy::start(place.vault.endpoint()),
                FaultProxy::start(place.vault.endpoint()),
            );
            let to = active.endpoint();
            standby.set(move |request| {
                if request.path().ends_with("sys/health") {
                    return Fault::Pass;
                }
                let there = format!("{to}{}", request.target);
                Fault::Says(Answer::of(status, "text/html", "").with_header("location", &there))
            });
            let store = place.through(standby.endpoint()).await;
            works(&store).await;
            for request in active.requests() {
                assert_eq!(request.header("x-vault-request"), Some("true"), "{request:?}");
                assert_eq!(
                    request.header("x-vault-token").is_none(),
                    request.path().ends_with("/login"),
                    "{request:?}"
                );
            }
            let sent = standby
                .requests()
                .into_iter()
                .filter(|request| !request.path().ends_with("sys/health"));
            let sent: Vec<_> = sent.map(|request| (request.method, request.target)).collect();
            let followed: Vec<_> = active
                .requests()
                .into_iter()
                .map(|request| (request.method, request.target))
                .collect();
            assert_eq!(sent, followed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_without_a_host_stays_at_the_server() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    store.create(&name("x"), &secret("value")).await.unwrap();
    let there = format!("/v1/{}", place.entry("x"));
    proxy.once(
        |_| true,
        Fault::Says(Answer::of(307, "text/html", "").with_header("location", &there)),
    );
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"value"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_scheme_or_in_a_circle_is_an_error_and_the_token_stays() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    let here = proxy.endpoint();
    for (location, problem, requests) in [
        (here.replace("http:", "https:"), "another scheme", 1),
        (format!("{here}/v1/elsewhere"), "redirects again", 2),
        ("http://".to_owned(), "no URL", 1),
    ] {
        proxy.forget();
        let answer = Answer::of(307, "text/html", "").with_header("location", &location);
        proxy.always(Fault::Says(answer));
        assert_says(
            store.get(&name("x")).await,
            &["redirect", problem, "keystore.vault.endpoint"],
        );
        assert_eq!(proxy.count(), requests, "{location}");
    }
    proxy.always(Fault::Says(Answer::of(307, "text/html", "")));
    assert_says(store.get(&name("x")).await, &["redirect", "no URL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_whatever_it_is() {
    for version in [KvVersion::V1, KvVersion::V2] {
        for answer in [
            says(412, "required index state not present"),
            says(429, "request path rate limit quota exceeded"),
            says(429, "quota").with_header("retry-after", "0"),
            says(472, "dr secondary"),
            says(473, "performance standby"),
            says(500, "internal error"),
            says(502, "bad gateway"),
            says(503, "Vault is sealed"),
            says(503, "node is in maintenance"),
            says(
                400,
                "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly.",
            ),
        ] {
            let place = Place::new(version);
            let proxy = FaultProxy::start(place.vault.endpoint());
            let store = place.through(proxy.endpoint()).await;
            let fail_twice = |method: &'static str| {
                for _ in 0..2 {
                    let which =
                        move |request: &ProxiedRequest| of_entries(request) && request.method == method;
                    proxy.once(which, Fault::Says(answer.clone()));
                }
            };
            fail_twice("PUT");
            store.create(&name("x"), &secret("value")).await.unwrap();
            fail_twice("GET");
            store.get(&name("x")).await.unwrap();
            fail_twice("GET");
            let page = store.list("", None, NonZeroUsize::MIN).await.unwrap();
            assert_eq!(page.names, [name("x")]);
            fail_twice("DELETE");
            store.delete(&name("x")).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_told_as_what_it_is() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    for (answer, expected) in [
        (says(412, "required index state not present"), "Backend"),
        (says(429, "quota"), "Throttled"),
        (says(472, ""), "Unreachable"),
        (says(473, ""), "Unreachable"),
        (says(500, "internal error"), "Backend"),
        (says(501, "not initialized"), "Unreachable"),
        (says(502, ""), "Unreachable"),
        (says(503, "Vault is sealed"), "Sealed"),
        (says(503, "maintenance"), "Unreachable"),
        (says(504, ""), "Unreachable"),
        (says(418, ""), "Backend"),
    ] {
        proxy.always(Fault::Says(answer.clone()));
        for (what, result) in [
            ("create", store.create(&name("x"), &secret("value")).await),
            ("get", store.get(&name("x")).await.map(drop)),
            ("delete", store.delete(&name("x")).await),
            ("list", store.list("", None, NonZeroUsize::MIN).await.map(drop)),
            ("ping", store.ping().await),
        ] {
            let error = format!("{:?}", result.unwrap_err());
            assert!(error.starts_with(expected), "{what} {answer:?}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_vault_asks_for_is_kept_or_not_begun() {
    let place = Place::new(KvVersion::V2);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let store = place.through(proxy.endpoint()).await;
    store.create(&name("x"), &secret("value")).await.unwrap();

    proxy.forget();
    proxy.once(
        of_entries,
        Fault::Says(says(429, "quota").with_header("retry-after", "1")),
    );
    let began = Instant::now();
    store.get(&name("x")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(proxy.count(), 2);

    proxy.forget();
    proxy.always(Fault::Says(says(429, "quota").with_header("retry-after", "3600")));
    let read = store.get(&name("x")).await;
    let hour = Some(Duration::from_secs(3600));
    assert!(
        matches!(read, Err(StoreError::Throttled { retry_after, .. }) if retry_after == hour),
        "{read:?}"
    );
    assert_eq!(proxy.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_outlasts_its_deadline() {
    let place = Place::new(KvVersion::V1).with_transit();
    let proxy = FaultProxy::start(place.vault.endpoint());
    // Nothing else ends an operation: an attempt may take for ever. Long enough to connect on a slow machine.
    let patience = Patience {
        attempt: Duration::from_secs(24 * 3600),
        operation: Duration::from_secs(3),
        ..QUICK
    };
    let config = Config {
        endpoint: proxy.endpoint(),
        ..place.config()
    };
    let store = connect(Config { patience, ..config }).await;
    proxy.always(Fault::Hang);
    let (x, value) = (name("x"), secret("value"));
    let (create, waiting, get, delete, list, ping) = kes_testkit::soon("all of them", async {
        tokio::join!(
            store.create(&x, &value),
            // In its turn, which does not come.
            store.create(&x, &value),
            store.get(&x),
            store.delete(&x),
            store.list("", None, NonZeroUsize::MIN),
            store.ping(),
        )
    })
    .await;
    for (what, result) in [
        ("create", create),
        ("get", get.map(drop)),
        ("delete", delete),
        ("list", list.map(drop)),
        ("ping", ping),
    ] {
        assert!(
            matches!(result, Err(StoreError::Unreachable { .. })),
            "{what}: {result:?}"
        );
    }
    assert!(waiting.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_have_a_path() {
    let place = Place::new(KvVersion::V1);
    let proxy = FaultProxy::start(place.vault.endpoint());
    let to = place.vault.endpoint().to_owned();
    proxy.set(move |request| {
        match request
            .target
            .strip_prefix("/behind/a proxy".replace(' ', "%20").as_str())
        {
            Some(target) => Fault::Says(
                Answer::of(307, "text/html", "").with_header("location", &format!("{to}{target}")),
            ),
            None => Fault::Says(Answer::of(404, "text/html", "")),
        }
    });
    let mut config = place.config();
    config.endpoint = format!("{}/behind/a proxy/", proxy.endpoint());
    works(&connect(config).await).await;
}
