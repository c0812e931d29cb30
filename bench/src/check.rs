//! A client that looks at answers: the load generators only count them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::scenario::{Operation, context};

/// How many answers are looked at before and after each measurement.
const SAMPLE: usize = 20;

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(config))
            .connect(ServerName::from(addr.ip()), tcp)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // Ends with the sender; how it ended shows in the requests.
        tokio::spawn(async move { _ = connection.await });
        Ok(Self { sender })
    }

    pub(crate) async fn send(&mut self, method: Method, path: &str, body: String) -> anyhow::Result<Bytes> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1")
            .body(Full::from(body))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(
            status == StatusCode::OK,
            "{path} answers {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(answer)
    }

    /// What the load generator sends for `operation`.
    pub(crate) async fn body(&mut self, operation: Operation) -> anyhow::Result<String> {
        Ok(match operation {
            Operation::Version => String::new(),
            Operation::Generate => json!({ "context": context() }).to_string(),
            Operation::Decrypt => decryption(&serde_json::from_slice(&self.generate().await?)?)?,
        })
    }

    /// Looks at a sample of answers to what the load generator sends; gives their size.
    pub(crate) async fn verify(&mut self, operation: Operation) -> anyhow::Result<usize> {
        let mut size = 0;
        for _ in 0..SAMPLE {
            let answer = match operation {
                Operation::Version => self.send(Method::GET, &operation.path(), String::new()).await?,
                Operation::Generate => {
                    let generated = self.generate().await?;
                    self.open(&generated).await?;
                    generated
                }
                Operation::Decrypt => {
                    let generated = self.generate().await?;
                    self.open(&generated).await?
                }
            };
            if operation == Operation::Version {
                text(&serde_json::from_slice(&answer)?, "version")?;
            }
            size = answer.len();
        }
        Ok(size)
    }

    async fn generate(&mut self) -> anyhow::Result<Bytes> {
        let body = json!({ "context": context() }).to_string();
        self.send(Method::POST, &Operation::Generate.path(), body).await
    }

    /// Decrypts what `generate` answered and compares.
    async fn open(&mut self, generated: &[u8]) -> anyhow::Result<Bytes> {
        let generated: Value = serde_json::from_slice(generated)?;
        let plaintext = text(&generated, "plaintext")?;
        ensure!(
            STANDARD.decode(plaintext)?.len() == 32,
            "a data key of an odd size"
        );
        let answer = self
            .send(Method::POST, &Operation::Decrypt.path(), decryption(&generated)?)
            .await?;
        let opened: Value = serde_json::from_slice(&answer)?;
        ensure!(
            text(&opened, "plaintext")? == plaintext,
            "decrypt answers another plaintext than generate"
        );
        Ok(answer)
    }
}

fn decryption(generated: &Value) -> anyhow::Result<String> {
    Ok(json!({ "ciphertext": text(generated, "ciphertext")?, "context": context() }).to_string())
}

fn text<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    value
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("the answer has no {field}"))
}
