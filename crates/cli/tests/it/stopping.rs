//! How a server ends while it is busy.

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use kes_testkit::{Credentials, TestClient, until};

use crate::daemon::Daemon;
use crate::kes::succeed;

const BODY: &[u8] = br#"{"message":"YQ=="}"#;

/// A server that runs a request whose body has not come yet.
async fn busy(dir: &std::path::Path) -> (Daemon, TlsStream<TcpStream>) {
    succeed(dir, &["identity", "new", "--ip", "127.0.0.1"]);
    let admin = Credentials::self_signed("admin");
    let root = admin.identity().to_string();
    let line = [
        "--addr=127.0.0.1:0",
        "--cert=public.crt",
        "--key=private.key",
        "--root",
        &root,
    ];
    let server = Daemon::start(dir, &line);

    let client = TestClient::new(server.address().parse().unwrap(), Some(&admin));
    client.put("/v1/key/create/my-key", "").await.ok();
    let mut stream = client.tls().await.unwrap();
    let head = format!(
        "PUT /v1/key/hmac/my-key HTTP/1.1\r\nHost: kes\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // It asks for the body, so it has begun.
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 "));

    server.signal(Signal::TERM);
    until("it has heard it", async || {
        TcpStream::connect(server.address()).await.is_err()
    })
    .await;
    (server, stream)
}

#[tokio::test]
async fn a_request_that_runs_is_answered_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut stream) = busy(dir.path()).await;
    stream.write_all(BODY).await.unwrap();
    let mut answer = Vec::new();
    // The server closes the connection after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let (status, printed) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(printed.last().map(String::as_str), Some("=> Server has stopped"));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut stream) = busy(dir.path()).await;
    server.signal(Signal::TERM);
    let (status, printed) = server.wait();
    assert_eq!((status.code(), printed), (Some(1), vec![]));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}
