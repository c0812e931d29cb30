//! A key store that fails, hangs and lies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kes_keystore::{EntryName, StoreOp};
use kes_testkit::{
    Answer, Failure, FaultyStore, Gate, Lie, PATIENCE, Protocol, Running, Step, TestClient, TestServer, soon,
    until,
};
use serde_json::json;

use crate::rig::{skip, with_timeout};

/// What has to pass before a request is given up.
const BRIEF: Duration = Duration::from_millis(500);
const NOT_AUTHENTIC: &str = "decryption failed: ciphertext is not authentic";

async fn over(store: &FaultyStore) -> Running {
    TestServer::over(Arc::new(store.clone())).start().await
}

/// What every operation on a key that is not cached answers.
async fn cold_operations(client: &TestClient) -> Vec<(&'static str, Answer)> {
    let import = json!({"key": crate::rig::b64(&[7; 32])}).to_string();
    vec![
        ("create", client.put("/v1/key/create/new", "").await),
        ("import", client.put("/v1/key/import/new", import).await),
        ("delete", client.delete("/v1/key/delete/cold").await),
        ("list", client.get("/v1/key/list/").await),
        ("describe", client.get("/v1/key/describe/cold").await),
        ("generate", client.put("/v1/key/generate/cold", "").await),
        ("encrypt", client.put("/v1/key/encrypt/cold", "{}").await),
        ("decrypt", client.put("/v1/key/decrypt/cold", "{}").await),
        ("hmac", client.put("/v1/key/hmac/cold", "{}").await),
        ("bulk", client.put("/v1/key/bulk/decrypt/cold", "[{}]").await),
    ]
}

#[tokio::test]
async fn every_failure_has_its_answer_and_tells_no_details() {
    for failure in Failure::ALL {
        let store = FaultyStore::new();
        let running = over(&store).await;
        running.app().put("/v1/key/create/cold", "").await.ok();
        store.fail(failure);
        for (operation, answer) in cold_operations(&running.app()).await {
            let (status, message) = match (failure, operation) {
                (Failure::Exists, _) => (400, "key already exists"),
                (Failure::NotFound, _) => (404, "key does not exist"),
                (Failure::InvalidName, _) => {
                    (400, "the key store cannot hold this name: as the test wants it")
                }
                (_, "create" | "import") => (502, "failed to create key"),
                (_, "delete") => (502, "failed to delete key"),
                (_, "list") => (502, "failed to list keys"),
                _ => (502, "failed to read key"),
            };
            assert_eq!(
                (answer.status, answer.message().as_str()),
                (status, message),
                "{failure:?} {operation}"
            );
        }
        let (status, message) = match failure {
            Failure::Unreachable | Failure::Sealed => (504, "key store is not reachable"),
            _ => (502, "key store is unavailable"),
        };
        running.admin().get("/v1/ready").await.fails(status, message);
        let told = running.admin().get("/v1/status").await.ok().json();
        assert_eq!(told["keystore_unreachable"], true);
        assert!(told.get("keystore_latency").is_none());

        // Nothing of it is remembered. An outage ends when the store is next looked at.
        store.heal();
        until("the store is back", async || {
            skip(Duration::from_secs(1)).await;
            running.admin().get("/v1/ready").await.status == 200
        })
        .await;
        running.app().put("/v1/key/generate/cold", "").await.ok();
        running.app().put("/v1/key/create/new", "").await.ok();
        running.app().get("/v1/key/list/").await.ok();
    }
}

#[tokio::test]
async fn the_error_log_says_why_and_the_answer_does_not() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let mut following = running.admin().connect().await.unwrap();
    let mut errors = following.follow("/v1/log/error").await;
    store.fail(Failure::AuthFailed);
    let answer = running.app().put("/v1/key/generate/told-in-the-log", "").await;
    answer.fails(502, "failed to read key");
    let mut lines = String::new();
    while !lines.contains("/v1/key/generate/told-in-the-log") {
        let frame = soon("the error log", errors.frame()).await.unwrap().unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let line = lines
        .lines()
        .find(|line| line.contains("told-in-the-log"))
        .unwrap();
    assert!(
        line.contains("refuses the credentials: as the test wants it") && line.contains("code=502"),
        "{line}"
    );
}

