//! What is repeated, and when: the table of the README, row by row.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use kes_client::{Client, Endpoint, Error, KeyAlgorithm, ServerTrust};
use tokio::net::TcpListener;

use crate::canned::{Canned, Reply, json};
use crate::rig::{client_that_trusts, nowhere, persistent};

const LOOK: &str = "GET /v1/key/describe/a";
const CREATE: &str = "PUT /v1/key/create/a";
const NO_KEY: &str = r#"{"message":"key does not exist"}"#;

type Answer = Response<Full<Bytes>>;

/// A server that has no key `a`, and creates it.
async fn empty() -> Canned {
    Canned::start(|path| match path {
        "/v1/key/describe/a" => json(404, NO_KEY),
        _ => json(200, ""),
    })
    .await
}

/// A server that answers data keys, descriptions and orders.
async fn willing() -> Canned {
    Canned::start(|path| match path {
        "/v1/key/generate/a" => json(200, r#"{"plaintext":"YQ==","ciphertext":"Yg=="}"#),
        "/v1/key/encrypt/a" => json(200, r#"{"ciphertext":"Yg=="}"#),
        "/v1/key/decrypt/a" => json(200, r#"{"plaintext":"YQ=="}"#),
        "/v1/key/hmac/a" => json(200, r#"{"hmac":"YQ=="}"#),
        "/v1/key/describe/a" => json(200, r#"{"name":"a"}"#),
        _ => json(200, ""),
    })
    .await
}

async fn breaking() -> Canned {
    Canned::start(|_| Reply::Break).await
}

async fn failing() -> Canned {
    Canned::start(|_| json(502, r#"{"message":"failed to create key"}"#)).await
}

fn busy(status: u16, message: &'static str, retry_after: &'static str) -> Answer {
    let mut answer = json(status, message);
    answer
        .headers_mut()
        .insert("retry-after", retry_after.parse().unwrap());
    answer
}

const OVERLOADED: &str = r#"{"message":"server is overloaded"}"#;

/// Says that it is busy the first time.
async fn busy_once(status: u16, message: &'static str) -> Canned {
    let calls = AtomicUsize::new(0);
    Canned::start(move |path| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => busy(status, message, "0"),
        _ if path == "/v1/key/describe/a" => json(404, NO_KEY),
        _ => json(200, ""),
    })
    .await
}

#[tokio::test]
async fn without_a_connection_everything_is_asked_of_the_next_server() {
    let next = empty().await;
    let kes = persistent(&[nowhere(), next.address], 0);
    kes.create_key("a").await.unwrap();
    kes.import_key("a", &[7; 32], KeyAlgorithm::Aes256).await.unwrap();
    kes.delete_key("a").await.unwrap();
    kes.undelete_key("a").await.unwrap();
    assert_eq!(
        next.requests().len(),
        4,
        "nothing is looked for: {:?}",
        next.requests()
    );
}

#[tokio::test]
async fn a_server_that_is_not_trusted_has_received_nothing() {
    let [stranger, known] = ["kes", "kes"].map(kes_testkit::Credentials::self_signed);
    let strange = Canned::start_as(&stranger, &stranger, |_| json(200, "")).await;
    let next = Canned::start_as(&known, &known, |_| json(200, "")).await;
    let trust = ServerTrust::none().and_certificate(known.chain().remove(0));
    let kes = client_that_trusts(&[strange.address, next.address], None, trust);
    kes.create_key("a").await.unwrap();
    assert!(strange.requests().is_empty());
    assert_eq!(next.requests(), [CREATE]);
}

#[tokio::test]
async fn what_reads_or_is_not_remembered_goes_to_the_next_server_after_any_failure() {
    for first in [breaking().await, failing().await] {
        let next = willing().await;
        let kes = persistent(&[first.address, next.address], 0);
        kes.describe_key("a").await.unwrap();
        kes.generate("a", b"").await.unwrap();
        kes.encrypt("a", b"", b"").await.unwrap();
        kes.decrypt("a", b"", b"").await.unwrap();
        kes.hmac("a", b"").await.unwrap();
        kes.ready().await.unwrap();
        assert_eq!(next.requests().len(), 6);
    }
}

#[tokio::test]
async fn a_key_is_created_elsewhere_once_it_is_known_not_to_exist() {
    for first in [breaking().await, failing().await] {
        let next = empty().await;
        let kes = persistent(&[first.address, next.address], 0);
        kes.create_key("a").await.unwrap();
        assert_eq!(first.requests(), [CREATE]);
        assert_eq!(next.requests(), [LOOK, CREATE]);
    }
    let (first, next) = (breaking().await, empty().await);
    let kes = persistent(&[first.address, next.address], 0);
    kes.import_key("a", &[7; 32], KeyAlgorithm::ChaCha20)
        .await
        .unwrap();
    assert_eq!(next.requests(), [LOOK, "PUT /v1/key/import/a"]);
}

#[tokio::test]
async fn a_key_that_exists_after_a_failure_is_not_created_again() {
    for first in [breaking().await, failing().await] {
        let next = willing().await;
        let kes = persistent(&[first.address, next.address], 2);
        let error = kes.create_key("a").await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(next.requests(), [LOOK]);
        assert!(error.remedy().unwrap().contains("look whether the key exists"));
    }
}

#[tokio::test]
async fn a_key_is_not_created_again_by_who_may_not_look_for_it() {
    let next = Canned::start(|_| json(403, r#"{"message":"not authorized"}"#)).await;
    let first = breaking().await;
    let error = persistent(&[first.address, next.address], 0)
        .create_key("a")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(next.requests(), [LOOK]);
    // What a server has said is not replaced.
    let first = failing().await;
    let error = persistent(&[first.address, next.address], 0)
        .create_key("a")
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(502), "failed to create key")
    );
}

#[tokio::test]
async fn a_key_that_appears_between_look_and_creation_is_in_doubt() {
    let next = Canned::start(|path| match path {
        "/v1/key/describe/a" => json(404, NO_KEY),
        _ => json(400, r#"{"message":"key already exists"}"#),
    })
    .await;
    let first = breaking().await;
    let error = persistent(&[first.address, next.address], 0)
        .create_key("a")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(next.requests(), [LOOK, CREATE]);
}

#[tokio::test]
async fn a_missing_route_says_nothing_about_a_key() {
    let next = Canned::start(|_| json(404, r#"{"message":"not found"}"#)).await;
    let first = breaking().await;
    let error = persistent(&[first.address, next.address], 0)
        .create_key("a")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(next.requests(), [LOOK]);
}

#[tokio::test]
async fn a_deletion_that_may_have_happened_is_not_repeated() {
    let next = willing().await;
    for undelete in [false, true] {
        let first = breaking().await;
        let kes = persistent(&[first.address, next.address], 2);
        let outcome = if undelete {
            kes.undelete_key("a").await
        } else {
            kes.delete_key("a").await
        };
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(first.requests().len(), 1);
    }
    let first = failing().await;
    let error = persistent(&[first.address, next.address], 2)
        .delete_key("a")
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(502));
    assert!(next.requests().is_empty(), "{:?}", next.requests());
}

#[tokio::test]
async fn who_is_busy_is_asked_again_for_everything() {
    for (status, message) in [(429, "{}"), (503, OVERLOADED)] {
        for order in 0..3 {
            let server = busy_once(status, message).await;
            let kes = persistent(&[server.address], 1);
            match order {
                0 => kes.ready().await.unwrap(),
                1 => kes.create_key("a").await.unwrap(),
                _ => kes.delete_key("a").await.unwrap(),
            }
            let requests = server.requests();
            assert_eq!(requests.len(), 2, "without a look: {requests:?}");
        }
    }
}

#[tokio::test]
async fn who_is_busy_after_the_work_may_have_done_it() {
    let message = r#"{"message":"the request could not be recorded"}"#;
    let server = busy_once(503, message).await;
    persistent(&[server.address], 1).create_key("a").await.unwrap();
    assert_eq!(server.requests(), [CREATE, LOOK, CREATE]);
    let server = busy_once(503, message).await;
    let error = persistent(&[server.address], 1)
        .delete_key("a")
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn who_is_busy_for_long_is_not_waited_for() {
    let server = Canned::start(|_| busy(503, OVERLOADED, "3600")).await;
    let error = persistent(&[server.address], 5).ready().await.unwrap_err();
    let Error::Busy { retry_after, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(retry_after, Duration::from_secs(3600));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn all_servers_are_asked_as_often_as_was_said() {
    for retries in 0..3 {
        let [one, other] = [failing().await, failing().await];
        let kes = persistent(&[one.address, other.address], retries);
        assert_eq!(kes.status().await.unwrap_err().status(), Some(502));
        let times = retries as usize + 1;
        assert_eq!((one.requests().len(), other.requests().len()), (times, times));
    }
}

#[tokio::test]
async fn a_refusal_or_garbage_is_final() {
    for status in [400, 403, 404, 409, 501] {
        let (first, next) = (Canned::start(move |_| json(status, "{}")).await, willing().await);
        let kes = persistent(&[first.address, next.address], if status == 501 { 0 } else { 2 });
        let outcome = kes.describe_key("a").await;
        // What one server cannot do, another may.
        assert_eq!(outcome.is_ok(), status == 501, "{status}");
        assert_eq!(first.requests().len(), 1);
    }
    let (first, next) = (Canned::start(|_| json(200, "{{")).await, willing().await);
    let error = persistent(&[first.address, next.address], 2)
        .describe_key("a")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert!(next.requests().is_empty());
}

#[tokio::test]
async fn who_broke_off_a_moment_ago_comes_last() {
    let (first, next) = (breaking().await, willing().await);
    let kes = persistent(&[first.address, next.address], 0);
    for _ in 0..3 {
        kes.describe_key("a").await.unwrap();
    }
    assert_eq!(first.requests().len(), 1);
    assert_eq!(next.requests().len(), 3);
}

/// Servers that accept connections and say nothing, and a client of them.
async fn silent(count: usize) -> (Vec<TcpListener>, Client) {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let endpoints = listeners
        .iter()
        .map(|listener| Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap());
    let kes = Client::builder(endpoints.collect())
        .trust(ServerTrust::dangerous_anything())
        .timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    (listeners, kes)
}

#[tokio::test(start_paused = true)]
async fn after_a_time_out_what_is_remembered_is_in_doubt() {
    let (_listeners, kes) = silent(2).await;
    for error in [
        kes.create_key("a").await.unwrap_err(),
        kes.delete_key("a").await.unwrap_err(),
    ] {
        let Error::OutcomeUnknown { source } = &error else {
            panic!("{error:?}");
        };
        assert!(matches!(**source, Error::TimedOut { .. }), "{error:?}");
    }
    // What reads has been asked of both, once.
    let error = kes.describe_key("a").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn all_attempts_together_end_within_the_deadline() {
    let (_listeners, kes) = silent(5).await;
    let start = tokio::time::Instant::now();
    let error = kes
        .with_deadline(Duration::from_secs(8))
        .status()
        .await
        .unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 8);
    let Error::DeadlineExceeded { after, last } = error else {
        panic!("{error:?}");
    };
    assert_eq!(after, Duration::from_secs(8));
    assert!(
        matches!(last.as_deref(), Some(Error::TimedOut { .. })),
        "{last:?}"
    );
    // The clone has not changed the client.
    let error = kes
        .with_timeout(Duration::from_secs(1))
        .status()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { after, .. } if after == Duration::from_secs(1)),
        "{error:?}"
    );
    let error = kes.with_deadline(Duration::ZERO).status().await.unwrap_err();
    assert!(
        matches!(error, Error::DeadlineExceeded { last: None, .. }),
        "{error:?}"
    );
    // No limit is one, too.
    let error = kes.with_deadline(Duration::MAX).status().await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}
