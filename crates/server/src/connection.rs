//! One connection: the handshake, then HTTP/1.1 or HTTP/2, until it is done, slow, idle, or told to end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::info;

use crate::identity::{self, Peer};
use crate::log::chain;
use crate::state::{Shared, Shutdown};
use crate::{protocol, request};

/// How long an HTTP/2 client that does nothing has to notice that the server wants to close the connection.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a connection knows about its client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Peer,
    pub(crate) remote: SocketAddr,
    pub(crate) activity: Arc<Activity>,
}

pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, remote: SocketAddr, shutdown: Shutdown) {
    let counted = Arc::clone(&shared);
    let _open = counted.metrics.connection();
    let snapshot = shared.snapshot();
    let (limits, config) = (snapshot.limits, Arc::clone(&snapshot.tls.config));
    drop(snapshot);

    let handshake = timeout(
        limits.header_timeout,
        handshake(stream, TlsAcceptor::from(config)),
    );
    let stream = tokio::select! {
        () = shutdown.drain.cancelled() => return,
        done = handshake => match done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                shared.metrics.handshake(false);
                info!(req.ip = %remote.ip(), error = chain(&error), "TLS handshake failed");
                return;
            }
        },
    };
    shared.metrics.handshake(true);

    let (_, session) = stream.get_ref();
    let peer = identity::of_certificates(session.peer_certificates().unwrap_or_default());
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched {
        stream,
        activity: Arc::clone(&activity),
    });
    let connection = Arc::new(Connection {
        shared,
        peer,
        remote,
        activity: Arc::clone(&activity),
    });
    let answer = move |request| request::handle(Arc::clone(&connection), request);

    let watched = Arc::clone(&activity);
    // Boxed and polled only when it has something to say, since a connection is polled with every request.
    let mut end = FuturesUnordered::new();
    end.push({
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                () = shutdown.cut.cancelled() => End::Cut,
                () = watched.given_up.notified() => End::Cut,
                () = shutdown.drain.cancelled() => End::Drain,
                () = watched.overdue(limits.header_timeout, limits.idle_timeout, !is_http2) => End::Overdue,
            }
        }
    });

    // An error ends the connection; what led to it, such as a client that went away, is not the server's fault.
    if is_http2 {
        // Boxed once, instead of copied from hand to hand until its task has it.
        let service = service_fn(move |request| Box::pin(answer(request)));
        let mut served = Box::pin(protocol::http2().serve_connection(io, service));
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            end = end.next() => if end == Some(End::Cut) { return },
        }
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = served => {}
            () = shutdown.cut.cancelled() => {}
            () = activity.given_up.notified() => {}
            () = activity.idle_for(limits.header_timeout.min(GOODBYE)) => {}
        }
    } else {
        let mut served = Box::pin(protocol::http1().serve_connection(io, service_fn(answer)));
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            end = end.next() => if end != Some(End::Drain) { return },
        }
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = served => {}
            () = shutdown.cut.cancelled() => {}
            () = activity.given_up.notified() => {}
        }
    }
}

/// Why a connection ends that would go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server is told to close, or the client does not take an answer.
    Cut,
    /// The server takes no further requests.
    Drain,
    /// The client is slow or has nothing to ask.
    Overdue,
}

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // No TLS record begins with a letter, and every HTTP request does.
    if first.iter().all(u8::is_ascii_alphabetic) {
        Box::pin(refuse_plaintext(stream)).await?;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the client speaks HTTP without TLS",
        ));
    }
    acceptor.accept(stream).await
}

async fn refuse_plaintext(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
        Client sent an HTTP request to an HTTPS server.\n";
    // Unread bytes would turn the close into a reset, which may overtake the answer.
    let mut request = [0; 4096];
    _ = stream.read(&mut request).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// What a connection is doing, for closing it when that takes too long.
///
/// One timer a connection that wakes every few seconds, instead of one that every request sets and stops.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    requests: AtomicUsize,
    /// Microseconds after `opened`; 0 while no header is being read.
    reading_since: AtomicU64,
    /// Microseconds after `opened`; 0 before the first request has been answered.
    idle_since: AtomicU64,
    /// Microseconds after `opened`; 0 while the client takes what it is sent.
    blocked_since: AtomicU64,
    /// Told when the connection has to be closed, whatever it is doing.
    pub(crate) given_up: Notify,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InProgress(Arc<Activity>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicUsize::new(0),
            reading_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            given_up: Notify::new(),
        }
    }

    /// Marks a request as being answered, until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InProgress {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.reading_since.store(0, Ordering::Relaxed);
        InProgress(Arc::clone(self))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn bytes_came_in(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.reading_since.load(Ordering::Relaxed) == 0 {
            self.reading_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn tried_to_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        let blocked = self.blocked_since.load(Ordering::Relaxed) > 0;
        if polled.is_pending() != blocked {
            let since = if blocked { 0 } else { self.now() };
            self.blocked_since.store(since, Ordering::Relaxed);
        }
        polled
    }

    /// When the connection will have waited too long, as things stand; `None` while it answers a request that the client
    /// reads.
    fn deadline(&self, header: Duration, idle: Duration, by_bytes: bool) -> Option<Instant> {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 {
            return Some(self.opened + Duration::from_micros(blocked) + idle);
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let reading = if by_bytes {
            self.reading_since.load(Ordering::Relaxed)
        } else {
            0
        };
        let idling = self.idle_since.load(Ordering::Relaxed);
        let (since, limit) = match (reading, idling) {
            (0, 0) => (0, header),
            (0, idling) => (idling, idle),
            (reading, _) => (reading, header),
        };
        Some(self.opened + Duration::from_micros(since) + limit)
    }

    /// Waits until the connection has read headers for longer than `header`, or done nothing for longer than `idle`.
    pub(crate) async fn overdue(&self, header: Duration, idle: Duration, by_bytes: bool) {
        loop {
            let now = Instant::now();
            let look_again = now + header.min(idle);
            match self.deadline(header, idle, by_bytes) {
                Some(deadline) if deadline <= now => return,
                Some(deadline) => sleep_until(deadline.min(look_again)).await,
                None => sleep_until(look_again).await,
            }
        }
    }

    /// Waits until no request has been answered for `limit`.
    async fn idle_for(&self, limit: Duration) {
        let asked = Instant::now();
        loop {
            let now = Instant::now();
            match self.deadline(limit, limit, false) {
                Some(deadline) if deadline.max(asked + limit) <= now => return,
                Some(deadline) => sleep_until(deadline.max(asked + limit)).await,
                None => sleep_until(now + limit).await,
            }
        }
    }
}

impl InProgress {
    /// What its connection is doing.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.0)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}

/// A stream that tells when bytes come in, and when they do not go out.
pub(crate) struct Watched<S> {
    pub(crate) stream: S,
    pub(crate) activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes_came_in();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.tried_to_write(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.tried_to_write(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.tried_to_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