#[tokio::test]
async fn in_an_outage_warm_keys_work_and_cold_ones_fail_at_once() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let client = running.app();
    for name in ["warm", "cold"] {
        client.put(&format!("/v1/key/create/{name}"), "").await.ok();
    }
    client.put("/v1/key/generate/warm", "").await.ok();
    store.fail(Failure::Unreachable);
    client
        .put("/v1/key/generate/cold", "")
        .await
        .fails(502, "failed to read key");
    let online = async || {
        let metrics = running.admin().get("/v1/metrics").await.ok().text();
        metrics.contains("kes_keystore_online 1\n")
    };
    until("the outage is known", async || !online().await).await;

    // From now on a store that would hang is not even asked.
    let gate = Gate::new();
    for op in [StoreOp::Get, StoreOp::Ping] {
        store.always(op, Step::WaitBefore(gate.clone()));
    }
    let calls = store.calls(StoreOp::Get);
    let started = Instant::now();
    let rounds = 20;
    for _ in 0..rounds {
        client
            .put("/v1/key/generate/cold", "")
            .await
            .fails(502, "failed to read key");
        running
            .admin()
            .get("/v1/ready")
            .await
            .fails(504, "key store is not reachable");
        client.put("/v1/key/generate/warm", "").await.ok();
    }
    // A request for a sign of life alone is given up after five seconds.
    assert!(started.elapsed() < rounds * Duration::from_secs(5));
    assert_eq!(store.calls(StoreOp::Get), calls);
    store.heal();
    gate.open();
    until("the outage is over", async || {
        skip(Duration::from_secs(1)).await;
        online().await
    })
    .await;
    client.put("/v1/key/generate/cold", "").await.ok();
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_nobody_past_the_routes_timeout() {
    let store = FaultyStore::new();
    // Nothing has to succeed in so little time.
    over(&store).await.app().put("/v1/key/create/cold", "").await.ok();
    let running = with_timeout(TestServer::over(Arc::new(store.clone())), BRIEF)
        .start()
        .await;
    let gate = Gate::new();
    for op in StoreOp::ALL {
        store.always(op, Step::WaitBefore(gate.clone()));
    }
    let audited = running.audit().await.len();
    let started = Instant::now();
    let mut answers = cold_operations(&running.app()).await;
    answers.push(("ready", running.admin().get("/v1/ready").await));
    answers.push(("status", running.admin().get("/v1/status").await));
    let count = answers.len();
    for (operation, answer) in answers {
        assert_eq!(
            (operation, answer.status, answer.message().as_str()),
            (operation, 503, "request timed out")
        );
    }
    assert!(started.elapsed() < BRIEF * u32::try_from(count).unwrap() + PATIENCE);
    let codes: Vec<_> = running.audit().await[audited..]
        .iter()
        .map(|event| event["response"]["code"].clone())
        .collect();
    assert_eq!(codes, vec![503; count]);

    // Writes that began run to their end, once.
    gate.open();
    until("one of the writes has come through", async || {
        store.value("new").is_some()
    })
    .await;
    store.heal();
    until("reading works again", async || {
        running.app().put("/v1/key/generate/new", "").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_store_that_hangs_is_an_outage_after_a_while() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let gate = Gate::new();
    store.always(StoreOp::Get, Step::WaitBefore(gate.clone()));
    store.always(StoreOp::Ping, Step::WaitBefore(gate.clone()));
    for (method, path, status, message) in [
        ("PUT", "/v1/key/generate/cold", 502, "failed to read key"),
        ("GET", "/v1/ready", 504, "key store is not reachable"),
    ] {
        let client = running.admin();
        let asking = tokio::spawn(async move { client.send(method, path, "").await });
        soon("the store is asked", gate.reached()).await;
        until("an answer", async || {
            skip(Duration::from_millis(500)).await;
            // Meanwhile the request goes its way, and so does its answer.
            running.admin().get("/version").await.ok();
            asking.is_finished()
        })
        .await;
        asking.await.unwrap().fails(status, message);
    }
    let told = running.admin().get("/v1/status").await.ok().json();
    assert_eq!(told["keystore_unreachable"], true);
}

#[tokio::test]
async fn a_lie_is_found_out_and_not_remembered() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let client = running.app();
    client.put("/v1/key/create/key", "").await.ok();
    let generated = client.put("/v1/key/generate/key", "").await.ok().json();
    let value = store.value("key").unwrap();
    for lie in [
        Lie::Value(Vec::new()),
        Lie::Value(b"garbage".to_vec()),
        Lie::Value(b"{}".to_vec()),
        Lie::Value(vec![0xff; 64]),
        Lie::Value(vec![b'['; 1 << 20]),
        Lie::Value([&value[..], b"x"].concat()),
        Lie::Truncated(value.len() - 1),
        Lie::Truncated(value.len() / 2),
        Lie::Truncated(1),
    ] {
        store.lie("key", lie.clone());
        // Another server, which has not read the key yet.
        let other = over(&store).await;
        let answer = other.app().put("/v1/key/generate/key", "").await;
        answer.fails(502, "failed to read key");
        other
            .app()
            .get("/v1/key/describe/key")
            .await
            .fails(502, "failed to read key");
        store.heal();
        let request = json!({"ciphertext": generated["ciphertext"]}).to_string();
        let decrypted = other.app().put("/v1/key/decrypt/key", request).await.ok().json();
        assert_eq!(decrypted["plaintext"], generated["plaintext"]);
    }
}

#[tokio::test]
async fn another_keys_value_decrypts_nothing() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let client = running.app();
    for name in ["key", "other"] {
        client.put(&format!("/v1/key/create/{name}"), "").await.ok();
    }
    let generated = client.put("/v1/key/generate/key", "").await.ok().json();
    let request = json!({"ciphertext": generated["ciphertext"]}).to_string();
    store.lie("key", Lie::ValueOf(EntryName::parse("other").unwrap()));
    let misled = over(&store).await;
    misled
        .app()
        .put("/v1/key/decrypt/key", request.clone())
        .await
        .fails(400, NOT_AUTHENTIC);
    client.put("/v1/key/decrypt/key", request).await.ok();
}

