//! A key store that the server keeps itself: bringing back deleted keys, describing it, backing it up.

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

/// Reads on until the body breaks off.
///
/// # Panics
/// When it comes to an end instead.
async fn breaks_off(body: &mut Incoming) {
    loop {
        match soon("the rest", body.frame()).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return,
            None => panic!("what is incomplete looks complete"),
        }
    }
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

/// Whether no connection but that of whoever asks is open.
async fn is_alone(running: &Running) -> bool {
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    metrics.contains("\nkes_connections 1\n")
}

/// Waits until the store is free for another backup.
async fn free(store: &FakeOwnStore) {
    until("the store is free again", async || store.backups_under_way() == 0).await;
}

fn endless() -> Vec<Part> {
    vec![Part::Endless(Bytes::from(vec![7; 100_000]))]
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
async fn a_backup_is_sent_as_it_is_made() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for name in ["a", "b", "c"] {
        running
            .app()
            .put(&format!("/v1/key/create/{name}"), "")
            .await
            .ok();
    }
    for protocol in PROTOCOLS {
        let answer = connect(&running, protocol)
            .await
            .send("GET", BACKUP, "")
            .await
            .ok();
        assert_eq!(answer.body, "a\nb\nc\n");
        assert_eq!(answer.headers["content-type"], "application/octet-stream");
        assert!(!answer.headers.contains_key("content-disposition"));
        assert!(!answer.headers.contains_key("content-length"));
        free(&store).await;
    }

    // Headers and pieces come when they are there, and large ones whole.
    for protocol in PROTOCOLS {
        let (first, second) = (Gate::new(), Gate::new());
        let large = Bytes::from((0..1_000_003_u32).map(|n| n as u8).collect::<Vec<_>>());
        store.set_backup(vec![
            Part::Wait(first.clone()),
            Part::Piece("one".into()),
            Part::Piece(Bytes::new()),
            Part::Wait(second.clone()),
            Part::Piece(large.clone()),
        ]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        first.open();
        assert_eq!(piece(&mut body).await, "one");
        second.open();
        assert_eq!(soon("the rest", body.collect()).await.unwrap().to_bytes(), large);
        free(&store).await;
    }

    // An empty one is one, too.
    store.set_backup(Vec::new());
    for protocol in PROTOCOLS {
        let mut connection = connect(&running, protocol).await;
        let body = begin(&mut connection).await.into_body();
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        // The connection goes on.
        connection.send("GET", "/version", "").await.ok();
        free(&store).await;
    }
}

#[tokio::test]
async fn one_backup_at_a_time() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for protocol in PROTOCOLS {
        let gate = Gate::new();
        store.set_backup(vec![Part::Piece("one".into()), Part::Wait(gate.clone())]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        assert_eq!(piece(&mut body).await, "one");
        for other in PROTOCOLS {
            let refused = connect(&running, other).await.send("GET", BACKUP, "").await;
            refused.fails(503, "another backup is under way");
            assert_eq!(refused.headers["retry-after"], "1");
        }
        // All else goes on meanwhile.
        running.admin().get(INFO).await.ok();
        running.app().get("/v1/key/list/").await.ok();
        gate.open();
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        free(&store).await;
    }
    running.admin().get(BACKUP).await.ok();
}

#[tokio::test]
async fn a_backup_that_fails_midway_never_looks_complete() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    let mut following = running.admin().connect().await.unwrap();
    let mut errors = following.follow("/v1/log/error").await;
    for protocol in PROTOCOLS {
        for before in [vec![], vec![Part::Piece("one".into()), Part::Piece("two".into())]] {
            let count = before.len();
            store.set_backup([before, vec![Part::Fail(Failure::Corrupt)]].concat());
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            for expected in ["one", "two"].into_iter().take(count) {
                assert_eq!(piece(&mut body).await, expected);
            }
            breaks_off(&mut body).await;
            free(&store).await;
        }
    }
    let mut lines = String::new();
    while !lines.contains("a backup is broken off") {
        let frame = soon("the error log", errors.frame()).await.unwrap().unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(
        lines.contains("level=ERROR") && lines.contains("corrupt: as the test wants it"),
        "{lines}"
    );
}

#[tokio::test]
async fn a_store_that_stops_in_the_middle_is_given_up() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let running = over(&store).await;
        store.set_backup(vec![Part::Piece("one".into()), Part::Wait(Gate::new())]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        assert_eq!(piece(&mut body).await, "one");
        skip(Duration::from_secs(40)).await;
        running.admin().get("/version").await.ok();
        assert_eq!(store.backups_under_way(), 1);
        skip(Duration::from_secs(21)).await;
        breaks_off(&mut body).await;
        free(&store).await;
    }
}

