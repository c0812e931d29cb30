//! A key store that the server keeps itself: bringing back deleted keys, describing it, backing it up.

mod backup;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use kes_keyring::CacheSettings;
use kes_keystore::{CommitTimes, StoreGauges};
use kes_server::{Limits, PolicySettings, RouteSettings};
use kes_testkit::{
    Credentials, Failure, FakeOwnStore, Gate, MaintenanceOp, Part, Protocol, Running, Step, TestConnection,
    TestServer, admin, app, soon, until,
};
use kes_types::{Policy, PolicyName, Rule, Verb};
use serde_json::json;

use crate::rig::skip;

const DENIED: &str = "not authorized: insufficient permissions";
const BACKUP: &str = "/v1/store/backup";
const INFO: &str = "/v1/store/info";
const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
/// What looks after a store.
const ROUTES: [(&str, &str); 3] = [("PUT", "/v1/key/undelete/my-key"), ("GET", INFO), ("GET", BACKUP)];
/// So long that a test fails before it is over.
const LONG: Duration = Duration::from_secs(3600);

/// A server over a store with one key, `my-key`, which is deleted.
async fn over(store: &FakeOwnStore) -> Running {
    start(TestServer::keeping(store)).await
}

async fn start(server: TestServer) -> Running {
    let running = server.start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    running.app().delete("/v1/key/delete/my-key").await.ok();
    running
}

