//! The server that every measurement is compared with: the TLS, the client verifier and the HTTP stack of the real one,
//! but a request's body is only read, and the answer is always the same 180 bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kes_server::protocol;
use kes_server::tls::{self, AnyCertificate};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// As long as an answer to `generate` with a 60-byte context.
const ANSWER: &[u8; 180] = &[b'0'; 180];

/// Answers every request with the same 180 bytes.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen.
    #[arg(long)]
    addr: SocketAddr,
    /// Certificate, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// Private key, PEM.
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&options.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = provider
        .key_provider
        .load_private_key(PrivateKeyDer::from_pem_file(&options.key)?)?;
    let verifier = Arc::new(AnyCertificate::new(&provider, true));
    let config = tls::server_config(provider, verifier, CertifiedKey::new(chain, key))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind(options.addr).await.context("listening")?;
    // Not in the main thread: handing each connection to a worker costs a handshake a quarter more.
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.context("accepting")?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move { serve(tcp, acceptor).await });
        }
    })
    .await?
}

/// Serves one connection to its end. How it ended is for the load generator to tell, which sees every failed request.
async fn serve(tcp: TcpStream, acceptor: TlsAcceptor) {
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let Ok(tls) = acceptor.accept(tcp).await else {
        return;
    };
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(tls);
    let _ended = if is_http2 {
        protocol::http2().serve_connection(io, service_fn(answer)).await
    } else {
        protocol::http1().serve_connection(io, service_fn(answer)).await
    };
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _body = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("180"));
    Ok(response)
}