/// Waits until nothing more fits between the server and a client that does not read.
async fn full(store: &FakeOwnStore, running: &Running) {
    let mut before = usize::MAX;
    let mut other = connect(running, Protocol::Http1).await;
    until("the client is stuffed", async || {
        // Long enough for whatever is on its way.
        for _ in 0..20 {
            other.send("GET", "/version", "").await.ok();
        }
        let taken = store.pieces_taken();
        std::mem::replace(&mut before, taken) == taken
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_a_minute_is_cut_off() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let mut server = TestServer::keeping(&store);
        server.settings.limits = Limits {
            header_timeout: LONG,
            idle_timeout: LONG,
            ..server.settings.limits
        };
        let running = start(server).await;
        store.set_backup(endless());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        // Slow is not stalled.
        for _ in 0..4 {
            full(&store, &running).await;
            skip(Duration::from_secs(40)).await;
            let taken = store.pieces_taken();
            until("the next pieces", async || {
                piece(&mut body).await;
                store.pieces_taken() > taken + 2
            })
            .await;
        }
        full(&store, &running).await;
        skip(Duration::from_secs(40)).await;
        running.admin().get("/version").await.ok();
        assert_eq!(store.backups_under_way(), 1);
        in_time("the store is free again", async || {
            running.admin().get("/version").await.ok();
            store.backups_under_way() == 0
        })
        .await;
        // The connection is closed, so nobody holds it.
        until("the connection is gone", async || is_alone(&running).await).await;
        breaks_off(&mut body).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_the_end_is_cut_off_as_well() {
    for protocol in PROTOCOLS {
        for last in [None, Some(Part::Fail(Failure::Backend))] {
            let store = FakeOwnStore::new();
            let mut server = TestServer::keeping(&store);
            server.settings.limits.idle_timeout = LONG;
            let running = start(server).await;
            let gate = Gate::new();
            let mut parts = vec![
                Part::Piece(Bytes::from(vec![7; 16 << 20])),
                Part::Wait(gate.clone()),
            ];
            parts.extend(last);
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            gate.open();
            in_time("the client is cut off", async || is_alone(&running).await).await;
            assert_eq!(store.backups_under_way(), 0);
            breaks_off(&mut body).await;
        }
    }
}

#[tokio::test]
async fn a_backup_takes_as_long_as_it_takes() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let running = over(&store).await;
        let gates: Vec<_> = (0..10).map(|_| Gate::new()).collect();
        let parts = gates
            .iter()
            .flat_map(|gate| [Part::Wait(gate.clone()), Part::Piece("one".into())]);
        store.set_backup(parts.collect());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        for gate in gates {
            soon("the next gate", gate.reached()).await;
            skip(Duration::from_secs(40)).await;
            gate.open();
            assert_eq!(piece(&mut body).await, "one");
        }
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_store() {
    for protocol in PROTOCOLS {
        for parts in [endless(), vec![Part::Wait(Gate::new())]] {
            let store = FakeOwnStore::new();
            let running = over(&store).await;
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let response = begin(&mut connection).await;
            drop((response, connection));
            free(&store).await;
            store.set_backup(Vec::new());
            running.admin().get(BACKUP).await.ok();
        }
    }
}

#[tokio::test]
async fn a_backup_does_not_hold_up_the_end_and_does_not_look_complete() {
    for protocol in PROTOCOLS {
        for parts in [
            endless(),
            vec![Part::Piece("one".into()), Part::Wait(Gate::new())],
        ] {
            let store = FakeOwnStore::new();
            let mut running = start(TestServer::keeping(&store).with_own_error_log()).await;
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            piece(&mut body).await;
            let reading = tokio::spawn(async move { breaks_off(&mut body).await });
            soon("the end", running.shutdown(LONG)).await;
            soon("the break", reading).await.unwrap();
            assert_eq!((store.backups_under_way(), store.closed()), (0, 1));
        }
    }
}

#[tokio::test]
async fn a_stalled_backup_holds_up_the_end_for_a_minute_at_most() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let mut server = TestServer::keeping(&store).with_own_error_log();
        server.settings.limits.idle_timeout = LONG;
        let mut running = start(server).await;
        store.set_backup(endless());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        full(&store, &running).await;
        let ending = tokio::spawn(async move { running.shutdown(LONG).await });
        // The store is let go at once.
        free(&store).await;
        in_time("the end", async || {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            ending.is_finished()
        })
        .await;
        ending.await.unwrap();
        assert_eq!(store.closed(), 1);
        breaks_off(&mut body).await;
    }
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
        "kes_store_last_backup_seconds 0",
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
        metrics.contains("\nkes_store_last_backup_seconds 1714521600\n"),
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

#[tokio::test]
async fn a_time_limit_of_the_configuration_is_for_the_beginning_of_a_backup_only() {
    let store = FakeOwnStore::new();
    let mut server = TestServer::keeping(&store);
    let brief = RouteSettings {
        skip_auth: false,
        timeout: Some(Duration::from_secs(5)),
    };
    server.settings.routes.insert(Verb::StoreBackup, brief);
    let running = start(server).await;
    let gate = Gate::new();
    store.set_backup(vec![Part::Wait(gate.clone()), Part::Piece("one".into())]);
    let mut connection = connect(&running, Protocol::Http1).await;
    let mut body = begin(&mut connection).await.into_body();
    skip(Duration::from_secs(10)).await;
    gate.open();
    assert_eq!(piece(&mut body).await, "one");
    assert!(soon("the end", body.frame()).await.is_none());

    free(&store).await;
    let hanging = Gate::new();
    store.next(MaintenanceOp::Backup, Step::WaitBefore(hanging.clone()));
    let client = running.admin();
    let request = tokio::spawn(async move { client.get(BACKUP).await });
    soon("the request reaches the store", hanging.reached()).await;
    skip(Duration::from_secs(6)).await;
    let answer = soon("the answer", request).await.unwrap();
    answer.fails(503, "request timed out");
}

#[tokio::test]
async fn backups_take_no_place_from_log_streams() {
    let store = FakeOwnStore::new();
    let mut server = TestServer::keeping(&store);
    server.settings.limits.log_streams = 1;
    let running = start(server).await;
    store.set_backup(vec![Part::Wait(Gate::new())]);
    let mut first = connect(&running, Protocol::Http1).await;
    let _backup = begin(&mut first).await;
    let mut second = connect(&running, Protocol::Http1).await;
    let _log = second.follow("/v1/log/audit").await;
}