async fn connect(running: &Running, protocol: Protocol) -> TestConnection {
    running.admin().over(protocol).connect().await.unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

/// A backup as soon as its headers are there.
async fn begin(connection: &mut TestConnection) -> Response<Incoming> {
    let response = soon("the headers", connection.stream(get(BACKUP))).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// The next bytes.
async fn piece(body: &mut Incoming) -> Bytes {
    let frame = soon("the next piece", body.frame()).await.unwrap().unwrap();
    frame.into_data().unwrap()
}

/// Lets time pass, at most two minutes of it, until `done` says so.
async fn in_time(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..60 {
        skip(Duration::from_secs(2)).await;
        if done().await {
            return;
        }
    }
    panic!("{what}: not within two minutes");
}

/// Waits until the store is free for another backup.
async fn free(store: &FakeOwnStore) {
    until("the store is free again", async || store.backups_under_way() == 0).await;
}

#[tokio::test]
async fn only_the_admin_looks_after_the_store_whatever_policies_allow() {
    let mut server = TestServer::keeping(&FakeOwnStore::new());
    let rules = ["*", "/v1/*", "/v1/store/*", INFO, BACKUP, "/v1/key/undelete/*"];
    server.settings.policies = vec![PolicySettings {
        name: PolicyName::parse("app").unwrap(),
        policy: Policy {
            allow: rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect(),
            deny: Vec::new(),
        },
        identities: vec![app().identity()],
    }];
    // Opening a route opens handshakes, but none of these.
    let open = RouteSettings {
        skip_auth: true,
        timeout: None,
    };
    for verb in [
        Verb::Status,
        Verb::UndeleteKey,
        Verb::StoreInfo,
        Verb::StoreBackup,
    ] {
        server.settings.routes.insert(verb, open);
    }
    let running = start(server).await;
    let stranger = Credentials::self_signed("stranger");
    for protocol in PROTOCOLS {
        for (method, path) in ROUTES {
            for client in [running.app(), running.client(&stranger)] {
                client
                    .over(protocol)
                    .send(method, path, "")
                    .await
                    .fails(403, DENIED);
            }
            let anonymous = running.anonymous().over(protocol);
            let answer = anonymous.send(method, path, "").await;
            answer.fails(400, "tls: client certificate is required");
        }
    }
    running.anonymous().get("/v1/status").await.ok();
    for (method, path) in ROUTES {
        running.admin().send(method, path, "").await.ok();
    }
}

#[tokio::test]
async fn without_an_admin_nobody_looks_after_the_store() {
    let mut server = TestServer::keeping(&FakeOwnStore::new());
    server.settings.admin = None;
    let running = start(server).await;
    for (method, path) in ROUTES {
        running.admin().send(method, path, "").await.fails(403, DENIED);
    }
}

#[tokio::test]
async fn a_store_that_looks_after_itself_has_none_of_this() {
    let running = TestServer::default().start().await;
    let unknown = running.admin().get("/v1/nothing").await;
    for protocol in PROTOCOLS {
        let mut connection = connect(&running, protocol).await;
        for (_, path) in ROUTES {
            for method in ["GET", "PUT", "POST", "DELETE"] {
                let answer = connection.send(method, path, "").await;
                assert_eq!(
                    (answer.status, &answer.body),
                    (404, &unknown.body),
                    "{method} {path}"
                );
                assert!(!answer.headers.contains_key("allow"));
            }
        }
    }
    let api = running.admin().get("/v1/api").await.ok().text();
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    for text in [api, metrics] {
        assert!(!text.contains("undelete") && !text.contains("kes_store_") && !text.contains("/v1/store"));
    }
}

#[tokio::test]
async fn the_routes_are_listed_and_say_which_method_they_want() {
    let running = over(&FakeOwnStore::new()).await;
    let routes = running.admin().get("/v1/api").await.ok().json();
    let routes = routes.as_array().unwrap();
    assert_eq!(routes.len(), Verb::ALL.len());
    for route in [
        json!({"method": "PUT", "path": "/v1/key/undelete/", "max_body": 0, "timeout": 15}),
        json!({"method": "GET", "path": INFO, "max_body": 0, "timeout": 15}),
        json!({"method": "GET", "path": BACKUP, "max_body": 0, "timeout": 0}),
    ] {
        assert!(routes.contains(&route), "{route}");
    }
    for (allowed, path) in ROUTES {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            if method == allowed || (allowed, method) == ("PUT", "POST") {
                continue;
            }
            let answer = running.admin().send(method, path, "").await;
            answer.fails(405, "method not allowed");
            assert_eq!(answer.headers["allow"], allowed);
        }
    }
}

#[tokio::test]
async fn a_deleted_key_is_unusable_at_once_and_comes_back() {
    let running = TestServer::keeping(&FakeOwnStore::new()).start().await;
    let (client, admin) = (running.app(), running.admin());
    for protocol in PROTOCOLS {
        let mut connection = connect(&running, protocol).await;
        if protocol == Protocol::Http1 {
            client.put("/v1/key/create/my-key", "").await.ok();
        }
        let made = client.put("/v1/key/generate/my-key", "").await.ok().json();
        let ciphertext = json!({"ciphertext": made["ciphertext"]}).to_string();
        admin
            .put("/v1/key/undelete/my-key", "")
            .await
            .fails(400, "key already exists");

        client.delete("/v1/key/delete/my-key").await.ok();
        let gone = client.put("/v1/key/decrypt/my-key", ciphertext.clone()).await;
        gone.fails(404, "key does not exist");
        let taken = client.put("/v1/key/create/my-key", "").await;
        taken.fails(400, "key already exists");
        let again = client.delete("/v1/key/delete/my-key").await;
        again.fails(404, "key does not exist");
        let info = admin.get(INFO).await.ok().json();
        assert_eq!((&info["keys"], &info["deleted_keys"]), (&json!(0), &json!(1)));

        // Go clients send POST.
        let method = if protocol == Protocol::Http1 {
            "PUT"
        } else {
            "POST"
        };
        let undeleted = connection.send(method, "/v1/key/undelete/my-key", "").await.ok();
        assert!(undeleted.body.is_empty());
        let opened = client.put("/v1/key/decrypt/my-key", ciphertext).await.ok().json();
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    admin
        .put("/v1/key/undelete/other", "")
        .await
        .fails(404, "key does not exist");
    for name in ["", "a.b", "%2e%2e"] {
        let answer = admin.put(&format!("/v1/key/undelete/{name}"), "").await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    // A body is read and ignored.
    client.delete("/v1/key/delete/my-key").await.ok();
    admin.put("/v1/key/undelete/my-key", "{}").await.ok();
}

#[tokio::test]
async fn an_undeletion_runs_to_its_end_when_its_client_goes_away() {
    let store = FakeOwnStore::new();
    let mut running = start(TestServer::keeping(&store).with_own_error_log()).await;
    let gate = Gate::new();
    store.next(MaintenanceOp::Undelete, Step::WaitBefore(gate.clone()));
    let client = running.admin();
    let request = tokio::spawn(async move { client.put("/v1/key/undelete/my-key", "").await });
    soon("the request reaches the store", gate.reached()).await;
    request.abort();
    let ending = tokio::spawn(async move {
        running.shutdown(LONG).await;
        running
    });
    gate.open();
    let running = soon("the end", ending).await.unwrap();
    assert_eq!(store.closed(), 1);
    let events = running.audit().await;
    let last = events.last().unwrap();
    assert_eq!(last["request"]["path"], "/v1/key/undelete/my-key");
    assert_eq!(last["response"]["code"], 200);
    let found = kes_keystore::KeyStore::get(&store, &kes_keystore::EntryName::parse("my-key").unwrap()).await;
    assert!(found.is_ok());
}

#[tokio::test]
async fn every_failure_has_its_answer_and_tells_no_details() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for failure in Failure::ALL {
        for ((method, path), (op, failed)) in ROUTES.into_iter().zip([
            (MaintenanceOp::Undelete, "failed to undelete key"),
            (MaintenanceOp::Info, "failed to describe the key store"),
            (MaintenanceOp::Backup, "failed to back up the key store"),
        ]) {
            store.next(op, Step::Fail(failure));
            let (status, message) = match (failure, op) {
                (Failure::Exists, _) => (400, "key already exists"),
                (Failure::NotFound, _) => (404, "key does not exist"),
                (Failure::InvalidName, _) => {
                    (400, "the key store cannot hold this name: as the test wants it")
                }
                (Failure::Throttled, MaintenanceOp::Backup) => (503, "another backup is under way"),
                _ => (502, failed),
            };
            let answer = running.admin().send(method, path, "").await;
            answer.fails(status, message);
        }
    }
    for ((method, path), op) in ROUTES.into_iter().zip([
        MaintenanceOp::Undelete,
        MaintenanceOp::Info,
        MaintenanceOp::Backup,
    ]) {
        store.next(op, Step::Panic);
        let answer = running.admin().send(method, path, "").await;
        assert!([500, 502].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("as the test wants it"));
        running.admin().send(method, path, "").await.ok();
        running.app().delete("/v1/key/delete/my-key").await;
    }
}

#[tokio::test]
async fn what_hangs_in_the_store_is_not_waited_for_for_ever() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for ((method, path), op, (status, message)) in [
        (ROUTES[0], MaintenanceOp::Undelete, (503, "request timed out")),
        (
            ROUTES[1],
            MaintenanceOp::Info,
            (502, "failed to describe the key store"),
        ),
        (
            ROUTES[2],
            MaintenanceOp::Backup,
            (502, "failed to back up the key store"),
        ),
    ] {
        let gate = Gate::new();
        store.next(op, Step::WaitBefore(gate.clone()));
        let client = running.admin();
        let request = tokio::spawn(async move { client.send(method, path, "").await });
        soon("the request reaches the store", gate.reached()).await;
        in_time("the answer", async || {
            running.admin().get("/version").await.ok();
            request.is_finished()
        })
        .await;
        request.await.unwrap().fails(status, message);
    }
}

#[tokio::test]
async fn the_store_is_described() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    running.app().put("/v1/key/create/another", "").await.ok();
    let expected = json!({
        "type": "fake",
        "location": "memory",
        "format": 1,
        "id": "00112233445566778899aabbccddeeff",
        "seals": [{"kind": "key", "check": "0011223344556677", "source": "file seal.key"}],
        "keys": 1,
        "deleted_keys": 1,
        "undelete_seconds": 604_800,
        "size": 0,
    });
    for protocol in PROTOCOLS {
        let answer = connect(&running, protocol).await.send("GET", INFO, "").await.ok();
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json(), expected);
    }
    running.admin().get(BACKUP).await.ok();
    let info = running.admin().get(INFO).await.ok().json();
    assert_eq!(info["last_backup"], "2024-05-01T00:00:00Z");
}

