//! A server that answers what it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kes_testkit::Credentials;
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

/// A server that runs until it is dropped.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    abandoned: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// What becomes of a request.
pub(crate) enum Reply {
    Http(Response<Full<Bytes>>),
    /// The connection ends without an answer.
    Break,
    /// There is no answer, for as long as the client waits.
    Never,
}

impl From<Response<Full<Bytes>>> for Reply {
    fn from(response: Response<Full<Bytes>>) -> Self {
        Self::Http(response)
    }
}

/// Counts when it is dropped.
struct Abandoned(Arc<AtomicUsize>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Canned {
    /// Answers each request as `answer` says of its path.
    pub(crate) async fn start<R: Into<Reply>>(answer: impl Fn(&str) -> R + Send + Sync + 'static) -> Self {
        let credentials = Credentials::self_signed("canned");
        Self::start_as(&credentials, &credentials, answer).await
    }

    /// The same with a certificate that need not belong to the private key.
    pub(crate) async fn start_as<R: Into<Reply>>(
        certificate: &Credentials,
        key: &Credentials,
        answer: impl Fn(&str) -> R + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let abandoned = Arc::new(AtomicUsize::new(0));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        let left = Arc::clone(&abandoned);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer, seen) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&seen));
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request: Request<Incoming>| {
                        let path = request.uri().path().to_owned();
                        let reply = answer(&path).into();
                        seen.lock().unwrap().push(format!("{} {path}", request.method()));
                        let left = Arc::clone(&left);
                        async move {
                            match reply {
                                Reply::Http(response) => Ok(response),
                                Reply::Break => Err(std::io::Error::other("broken")),
                                Reply::Never => {
                                    let _abandoned = Abandoned(left);
                                    std::future::pending().await
                                }
                            }
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            requests,
            abandoned,
            task: task.abort_handle(),
        }
    }

    /// The requests so far: method and path.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests clients have stopped waiting for.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// TLS settings of a server with this certificate and key.
fn config(certificate: &Credentials, key: &Credentials) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key.key()).unwrap();
    let key = CertifiedKey::new(certificate.chain(), key);
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

/// A server for one connection, which says `bytes` over `protocol` once it has been asked something, and then ends the
/// connection, properly or not.
pub(crate) async fn blurt(protocol: &str, bytes: Vec<u8>, end: End) -> SocketAddr {
    blurt_until_closed(protocol, bytes, end).await.0
}

/// The same, with a task that ends when the client has closed the connection.
pub(crate) async fn blurt_until_closed(
    protocol: &str,
    bytes: Vec<u8>,
    end: End,
) -> (SocketAddr, JoinHandle<()>) {
    let credentials = Credentials::self_signed("blurt");
    let mut config = config(&credentials, &credentials);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut request = Vec::new();
        // Requests are longer than what comes before them.
        while request.len() < 100 {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        match end {
            End::Goodbye => stream.shutdown().await.unwrap(),
            End::Break => return,
            End::Never => {}
        }
        // Closing with bytes unread could overtake the answer.
        while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
    });
    (address, task)
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// As TLS wants it.
    Goodbye,
    /// Without a word.
    Break,
    /// Not before the client ends it.
    Never,
}

pub(crate) fn json(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    typed(status, "application/json", body)
}

pub(crate) fn typed(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap()
}
