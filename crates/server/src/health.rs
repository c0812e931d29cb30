//! The health listener: whether the server is ready, its metrics and its version, over plain HTTP/1.1 for whoever asks.
//!
//! It is for probes and scrapers, so what they ask is neither audited nor counted among the requests of clients, and they have
//! connections of their own, of which there are few. It goes on answering while the server finishes its last requests, and says
//! then that it is not ready.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kes_keyring::service::Failure as _;
use kes_types::Verb;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::body::AnswerBody;
use crate::connection::{Activity, InProgress, Watched};
use crate::error::ApiError;
use crate::handlers::{Reply, system};
use crate::log::chain;
use crate::policy::DenialLog;
use crate::protocol;
use crate::state::{Shared, Snapshot};

/// Connections at a time: more than there are probes and scrapers.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// How long a connection may have nothing to do: longer than most scrapers wait between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// The methods that are answered.
const METHODS: &str = "GET, HEAD";
/// The first byte of a TLS handshake. No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What all connections of the health listener share.
#[derive(Debug)]
pub(crate) struct Health {
    shared: Arc<Shared>,
    /// Told when the server takes no more requests of clients.
    drain: CancellationToken,
    /// Told when nobody is answered any more.
    end: CancellationToken,
    /// Of probes that were told that something is wrong, so that the log says it once a minute.
    failures: DenialLog,
}

impl Health {
    pub(crate) fn new(shared: Arc<Shared>, drain: CancellationToken, end: CancellationToken) -> Self {
        Self {
            shared,
            drain,
            end,
            failures: DenialLog::default(),
        }
    }

    /// Serves one connection until it is done, slow, idle, or told to end.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let limits = self.shared.snapshot().limits;
        let begin = timeout(limits.header_timeout, begin(&stream));
        let first = tokio::select! {
            () = self.end.cancelled() => return,
            first = begin => first,
        };
        match first {
            Ok(Ok(Some(TLS_HANDSHAKE))) => {
                info!(req.ip = %remote.ip(), "the client speaks TLS on the health listener, which is plain HTTP");
                _ = timeout(limits.header_timeout, refuse_tls(stream)).await;
                return;
            }
            Ok(Ok(Some(_))) => {}
            // Gone, or silent.
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }

        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(Watched {
            stream,
            activity: Arc::clone(&activity),
        });
        let (health, watched) = (Arc::clone(&self), Arc::clone(&activity));
        let service = service_fn(move |request| {
            let (health, activity) = (Arc::clone(&health), Arc::clone(&watched));
            async move {
                let in_progress = activity.begin();
                Ok::<_, Infallible>(health.answer(request, remote, in_progress).await)
            }
        });
        tokio::select! {
            // An error ends the connection, and is no fault of the server's.
            _ = protocol::http1().serve_connection(io, service) => {}
            () = self.end.cancelled() => {}
            () = activity.overdue(limits.header_timeout, limits.idle_timeout.min(IDLE), true) => {}
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        remote: SocketAddr,
        in_progress: InProgress,
    ) -> Response<AnswerBody> {
        // The body, if there is one, is not read: it ends the connection.
        let (parts, _) = request.into_parts();
        let snapshot = self.shared.snapshot();
        let (verb, answer) = match find(&snapshot, &parts) {
            Ok((verb, limit)) => {
                let run = self.run(verb, &snapshot);
                let answer = match limit {
                    Some(limit) => timeout(limit, run)
                        .await
                        .unwrap_or_else(|_| Err(ApiError::timed_out())),
                    None => run.await,
                };
                (verb, answer)
            }
            Err(error) => (Verb::Version, Err(error)),
        };
        match answer {
            Ok(reply) => reply.into_response(in_progress),
            Err(error) => {
                self.log(&error, verb, &parts, remote);
                error.into_response()
            }
        }
    }

    async fn run(&self, verb: Verb, snapshot: &Snapshot) -> Result<Reply, ApiError> {
        if verb == Verb::Ready && self.drain.is_cancelled() {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "server is shutting down",
            ));
        }
        match verb {
            Verb::Version => system::version(snapshot),
            Verb::Ready => system::ready(snapshot).await,
            Verb::Metrics => Ok(system::metrics(&self.shared, snapshot)),
            _ => Err(ApiError::not_found()),
        }
    }

    fn log(&self, error: &ApiError, verb: Verb, parts: &Parts, remote: SocketAddr) {
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        let (ip, code) = (remote.ip().to_canonical(), error.status.as_u16());
        let cause = error
            .source
            .as_deref()
            .map(|source| chain(source))
            .unwrap_or_default();
        let message = &error.message;
        if !error.status.is_server_error() || self.drain.is_cancelled() {
            debug!(req.method = method, req.path = path, req.ip = %ip, code, cause, "health: {message}");
        } else if let Some(similar) = self.failures.admit(None, verb, self.shared.clock.monotonic()) {
            warn!(req.method = method, req.path = path, req.ip = %ip, code, cause, similar, "health: {message}");
        }
    }
}

/// The operation that a request asks for, and how long it may take.
fn find(snapshot: &Snapshot, parts: &Parts) -> Result<(Verb, Option<Duration>), ApiError> {
    let found = snapshot.routes.find(&Method::GET, parts.uri.path());
    let found = found.map_err(|_| ApiError::not_found())?;
    if !matches!(found.verb, Verb::Version | Verb::Ready | Verb::Metrics) {
        return Err(ApiError::not_found());
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(ApiError::method_not_allowed(METHODS));
    }
    Ok((found.verb, found.timeout))
}

/// The first byte that comes, which stays there to be read.
async fn begin(stream: &TcpStream) -> io::Result<Option<u8>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    Ok(first.first().copied().filter(|_| read > 0))
}

async fn refuse_tls(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
        Client sent a TLS handshake to the health listener, which is plain HTTP: use http:// instead of https://.\n";
    // Unread bytes would turn the close into a reset, which may overtake the answer.
    let mut hello = [0; 4096];
    _ = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}
