//! How a server ends.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use kes_keystore::StoreOp;
use kes_testkit::{Answer, FaultyStore, Gate, Protocol, Running, Step, TestServer, soon, until};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// So long that a test fails before it is over.
const LONG: Duration = Duration::from_secs(3600);
/// Long enough for a busy machine to do in it what has to succeed.
const BRIEF: Duration = Duration::from_secs(2);

/// A server that waits for slow and idle clients longer than any test does.
fn patient(store: &FaultyStore) -> TestServer {
    let mut server = TestServer::over(Arc::new(store.clone())).with_own_error_log();
    server.settings.limits.header_timeout = LONG;
    server.settings.limits.idle_timeout = LONG;
    server
}

async fn over(store: &FaultyStore) -> Running {
    let running = patient(store).start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    running
}

/// A request that waits in the store, and the gate that lets it go.
async fn request_in_the_store(
    running: &Running,
    store: &FaultyStore,
    op: StoreOp,
    protocol: Protocol,
    path: &'static str,
) -> (JoinHandle<std::io::Result<Answer>>, Gate) {
    let gate = Gate::new();
    store.next(op, Step::WaitBefore(gate.clone()));
    let client = running.app().over(protocol);
    let request = tokio::spawn(async move { client.try_send("PUT", path, "").await });
    soon("the request reaches the store", gate.reached()).await;
    (request, gate)
}

/// Waits until nobody can connect any longer.
async fn refused(address: std::net::SocketAddr) {
    until("the server no longer listens", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_running_request_is_finished_and_nothing_new_begins() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let store = FaultyStore::new();
        let mut running = over(&store).await;
        let address = running.address();
        let path = "/v1/key/generate/my-key";
        let (request, gate) = request_in_the_store(&running, &store, StoreOp::Get, protocol, path).await;

        let ending = tokio::spawn(async move { running.shutdown(LONG).await });
        refused(address).await;
        assert!(!ending.is_finished() && !request.is_finished());
        assert_eq!(store.closed(), 0);
        gate.open();
        soon("the answer", request).await.unwrap().unwrap().ok();
        soon("the end", ending).await.unwrap();
        assert_eq!(store.closed(), 1);
    }
}

#[tokio::test]
async fn idle_connections_are_closed_at_once() {
    let store = FaultyStore::new();
    let mut running = over(&store).await;
    let mut idle = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = running.app().over(protocol).connect().await.unwrap();
        connection.send("GET", "/version", "").await.ok();
        idle.push(connection);
    }
    // Neither those that have not asked for anything yet hold up the end, nor those that are shaking hands still.
    let mut silent = [
        running.app().over(Protocol::Http1).raw().await,
        running.app().over(Protocol::Http2).raw().await,
    ];
    let halfway = TcpStream::connect(running.address()).await.unwrap();
    soon("the end", running.shutdown(LONG)).await;
    for silent in &mut silent {
        silent.closed().await;
    }
    drop(halfway);
    assert_eq!(store.closed(), 1);
}

#[tokio::test]
async fn log_streams_end() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let store = FaultyStore::new();
        let mut running = over(&store).await;
        let mut connection = running.admin().over(protocol).connect().await.unwrap();
        let mut audit = connection.follow("/v1/log/audit").await;
        let mut other = running.admin().over(protocol).connect().await.unwrap();
        let mut errors = other.follow("/v1/log/error").await;
        soon("the end", running.shutdown(LONG)).await;
        for stream in [&mut audit, &mut errors] {
            // They end as streams do, not as connections that break.
            while let Some(frame) = soon("the end of the stream", stream.frame()).await {
                frame.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_exceeds_the_grace_is_cut_off() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let store = FaultyStore::new();
        let mut running = over(&store).await;
        let path = "/v1/key/generate/my-key";
        let (request, _gate) = request_in_the_store(&running, &store, StoreOp::Get, protocol, path).await;
        let mut dribbling = running.app().raw().await;
        dribbling.write("GET /version HTTP/1.1\r\nHost: ").await;
        soon("the end", running.shutdown(BRIEF)).await;
        assert!(soon("the request's end", request).await.unwrap().is_err());
        dribbling.closed().await;
        assert_eq!(store.closed(), 1);
    }
}

#[tokio::test]
async fn half_a_header_does_not_use_up_the_grace() {
    let store = FaultyStore::new();
    let mut server = patient(&store);
    server.settings.limits.header_timeout = BRIEF;
    let mut running = server.start().await;
    let mut dribbling = running.app().raw().await;
    dribbling
        .write("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ver")
        .await;
    dribbling.answer().await;
    soon("the end", running.shutdown(LONG)).await;
    dribbling.closed().await;
}

#[tokio::test]
async fn the_store_is_closed_after_the_last_write_although_its_client_has_gone() {
    let store = FaultyStore::new();
    let mut running = over(&store).await;
    let path = "/v1/key/create/last";
    let (request, gate) =
        request_in_the_store(&running, &store, StoreOp::Create, Protocol::Http1, path).await;
    request.abort();
    let address = running.address();
    let ending = tokio::spawn(async move {
        running.shutdown(LONG).await;
        running
    });
    refused(address).await;
    assert_eq!((store.closed(), ending.is_finished()), (0, false));
    gate.open();
    let running = soon("the end", ending).await.unwrap();
    assert!(store.value("last").is_some());
    assert_eq!(store.closed(), 1);
    let events = running.audit().await;
    assert_eq!(events.last().unwrap()["request"]["path"], path);
    assert_eq!(events.last().unwrap()["response"]["code"], 200);
}
