//! Clients that are slow, silent, or gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kes_keystore::StoreOp;
use kes_server::Limits;
use kes_testkit::{FaultyStore, Gate, Protocol, Running, Step, TestServer, soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{skip, with_timeout};

/// What has to pass before something is given up. Long enough for a busy machine to do in it what has to succeed.
const BRIEF: Duration = Duration::from_secs(1);
/// So long that a test fails before it is over.
const LONG: Duration = Duration::from_secs(3600);

fn with_limits(header_timeout: Duration, idle_timeout: Duration) -> TestServer {
    let mut server = TestServer::default();
    server.settings.limits = Limits {
        header_timeout,
        idle_timeout,
        ..server.settings.limits
    };
    server
}

async fn read_to_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_get_on_is_given_up() {
    let running = with_limits(BRIEF, LONG).start().await;
    // Silence; the beginning of a record; a record that is never complete; an endless dribble.
    for first in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(running.address()).await.unwrap();
        stream.write_all(first).await.unwrap();
        read_to_end(&mut stream).await;
        assert!(started.elapsed() >= BRIEF);
    }
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    stream
        .write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3])
        .await
        .unwrap();
    // A few bytes in all: if all of the record came, it would be refused.
    let mut pace = tokio::time::interval(BRIEF / 50);
    until("the end of the dribble", async || {
        pace.tick().await;
        stream.write_all(&[0]).await.is_err()
    })
    .await;
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    assert!(
        metrics.contains("kes_tls_handshakes_total{result=\"failed\"} 4\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_are_not_waited_for() {
    let running = with_limits(BRIEF, LONG).start().await;
    // The first request of a connection, and one after another.
    for earlier in [0, 2] {
        // Before the server begins to wait, which it does as soon as it can: for the first request after the handshake, for
        // another after its answer.
        let mut started = Instant::now();
        let mut connection = running.app().raw().await;
        for _ in 0..earlier {
            started = Instant::now();
            connection
                .write("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert_eq!(connection.answer().await.status, 200);
        }
        connection
            .write("GET /version HTTP/1.1\r\nHost: localhost\r\nX: ")
            .await;
        // A few bytes in all, since too many would end the connection as well.
        let mut pace = tokio::time::interval(BRIEF / 50);
        until("the end of the dribble", async || {
            pace.tick().await;
            connection.try_write("x").await.is_err()
        })
        .await;
        assert!(started.elapsed() >= BRIEF);
    }
    // Nothing at all is not waited for either, in no protocol.
    for protocol in [Protocol::Http1, Protocol::Http2] {
        running.app().over(protocol).raw().await.closed().await;
    }
    running.app().get("/version").await.ok();
}

#[tokio::test]
async fn a_body_is_waited_for_no_longer_than_its_route_may_take() {
    let running = with_timeout(with_limits(LONG, LONG), BRIEF).start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    let count = running.audit().await.len();
    for body in [
        "Content-Length: 100\r\n\r\n{",
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{",
    ] {
        for operation in ["generate", "import"] {
            let mut connection = running.app().raw().await;
            let head = format!("PUT /v1/key/{operation}/my-key HTTP/1.1\r\nHost: localhost\r\n");
            connection.write(format!("{head}{body}")).await;
            connection.answer().await.fails(503, "request timed out");
            connection.closed().await;
        }
    }
    // So is one that nobody wants.
    let mut connection = running.app().raw().await;
    let head = "GET /version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    connection.write(head).await;
    connection.answer().await.fails(503, "request timed out");
    let events = running.audit().await;
    let codes: Vec<_> = events[count..]
        .iter()
        .map(|event| &event["response"]["code"])
        .collect();
    assert_eq!(codes, [503; 7]);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time_and_no_longer() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let running = TestServer::default().start().await;
        let mut connection = running.app().over(protocol).connect().await.unwrap();
        for _ in 0..3 {
            connection.send("GET", "/version", "").await.ok();
            skip(Duration::from_secs(89)).await;
        }
        connection.send("GET", "/version", "").await.ok();
        skip(Duration::from_secs(91)).await;
        let get = |path| {
            hyper::Request::get(path)
                .body(http_body_util::Full::default())
                .unwrap()
        };
        until("the connection is closed", async || {
            connection.try_send(get("/version")).await.is_err()
        })
        .await;
    }
}

async fn hanging(server: TestServer) -> (Running, FaultyStore, Gate) {
    let (store, gate) = (FaultyStore::new(), Gate::new());
    let server = TestServer {
        store: Arc::new(store.clone()),
        ..server
    };
    let running = server.start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    store.always(StoreOp::Get, Step::WaitBefore(gate.clone()));
    (running, store, gate)
}

#[tokio::test]
async fn a_connection_is_not_idle_while_a_request_runs() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (running, _, gate) = hanging(with_limits(BRIEF, BRIEF)).await;
        let mut connection = running.app().over(protocol).connect().await.unwrap();
        let request =
            tokio::spawn(async move { connection.send("PUT", "/v1/key/generate/my-key", "").await });
        soon("the request reaches the store", gate.reached()).await;
        for _ in 0..20 {
            skip(BRIEF / 4).await;
            tokio::task::yield_now().await;
        }
        assert!(!request.is_finished());
        gate.open();
        soon("the answer", request).await.unwrap().ok();
    }
}

