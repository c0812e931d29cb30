//! A client for tests: it speaks to one server, and checks what every answer must have.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Credentials;

/// The HTTP version that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
}

/// A client with or without a certificate. Makes a connection a request, or keeps one ([`TestClient::connect`]).
#[derive(Clone, Debug)]
pub struct TestClient {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    protocol: Protocol,
}

/// An answer with all its bytes.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of an error.
    #[must_use]
    pub fn message(&self) -> String {
        self.json()
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Checks that this is a success.
    ///
    /// # Panics
    /// When it is not.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }

    /// Checks that this is an error with this status and message.
    ///
    /// # Panics
    /// When it is not.
    pub fn fails(&self, status: u16, message: &str) {
        assert_eq!((self.status, self.message().as_str()), (status, message));
    }

    /// What holds for every answer: known headers only, and errors as JSON objects with a message and nothing else.
    fn check(self) -> Self {
        const KNOWN: [&str; 7] = [
            "content-type",
            "content-length",
            "date",
            "allow",
            "accept",
            "retry-after",
            "transfer-encoding",
        ];
        for name in self.headers.keys() {
            assert!(
                KNOWN.contains(&name.as_str()) || name == "connection",
                "unexpected header {name}"
            );
        }
        if self.status == 200 {
            let silent = self.body.is_empty() && !self.headers.contains_key("transfer-encoding");
            assert_eq!(
                silent,
                self.headers.get(CONTENT_LENGTH) == Some(&HeaderValue::from_static("0"))
            );
        } else if self.status != 431 {
            assert_eq!(
                self.headers.get(CONTENT_TYPE),
                Some(&HeaderValue::from_static("application/json"))
            );
            assert!(self.headers.contains_key(CONTENT_LENGTH));
            let error = self.json();
            let fields: Vec<_> = error
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(fields, ["message"]);
            assert!(!self.message().is_empty());
        }
        self
    }
}

impl TestClient {
    /// A client of the server at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, credentials: Option<&Credentials>) -> Self {
        Self::with_versions(address, credentials, rustls::ALL_VERSIONS)
    }

    /// The same, with these TLS versions only.
    #[must_use]
    pub fn with_versions(
        address: SocketAddr,
        credentials: Option<&Credentials>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the versions are known")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
        let config = match credentials {
            None => builder.with_no_client_auth(),
            Some(credentials) => {
                let key =
                    aws_lc_rs::sign::any_supported_type(&credentials.key()).expect("the key is good for TLS");
                // Without rustls's own check, which refuses version 1 certificates.
                let certified = CertifiedKey::new(credentials.chain(), key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        Self {
            address,
            config: Arc::new(config),
            protocol: Protocol::Http1,
        }
    }

    /// TLS settings of a client that trusts every server and has no certificate.
    #[must_use]
    pub fn trusting_config() -> ClientConfig {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        (*Self::new(nowhere, None).config).clone()
    }

    /// The same client over another protocol.
    #[must_use]
    pub fn over(mut self, protocol: Protocol) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        self.config = Arc::new(config);
        self.protocol = protocol;
        self
    }

    /// Opens a connection, with its TLS handshake.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the handshake.
    pub async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        connect_tls(self.address, Arc::clone(&self.config)).await
    }

    /// Opens a connection for several requests.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the handshake.
    pub async fn connect(&self) -> std::io::Result<TestConnection> {
        let io = TokioIo::new(self.tls().await?);
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                    .await
                    .map_err(std::io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(TestConnection {
            sender,
            protocol: self.protocol,
        })
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the handshake, or closes the connection before it answers.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> std::io::Result<Answer> {
        self.connect().await?.try_send(request(method, path, body)).await
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.try_send(method, path, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends one request with these headers on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = request(method, path, body.to_owned());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let mut connection = self.connect().await.expect("the server answers");
        connection
            .try_send(request)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// `PUT`
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send("PUT", path, body).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }
}

/// A connection that is kept.
#[derive(Debug)]
pub struct TestConnection {
    sender: Sender,
    protocol: Protocol,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl TestConnection {
    /// Sends one request and answers as soon as the headers are there.
    ///
    /// # Errors
    /// When the connection is closed instead.
    pub async fn stream(&mut self, mut request: Request<Full<Bytes>>) -> std::io::Result<Response<Incoming>> {
        if self.protocol == Protocol::Http2 {
            let path = request.uri().clone();
            let absolute = format!("https://localhost{path}").parse();
            *request.uri_mut() = absolute.map_err(std::io::Error::other)?;
        } else {
            request
                .headers_mut()
                .insert("host", HeaderValue::from_static("localhost"));
        }
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(std::io::Error::other)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(std::io::Error::other)?;
                sender.send_request(request).await
            }
        }
        .map_err(std::io::Error::other)
    }

    /// Sends one request and reads all of the answer.
    ///
    /// # Errors
    /// When the connection is closed instead.
    pub async fn try_send(&mut self, request: Request<Full<Bytes>>) -> std::io::Result<Answer> {
        let (parts, body) = self.stream(request).await?.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
        .check())
    }

    /// Sends one request.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.try_send(request(method, path, body))
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Opens a stream of lines.
    ///
    /// # Panics
    /// When the server does not answer 200.
    pub async fn follow(&mut self, path: &str) -> Incoming {
        let response = self
            .stream(request("GET", path, ""))
            .await
            .expect("the server answers");
        assert_eq!(response.status(), 200);
        response.into_body()
    }
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
    *request.uri_mut() = path.parse().expect("a path");
    request
}

/// Opens a TLS connection.
///
/// # Errors
/// When the server cannot be reached or refuses the handshake.
pub async fn connect_tls(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Trusts every server: these tests are about clients.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
