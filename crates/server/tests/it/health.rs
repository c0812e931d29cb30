//! The health listener: what it answers, to whom, and what it does not let happen to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kes_keystore::StoreOp;
use kes_server::{Limits, RouteSettings};
use kes_testkit::{Failure, FaultyStore, Gate, Running, Step, TestServer, ThreadLog, soon, until};
use kes_types::Verb;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::skip;

/// What has to pass before something is given up. Long enough for a busy machine to do in it what has to succeed.
const BRIEF: Duration = Duration::from_secs(1);
/// So long that a test fails before it is over.
const LONG: Duration = Duration::from_secs(3600);

/// Starts a server and its health listener.
async fn start(server: TestServer) -> (Running, SocketAddr) {
    let mut running = server.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    running.server.as_mut().unwrap().serve_health(listener);
    (running, address)
}

/// An answer as it came.
#[derive(Debug)]
struct Plain {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Plain {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    fn fails(&self, status: u16, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body, json!({ "message": message }), "{self:?}");
    }
}

/// Sends bytes on a connection of their own, and reads to the end of it.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may have enough of them before they are all sent.
        _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    };
    soon("the answer", exchange).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

async fn request(address: SocketAddr, method: &str, path: &str) -> Plain {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    Plain::parse(&send(address, head.as_bytes()).await)
}

async fn get(address: SocketAddr, path: &str) -> Plain {
    request(address, "GET", path).await
}

#[tokio::test]
async fn whoever_asks_is_told_what_clients_are_told() {
    let (running, address) = start(TestServer::default()).await;
    let ready = get(address, "/v1/ready").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, ""));
    assert_eq!(ready.headers["content-length"], "0");
    let version = get(address, "/version").await;
    assert_eq!(version.status, 200);
    assert_eq!(version.body, running.admin().get("/version").await.ok().text());
    assert_eq!(version.headers["content-type"], "application/json");
    // As paths are read everywhere.
    for path in ["/v1/%72eady", "/v1/ready?verbose", "http://localhost/v1/ready"] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }

    let metrics = get(address, "/v1/metrics").await;
    assert_eq!(metrics.status, 200);
    let clients = running.admin().get("/v1/metrics").await.ok();
    assert_eq!(
        metrics.headers["content-type"],
        clients.headers["content-type"].to_str().unwrap()
    );
    let families = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE "));
        lines.map(str::to_owned).collect()
    };
    assert!(families(&metrics.body).len() > 25);
    assert_eq!(families(&metrics.body), families(&clients.text()));
}

#[tokio::test]
async fn the_metrics_are_whole_families_of_prometheus() {
    let (running, address) = start(TestServer::default()).await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    let text = get(address, "/v1/metrics").await.body;
    assert!(text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, help) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(!help.is_empty());
        let kind = lines.next().unwrap();
        let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
        let mut samples = 0;
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = sample.rsplit_once(' ').unwrap();
            assert!(series.starts_with(name), "{sample}");
            value.parse::<f64>().unwrap();
            samples += 1;
        }
        assert!(samples > 0, "{name}");
    }
}

