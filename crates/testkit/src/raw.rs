//! A connection that sends what no decent client would, byte by byte.

use std::future::Future;
use std::io;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::client::TlsStream;

use crate::{Answer, TestClient};

/// How long a test waits for what must come at once, before it fails. Nobody waits so long for a success.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, but not for ever.
///
/// # Panics
/// When it takes too long.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// Waits until `done` says so, but not for ever. It leaves the processor to whom it waits for, which may be another process.
///
/// # Panics
/// When it takes too long.
pub async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    soon(what, looking(done)).await;
}

/// Looks again and again, at once at first.
pub(crate) async fn looking(mut done: impl AsyncFnMut() -> bool) {
    let mut looks = interval(Duration::from_millis(1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !done().await {
        looks.tick().await;
    }
}

/// A TLS connection and what has come in on it.
#[derive(Debug)]
pub struct RawConnection {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl TestClient {
    /// Opens a connection for bytes.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn raw(&self) -> RawConnection {
        let stream = soon("the handshake", self.tls()).await;
        RawConnection::new(stream.expect("the server accepts"))
    }
}

impl RawConnection {
    /// Speaks over this connection.
    #[must_use]
    pub const fn new(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        soon("sending", sent).await
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the server has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.expect("the connection is open");
    }

    /// Says that nothing more will come.
    pub async fn finish(&mut self) {
        // The server may have gone first.
        _ = self.stream.shutdown().await;
    }

    /// The next bytes, or none at the end of the connection.
    pub async fn read(&mut self) -> Vec<u8> {
        if self.received.is_empty() {
            self.receive().await;
        }
        std::mem::take(&mut self.received)
    }

    /// Exactly so many bytes; fewer at the end of the connection.
    pub async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length && self.receive().await {}
        let length = length.min(self.received.len());
        self.received.drain(..length).collect()
    }

    /// One HTTP/1.1 answer with a `Content-Length`.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break self.received.drain(..end + 4).collect::<Vec<_>>();
            }
            let so_far = String::from_utf8_lossy(&self.received).into_owned();
            assert!(self.receive().await, "closed after '{so_far}'");
        };
        let head = String::from_utf8(head).expect("headers are text");
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().and_then(|line| line.get(9..12)).unwrap_or_default();
        let status = status.parse().unwrap_or_else(|_| panic!("no status in {head}"));
        let headers: HeaderMap = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a header");
                let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
                (name, HeaderValue::from_str(value).expect("a header value"))
            })
            .collect();
        let length = headers
            .get("content-length")
            .and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = self.read_exact(length).await;
        assert_eq!(body.len(), length, "the answer is cut: {head}");
        Answer {
            status,
            headers,
            body: body.into(),
        }
    }

    /// Waits until the server has closed the connection; what it sent before that.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.receive().await {}
        std::mem::take(&mut self.received)
    }

    async fn receive(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.received);
        // A reset is an end, too.
        soon("the server's next bytes", read)
            .await
            .is_ok_and(|read| read > 0)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
