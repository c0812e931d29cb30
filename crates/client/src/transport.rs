//! One request: to the servers in their order, each with a deadline, and an answer of bounded size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kes_types::wire::ErrorResponse;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::connect::Connector;
use crate::{Credentials, Endpoint, Error, ServerTrust};

/// The longest error body that is read.
const MAX_ERROR: usize = 64 << 10;
/// The most characters of a plain-text error that are shown.
const MAX_ERROR_SHOWN: usize = 500;

/// What is asked of a server.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
}

/// The connections to all servers.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: HttpClient<HttpsConnector<Connector>, Full<Bytes>>,
    endpoints: Arc<[Endpoint]>,
    timeout: Duration,
}

impl Transport {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        credentials: Option<&Credentials>,
        trust: ServerTrust,
        timeout: Duration,
        proxies: Matcher,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(trust.into_verifier(&provider));
        let tls = match credentials {
            Some(credentials) => {
                let key = rustls::sign::SingleCertAndKey::from(credentials.certified_key());
                tls.with_client_cert_resolver(Arc::new(key))
            }
            None => tls.with_no_client_auth(),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(Connector::new(proxies));
        let http = HttpClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(connector);
        Self {
            http,
            endpoints: endpoints.into(),
            timeout,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The answer's content type and its body, at most `limit` bytes of it.
    pub(crate) async fn call(&self, call: &Call<'_>, limit: usize) -> Result<Answer, Error> {
        self.with_failover(async |endpoint| {
            let response = self.exchange(endpoint, call).await?;
            let is_ndjson = response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"));
            let body = read(endpoint, response.into_body(), limit).await?;
            Ok(Answer { is_ndjson, body })
        })
        .await
    }

    /// The answer whose body never ends, or is too long to wait for. The deadline is for its headers.
    pub(crate) async fn open(&self, call: &Call<'_>) -> Result<(Endpoint, Response<Incoming>), Error> {
        self.with_failover(async |endpoint| {
            let response = self.exchange(endpoint, call).await?;
            Ok((endpoint.clone(), response))
        })
        .await
    }

    async fn with_failover<T>(
        &self,
        attempt: impl AsyncFn(&Endpoint) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut last = None;
        for endpoint in &*self.endpoints {
            let outcome = tokio::time::timeout(self.timeout, attempt(endpoint)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Error::TimedOut {
                    endpoint: endpoint.clone(),
                    after: self.timeout,
                })
            });
            match outcome {
                Err(error) if error.is_worth_another_server() => last = Some(error),
                outcome => return outcome,
            }
        }
        Err(last.expect("a client has at least one endpoint"))
    }

    async fn exchange(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(endpoint.uri(call.path)?)
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("kes-client/", env!("CARGO_PKG_VERSION")),
            );
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(call.body.clone()))?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| Error::from_connection(endpoint, error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = read(endpoint, response.into_body(), MAX_ERROR)
            .await
            .unwrap_or_default();
        Err(Error::Api {
            status: status.as_u16(),
            message: error_message(status, &body),
        })
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Whether the body is one JSON document a line, and not one document.
    pub(crate) is_ndjson: bool,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

async fn read(endpoint: &Endpoint, body: Incoming, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut body = Limited::new(body, limit);
    // Collected by hand, because the bytes may be a secret and `Collected` would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.min(4 << 10)));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge { limit }
            } else {
                Error::from_connection(endpoint, error)
            }
        })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// What a server says in an error body: as JSON under one of two names, or as plain text.
fn error_message(status: StatusCode, body: &[u8]) -> String {
    if let Ok(ErrorResponse { message }) = serde_json::from_slice(body)
        && !message.is_empty()
    {
        return printable(&message);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() || text.starts_with('{') {
        return format!("the server answered {status}");
    }
    printable(text)
}

/// `text` on one line and without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_ERROR_SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_of_any_year_is_read() {
        let not_found = StatusCode::NOT_FOUND;
        for (body, want) in [
            (r#"{"message":"key does not exist"}"#, "key does not exist"),
            (r#"{"error":"key does not exist"}"#, "key does not exist"),
            ("404 page not found\n", "404 page not found"),
            ("", "the server answered 404 Not Found"),
            ("{}", "the server answered 404 Not Found"),
            ("a\u{1b}[2Jb\nc", "a [2Jb c"),
        ] {
            assert_eq!(error_message(not_found, body.as_bytes()), want);
        }
    }
}