#[tokio::test]
async fn a_store_that_panics_takes_nobody_with_it() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    running.app().put("/v1/key/create/cold", "").await.ok();
    for op in StoreOp::ALL {
        store.always(op, Step::Panic);
    }
    let audited = running.audit().await.len();
    let answers = cold_operations(&running.app()).await;
    let count = answers.len();
    for (operation, answer) in answers {
        assert!(
            [500, 502].contains(&answer.status),
            "{operation}: {}",
            answer.status
        );
        assert!(
            !answer.text().contains("as the test wants it"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(running.audit().await.len(), audited + count);
    store.heal();
    running.app().put("/v1/key/generate/cold", "").await.ok();
    running.app().put("/v1/key/create/new", "").await.ok();
    running.app().delete("/v1/key/delete/cold").await.ok();
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_an_error_and_yet_may_have_happened() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    store.next(StoreOp::Create, Step::FailAfter(Failure::Backend));
    running
        .app()
        .put("/v1/key/create/key", "")
        .await
        .fails(502, "failed to create key");
    running
        .app()
        .put("/v1/key/create/key", "")
        .await
        .fails(400, "key already exists");
    running.app().put("/v1/key/generate/key", "").await.ok();
    store.next(StoreOp::Delete, Step::FailAfter(Failure::Backend));
    running
        .app()
        .delete("/v1/key/delete/key")
        .await
        .fails(502, "failed to delete key");
    running
        .app()
        .put("/v1/key/generate/key", "")
        .await
        .fails(404, "key does not exist");
}

/// Sends a request on a connection that is cut once the store has been asked.
async fn ask_and_leave(running: &Running, protocol: Protocol, path: &'static str, gate: &Gate) {
    let client = running.app().over(protocol);
    let mut connection = client.connect().await.unwrap();
    let request = tokio::spawn(async move { connection.send("PUT", path, "").await });
    soon("the request reaches the store", gate.reached()).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
}

async fn audited(running: &Running, path: &str) -> u64 {
    let mut code = None;
    until("the audit event", async || {
        let events = running.audit().await;
        let event = events.iter().find(|event| event["request"]["path"] == path);
        code = event.and_then(|event| event["response"]["code"].as_u64());
        code.is_some()
    })
    .await;
    code.unwrap()
}

#[tokio::test]
async fn a_key_is_created_although_the_client_has_gone() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (store, gate) = (FaultyStore::new(), Gate::new());
        let running = over(&store).await;
        store.next(StoreOp::Create, Step::WaitBefore(gate.clone()));
        ask_and_leave(&running, protocol, "/v1/key/create/key", &gate).await;
        until("the server has seen the end", async || {
            let metrics = running.admin().get("/v1/metrics").await.ok().text();
            metrics.contains("kes_connections 1\n")
        })
        .await;
        assert!(store.value("key").is_none());
        gate.open();
        assert_eq!(audited(&running, "/v1/key/create/key").await, 200, "{protocol:?}");
        assert!(store.value("key").is_some());
        running.app().put("/v1/key/generate/key", "").await.ok();
    }
}

#[tokio::test]
async fn a_request_given_up_by_its_client_is_audited_too() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (store, gate) = (FaultyStore::new(), Gate::new());
        let running = over(&store).await;
        running.app().put("/v1/key/create/key", "").await.ok();
        store.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
        ask_and_leave(&running, protocol, "/v1/key/generate/key", &gate).await;
        assert_eq!(
            audited(&running, "/v1/key/generate/key").await,
            499,
            "{protocol:?}"
        );
        gate.open();
        running.app().put("/v1/key/generate/key", "").await.ok();
    }
}