#[tokio::test]
async fn nothing_else_is_there() {
    let (running, address) = start(TestServer::default()).await;
    for verb in Verb::ALL {
        if matches!(verb, Verb::Version | Verb::Ready | Verb::Metrics) {
            continue;
        }
        for method in ["GET", "PUT", "POST", "DELETE"] {
            request(address, method, &format!("{}my-key", verb.path()))
                .await
                .fails(404, "not found");
            request(address, method, verb.path())
                .await
                .fails(404, "not found");
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/ready/",
        "//v1/ready",
        "/v1/../v1/ready",
        "/metrics",
        "/healthz",
    ] {
        get(address, path).await.fails(404, "not found");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in ["/v1/ready", "/v1/metrics", "/version"] {
            let answer = request(address, method, path).await;
            answer.fails(405, "method not allowed");
            assert_eq!(answer.headers["allow"], "GET, HEAD");
        }
    }
    drop(running);
}

#[tokio::test]
async fn a_head_is_the_head_of_the_answer() {
    let (_running, address) = start(TestServer::default()).await;
    for path in ["/v1/ready", "/version", "/v1/metrics"] {
        let (head, whole) = (request(address, "HEAD", path).await, get(address, path).await);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(
            head.headers.get("content-type"),
            whole.headers.get("content-type"),
            "{path}"
        );
        // The numbers in the metrics have more or fewer digits each time.
        if path != "/v1/metrics" {
            assert_eq!(
                head.headers["content-length"],
                whole.body.len().to_string(),
                "{path}"
            );
        }
    }
    assert_eq!(request(address, "HEAD", "/v1/status").await.status, 404);
}

#[tokio::test]
async fn readiness_is_that_of_the_key_store_and_is_logged_once_a_minute() {
    let store = Arc::new(FaultyStore::new());
    let (running, address) = start(TestServer::over(store.clone())).await;
    let (log, _guard) = ThreadLog::capture();
    store.fail(Failure::Backend);
    for _ in 0..5 {
        get(address, "/v1/ready")
            .await
            .fails(502, "key store is unavailable");
    }
    let line = log.line("health: key store is unavailable");
    assert!(line.contains("WARN") && line.contains("502"), "{line}");
    store.fail(Failure::Unreachable);
    get(address, "/v1/ready")
        .await
        .fails(504, "key store is not reachable");
    assert_eq!(request(address, "HEAD", "/v1/ready").await.status, 504);
    // The rest does not need it.
    assert_eq!(get(address, "/version").await.status, 200);
    let metrics = get(address, "/v1/metrics").await.body;
    assert!(metrics.contains("\nkes_keystore_online 0\n"), "{metrics}");
    drop(running);
}

#[tokio::test]
async fn readiness_takes_no_longer_than_its_route_may() {
    let store = FaultyStore::new();
    let mut server = TestServer::over(Arc::new(store.clone()));
    let brief = RouteSettings {
        skip_auth: false,
        timeout: Some(BRIEF),
    };
    server.settings.routes.insert(Verb::Ready, brief);
    let (_running, address) = start(server).await;
    let gate = Gate::new();
    store.always(StoreOp::Ping, Step::WaitBefore(gate.clone()));
    get(address, "/v1/ready").await.fails(503, "request timed out");
    gate.open();
}

#[tokio::test]
async fn probes_are_neither_audited_nor_counted_among_requests() {
    let (running, address) = start(TestServer::default()).await;
    let counts = |metrics: &str| -> Vec<String> {
        let is_counted = |line: &&str| {
            line.starts_with("kes_http_")
                || line.starts_with("kes_log_audit")
                || line.starts_with("kes_operation_time_count")
                || line.starts_with("kes_tls_handshakes")
                || line.starts_with("kes_connections")
        };
        metrics.lines().filter(is_counted).map(str::to_owned).collect()
    };
    let before = counts(&get(address, "/v1/metrics").await.body);
    assert!(
        before.iter().any(|line| line == "kes_http_request_active 0"),
        "{before:?}"
    );
    for path in ["/v1/ready", "/version", "/v1/metrics", "/v1/status"] {
        get(address, path).await;
        request(address, "POST", path).await;
    }
    assert_eq!(counts(&get(address, "/v1/metrics").await.body), before);
    assert_eq!(running.audit().await, [json!(null); 0]);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (_running, address) = start(TestServer::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /v1/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(soon("the answer", stream.read_buf(&mut answer)).await.unwrap() > 0);
        }
        assert_eq!(Plain::parse(&String::from_utf8(answer).unwrap()).status, 200);
    }
    // Idle, it is closed, and sooner than one of a client.
    skip(Duration::from_secs(31)).await;
    assert_eq!(soon("the end", read_to_end(&mut stream)).await, "");
}

#[tokio::test]
async fn who_speaks_something_else_is_told_and_closed() {
    let (running, address) = start(TestServer::default()).await;
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 512]].concat();
    let answer = Plain::parse(&send(address, &hello).await);
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("use http:// instead of https://"),
        "{answer:?}"
    );
    // HTTP/2 without TLS, and what is no HTTP at all.
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/ready HTTP/9.9\r\n\r\n",
    ] {
        let answer = send(address, bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{answer}"
        );
    }
    // Clients on this port have no certificate to show, and get no TLS.
    let client = kes_testkit::TestClient::new(address, None);
    assert!(
        soon("a refusal", client.try_send("GET", "/v1/ready", ""))
            .await
            .is_err()
    );
    assert_eq!(get(address, "/v1/ready").await.status, 200);
    drop(running);
}

