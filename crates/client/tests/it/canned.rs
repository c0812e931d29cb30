//! A server that answers what it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
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
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A server that runs until it is dropped.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    paths: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Canned {
    /// Answers each request as `answer` says.
    pub(crate) async fn start(
        answer: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let credentials = Credentials::self_signed("canned");
        Self::start_as(&credentials, &credentials, answer).await
    }

    /// The same with a certificate that need not belong to the private key.
    pub(crate) async fn start_as(
        certificate: &Credentials,
        key: &Credentials,
        answer: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&paths));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer, seen) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request: Request<Incoming>| {
                        let path = request.uri().path().to_owned();
                        let response = answer(&path);
                        seen.lock().unwrap().push(path);
                        async { Ok::<_, Infallible>(response) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            paths,
            task: task.abort_handle(),
        }
    }

    /// The paths of the requests so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
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
    let credentials = Credentials::self_signed("blurt");
    let mut config = config(&credentials, &credentials);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
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
    address
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