#[tokio::test]
async fn a_connection_is_not_idle_while_a_stream_is_open() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let running = with_limits(BRIEF, BRIEF).start().await;
        let mut connection = running.admin().over(protocol).connect().await.unwrap();
        let mut stream = connection.follow("/v1/log/audit").await;
        for round in 0..5 {
            skip(BRIEF * 100).await;
            running.app().get(&format!("/v1/status?{round}")).await.ok();
            let event = soon("the event", stream.frame()).await.unwrap().unwrap();
            assert!(event.is_data());
        }
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_is_let_go() {
    let running = with_limits(LONG, LONG).start().await;
    // Before and after the handshake, between and within requests; with and without TLS's goodbye.
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    stream.shutdown().await.unwrap();
    read_to_end(&mut stream).await;
    for sent in [
        "",
        "GET /ver",
        "GET /version HTTP/1.1\r\n",
        "PUT /v1/key/generate/a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut connection = running.app().raw().await;
        connection.write(sent).await;
        connection.finish().await;
        connection.closed().await;
        let mut connection = running.app().raw().await;
        connection.write(sent).await;
        drop(connection);
    }
    let mut asking = running.admin().connect().await.unwrap();
    until("all but one connection have ended", async || {
        let metrics = asking.send("GET", "/v1/metrics", "").await.ok().text();
        metrics.contains("kes_connections 1\n")
    })
    .await;
}

#[tokio::test]
async fn past_the_limit_of_connections_others_wait() {
    let mut server = with_limits(LONG, LONG);
    server.settings.limits.connections = 2;
    let running = server.start().await;
    let mut first = running.admin().connect().await.unwrap();
    let mut second = running.app().connect().await.unwrap();
    second.send("GET", "/version", "").await.ok();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = running.app();
            tokio::spawn(async move { client.get("/version").await })
        })
        .collect();
    until("the limit is counted", async || {
        let metrics = first.send("GET", "/v1/metrics", "").await.ok().text();
        !metrics.contains("kes_connections_limit_reached_total 0\n")
    })
    .await;
    // Those that are there go on as before.
    for _ in 0..20 {
        second.send("GET", "/version", "").await.ok();
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    drop(second);
    for waiting in waiting {
        soon("the answer", waiting).await.unwrap().ok();
    }
}

#[tokio::test]
async fn a_reader_that_stalls_is_closed_like_one_that_is_idle() {
    let store = FaultyStore::new();
    for number in 0..20_000 {
        store.put(&format!("{number:08}{}", "x".repeat(72)), b"");
    }
    let mut server = with_limits(LONG, BRIEF);
    server.store = Arc::new(store);
    let running = server.start().await;
    let mut connection = running.app().raw().await;
    let ask = "GET /v1/key/list/* HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n";
    // More answers than the buffers between us can hold.
    connection.write(ask.repeat(40)).await;
    until("the stalled connection has ended", async || {
        let metrics = running.admin().get("/v1/metrics").await.ok().text();
        metrics.contains("kes_connections 1\n")
    })
    .await;
    drop(connection);
}