#[tokio::test]
async fn bodies_are_not_read_and_headers_are_bounded() {
    let (_running, address) = start(TestServer::default()).await;
    // Announced, and never sent.
    for body in [
        "Content-Length: 1000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Content-Length: 5\r\n\r\n{",
    ] {
        let head = format!("GET /v1/ready HTTP/1.1\r\nHost: localhost\r\n{body}");
        let answer = send(address, head.as_bytes()).await;
        assert_eq!(Plain::parse(&answer).status, 200, "{answer}");
    }
    // Nobody is invited to send one.
    let head =
        "GET /v1/ready HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    let answer = send(address, head.as_bytes()).await;
    assert_eq!(Plain::parse(&answer).status, 200, "{answer}");
    let head = format!("GET /v1/ready HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let answer = send(address, head.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[tokio::test]
async fn silent_and_slow_clients_are_given_up() {
    let mut server = TestServer::default();
    server.settings.limits = Limits {
        header_timeout: BRIEF,
        idle_timeout: LONG,
        ..server.settings.limits
    };
    let (_running, address) = start(server).await;
    for first in [&b""[..], b"G", b"GET /v1/ready HTTP/1.1\r\nHost: ", &[0x16]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        soon("the end of the connection", read_to_end(&mut stream)).await;
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/ready HTTP/1.1\r\nX: ").await.unwrap();
    let mut pace = tokio::time::interval(BRIEF / 50);
    until("the end of the dribble", async || {
        pace.tick().await;
        stream.write_all(b"x").await.is_err()
    })
    .await;
    assert_eq!(get(address, "/v1/ready").await.status, 200);
}

#[tokio::test]
async fn many_silent_connections_hold_up_probes_no_longer_than_headers_may_take_and_clients_not_at_all() {
    let mut server = TestServer::default();
    server.settings.limits = Limits {
        header_timeout: BRIEF,
        ..server.settings.limits
    };
    let (running, address) = start(server).await;
    let (log, _guard) = ThreadLog::capture();
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    until("the limit is reached", async || {
        log.text()
            .contains("the limit of connections of the health listener is reached")
    })
    .await;
    running.app().get("/version").await.ok();
    // Behind all of them in the queue.
    assert_eq!(get(address, "/v1/ready").await.status, 200);
    let metrics = get(address, "/v1/metrics").await.body;
    assert!(
        metrics.contains("\nkes_connections_limit_reached_total 0\n"),
        "{metrics}"
    );
    drop(silent);
}

#[tokio::test]
async fn while_the_server_finishes_its_requests_it_says_that_it_is_not_ready() {
    let (store, gate) = (FaultyStore::new(), Gate::new());
    let server = TestServer::over(Arc::new(store.clone())).with_own_error_log();
    let (mut running, address) = start(server).await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    store.always(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let client = running.app();
    let request = tokio::spawn(async move { client.put("/v1/key/generate/my-key", "").await });
    soon("the request reaches the store", gate.reached()).await;
    assert_eq!(get(address, "/v1/ready").await.status, 200);

    let mut kept = TcpStream::connect(address).await.unwrap();
    let server = running.server.take().unwrap();
    let shutdown = tokio::spawn(async move { server.shutdown(LONG).await });
    until("the server says that it stops", async || {
        get(address, "/v1/ready").await.status == 503
    })
    .await;
    get(address, "/v1/ready")
        .await
        .fails(503, "server is shutting down");
    assert_eq!(request_on(&mut kept).await, 503);
    assert_eq!(get(address, "/v1/metrics").await.status, 200);
    assert!(!shutdown.is_finished() && !request.is_finished());

    gate.open();
    soon("the answer", request).await.unwrap().ok();
    // Connections that are kept do not hold up the end.
    soon("the end", shutdown).await.unwrap();
    assert_eq!(
        soon("the end of the connection", read_to_end(&mut kept)).await,
        ""
    );
    assert!(TcpStream::connect(address).await.is_err());
}

/// The status of an answer on a connection that stays open.
async fn request_on(stream: &mut TcpStream) -> u16 {
    stream
        .write_all(b"GET /v1/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(soon("the answer", stream.read_buf(&mut answer)).await.unwrap() > 0);
    }
    Plain::parse(&String::from_utf8(answer).unwrap()).status
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_its_health_listener() {
    let (running, address) = start(TestServer::default()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    assert_eq!(get(address, "/v1/ready").await.status, 200);
    drop(running);
    soon("the end of the connection", read_to_end(&mut open)).await;
    until("nobody listens", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
}