#[tokio::test]
async fn everything_is_audited_and_a_backup_when_it_begins() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    let earlier = running.audit().await.len();
    let mut connection = connect(&running, Protocol::Http1).await;
    store.set_backup(vec![Part::Wait(Gate::new())]);
    let _backup = begin(&mut connection).await;
    running
        .admin()
        .get(BACKUP)
        .await
        .fails(503, "another backup is under way");
    running.app().get(BACKUP).await.fails(403, DENIED);
    running.admin().get(INFO).await.ok();
    running.app().get(INFO).await.fails(403, DENIED);
    running.admin().put("/v1/key/undelete/my-key", "").await.ok();
    running.admin().put("/v1/key/undelete/a.b", "").await;
    running.admin().delete(INFO).await;
    let events = running.audit().await;
    let told: Vec<_> = events[earlier..]
        .iter()
        .map(|event| {
            let (request, response) = (&event["request"], &event["response"]);
            let by_admin = request["identity"] == admin().identity().as_str();
            (
                request["method"].as_str().unwrap(),
                request["path"].as_str().unwrap(),
                by_admin,
                response["code"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("GET", BACKUP, true, 200),
        ("GET", BACKUP, true, 503),
        ("GET", BACKUP, false, 403),
        ("GET", INFO, true, 200),
        ("GET", INFO, false, 403),
        ("PUT", "/v1/key/undelete/my-key", true, 200),
        ("PUT", "/v1/key/undelete/a.b", true, 400),
        ("DELETE", INFO, true, 405),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_denial_says_in_the_log_that_it_takes_the_admin() {
    let running = over(&FakeOwnStore::new()).await;
    let mut following = running.admin().connect().await.unwrap();
    let mut errors = following.follow("/v1/log/error").await;
    running.app().get(BACKUP).await.fails(403, DENIED);
    let mut lines = String::new();
    while !lines.contains("only the admin may do this") {
        let frame = soon("the error log", errors.frame()).await.unwrap().unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn the_store_is_measured() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    let gauges = StoreGauges {
        keys: 3,
        deleted: 1,
        size: 4096,
        commits: CommitTimes {
            counts: [2, 1, 0, 0, 0, 0, 0, 0, 0, 1],
            sum: Duration::from_millis(3_250),
        },
        last_backup: None,
    };
    store.set_gauges(gauges);
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    for line in [
        "kes_store_keys 3",
        "kes_store_deleted_keys 1",
        "kes_store_size_bytes 4096",
        "kes_store_last_backup_timestamp_seconds 0",
        "kes_store_commit_seconds_bucket{le=\"0.001\"} 2",
        "kes_store_commit_seconds_bucket{le=\"+Inf\"} 4",
        "kes_store_commit_seconds_sum 3.25",
        "kes_operation_time_count{operation=\"key_undelete\"} 0",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is missing in\n{metrics}"
        );
    }
    assert!(!metrics.contains("kes_store_backup_age_seconds"));

    running.admin().get(BACKUP).await.ok();
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    assert!(
        metrics.contains("\nkes_store_last_backup_timestamp_seconds 1714521600\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nkes_store_backup_age_seconds "), "{metrics}");
    assert!(
        metrics.contains("\nkes_operation_time_count{operation=\"store_backup\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_routes_come_and_go_with_the_store_and_a_backup_keeps_its_own() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    let gate = Gate::new();
    store.set_backup(vec![Part::Wait(gate.clone()), Part::Piece("one".into())]);
    let mut connection = connect(&running, Protocol::Http2).await;
    let mut kept = connect(&running, Protocol::Http1).await;
    kept.send("GET", INFO, "").await.ok();
    let body = begin(&mut connection).await.into_body();

    let other = TestServer::default().store;
    let keyring = running.environment.keyring(other, CacheSettings::default());
    let settings = TestServer::default_settings();
    running.server().reload(settings, Some(keyring)).unwrap();
    for connection in [&mut kept, &mut connection] {
        connection.send("GET", INFO, "").await.fails(404, "not found");
        let api = connection.send("GET", "/v1/api", "").await.ok().text();
        assert!(!api.contains(INFO));
    }
    // The old store is not closed before its backup has ended.
    assert_eq!(store.closed(), 0);
    gate.open();
    assert_eq!(soon("the end", body.collect()).await.unwrap().to_bytes(), "one");
    until("the old store is closed", async || store.closed() == 1).await;

    let another = FakeOwnStore::new();
    let keyring = running
        .environment
        .keyring(another.connected(), CacheSettings::default());
    let settings = TestServer::default_settings();
    running.server().reload(settings, Some(keyring)).unwrap();
    for connection in [&mut kept, &mut connection] {
        connection.send("GET", INFO, "").await.ok();
        let api = connection.send("GET", "/v1/api", "").await.ok().text();
        assert!(api.contains(INFO));
    }
    // Reading the certificates anew changes nothing of it.
    running.server().reload_tls().unwrap();
    kept.send("GET", INFO, "").await.ok();
}
