//! One call: to the servers in their order, again where that does no harm, each attempt within its time and all within theirs.

mod answer;
mod health;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kes_types::Verb;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::answer::{Kind, Open, Receive, Whole, append};
use self::answer::{error_message, read, retry_after};
use self::health::Health;
use crate::connect::Connector;
use crate::{Credentials, Endpoint, Error, ServerTrust};

/// The longest answer to anything but a listing.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// Who says that it will be free later than this is not waited for.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The longest error body that is read.
const MAX_ERROR: usize = 64 << 10;
/// What a busy server says that has not begun with the request.
const OVERLOADED: &str = "server is overloaded";
/// What a server says of a key that it does not have.
const NO_SUCH_KEY: &str = "key does not exist";

/// What stays as it is in a path segment: what URLs call unreserved, and the `*` of patterns.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'*');

/// The path of `verb` about `resource`.
pub(crate) fn path_of(verb: Verb, resource: &str) -> String {
    format!("{}{}", verb.path(), utf8_percent_encode(resource, SEGMENT))
}

/// What is asked of a server.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
    pub(crate) repeat: Repeat<'a>,
}

/// What may follow an attempt that a server may have carried out, although its answer did not arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Repeat<'a> {
    /// Another attempt: it reads, or makes something that nobody remembers.
    Freely,
    /// Another attempt, once a server has said that there is no key of this name.
    IfAbsent(&'a str),
    /// Nothing.
    Never,
}

/// How long a call may take, and how often it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For one answer of one server.
    pub(crate) timeout: Duration,
    /// For all attempts together.
    pub(crate) deadline: Duration,
    /// How many times all servers are asked again.
    pub(crate) retries: u32,
    /// How long to wait before the first of these times; four times as long before each further one.
    pub(crate) wait: Duration,
}

/// The connections to all servers.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: HttpClient<HttpsConnector<Connector>, Full<Bytes>>,
    endpoints: Arc<[Endpoint]>,
    health: Arc<Health>,
    pub(crate) limits: Limits,
}

impl Transport {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        credentials: Option<&Credentials>,
        trust: ServerTrust,
        limits: Limits,
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
            health: Arc::new(Health::new(endpoints.len())),
            endpoints: endpoints.into(),
            limits,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Makes attempts until one is answered with something else than that another may do better.
    pub(crate) async fn call<R: Receive>(&self, call: &Call<'_>, receive: &R) -> Result<R::Output, Error> {
        let budget = Budget::new(self.limits.deadline);
        let mut candidates = self.health.order();
        let mut wait = self.limits.wait;
        // What was tried last, and what may have been carried out.
        let (mut last, mut doubt) = (None, None);
        'rounds: for round in 0..=self.limits.retries {
            let (mut again, mut pause) = (Vec::new(), None);
            for server in candidates {
                let Some(endpoint) = self.endpoints.get(server) else {
                    continue;
                };
                if budget.is_spent() {
                    break 'rounds;
                }
                if doubt.is_some()
                    && let Repeat::IfAbsent(name) = call.repeat
                {
                    match self.look_for(name, endpoint, &budget).await {
                        Found::Nothing => {}
                        Found::Something => return Err(unknown(doubt.or(last))),
                        Found::Unclear => continue,
                    }
                }
                let failed = match self.attempt_in_time(endpoint, call, receive, &budget).await {
                    Ok(answer) => {
                        self.health.reached(server);
                        return Ok(answer);
                    }
                    Err(failed) => failed,
                };
                self.health.note(server, &failed);
                let Failed { error, arrived } = failed;
                if is_worth_another_time(&error) {
                    again.push(server);
                    let free_in = free_in(&error);
                    pause = Some(pause.map_or(free_in, |pause: Duration| pause.min(free_in)));
                }
                match (arrived, call.repeat) {
                    (Arrived::Answered, _) if doubt.is_some() => return Err(unknown(doubt)),
                    (Arrived::Answered, _) => return Err(error),
                    (Arrived::No, _) | (Arrived::Perhaps, Repeat::Freely) => last = Some(error),
                    (Arrived::Perhaps, Repeat::Never) => return Err(in_doubt(error)),
                    (Arrived::Perhaps, Repeat::IfAbsent(_)) => doubt = Some(error),
                }
            }
            candidates = again;
            let pause = pause.unwrap_or_default();
            if candidates.is_empty() || round == self.limits.retries || pause > MAX_PAUSE {
                break;
            }
            let pause = pause.max(jittered(wait));
            if pause >= budget.remaining() {
                break;
            }
            sleep(pause).await;
            wait = wait.saturating_mul(4).min(MAX_PAUSE);
        }
        Err(match doubt {
            Some(doubt) => in_doubt(doubt),
            None if budget.is_spent() => Error::DeadlineExceeded {
                after: self.limits.deadline,
                last: last.map(Box::new),
            },
            None => last.unwrap_or_else(|| Error::InvalidRequest {
                reason: "there is no server to ask".to_owned(),
            }),
        })
    }

    async fn attempt_in_time<R: Receive>(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        receive: &R,
        budget: &Budget,
    ) -> Result<R::Output, Failed> {
        let limit = self.limits.timeout.min(budget.remaining());
        match timeout(limit, self.attempt(endpoint, call, receive)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed {
                error: Error::TimedOut {
                    endpoint: endpoint.clone(),
                    after: limit,
                },
                arrived: Arrived::Perhaps,
            }),
        }
    }

    async fn attempt<R: Receive>(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        receive: &R,
    ) -> Result<R::Output, Failed> {
        let request = request(endpoint, call).map_err(|error| Failed {
            error: Error::InvalidRequest {
                reason: error.to_string(),
            },
            arrived: Arrived::Answered,
        })?;
        let response = self.http.request(request).await.map_err(|error| {
            let is_before = error.is_connect() || Error::is_refused_certificate(&error);
            Failed {
                arrived: if is_before { Arrived::No } else { Arrived::Perhaps },
                error: Error::from_connection(endpoint, error),
            }
        })?;
        if !response.status().is_success() {
            return Err(refusal(endpoint, response).await);
        }
        receive.receive(endpoint, response).await.map_err(|error| Failed {
            arrived: match error {
                Error::Transport { .. } | Error::Refused { .. } | Error::Incomplete { .. } => {
                    Arrived::Perhaps
                }
                _ => Arrived::Answered,
            },
            error,
        })
    }

    /// Whether there is a key of this name.
    async fn look_for(&self, name: &str, endpoint: &Endpoint, budget: &Budget) -> Found {
        let call = Call {
            method: Method::GET,
            path: &path_of(Verb::DescribeKey, name),
            body: Bytes::new(),
            repeat: Repeat::Freely,
        };
        let whole = Whole {
            kind: Kind::Json,
            limit: MAX_ANSWER,
        };
        match self.attempt_in_time(endpoint, &call, &whole, budget).await {
            Ok(_) => Found::Something,
            Err(Failed { error, .. }) => match error {
                Error::Api { status: 404, message } if message == NO_SUCH_KEY => Found::Nothing,
                _ => Found::Unclear,
            },
        }
    }
}

/// What a look for a key came to.
enum Found {
    Nothing,
    Something,
    /// This server does not say it: it fails, or the client may not ask.
    Unclear,
}

/// An attempt without a result.
struct Failed {
    error: Error,
    arrived: Arrived,
}

/// Whether a server has carried out what an attempt without a result asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrived {
    /// It has not.
    No,
    /// It may have.
    Perhaps,
    /// It has answered, and no other server would answer anything else.
    Answered,
}

/// An error after which nothing is asked any more, although the request may have been carried out.
fn in_doubt(error: Error) -> Error {
    match error {
        // The server itself says that it has failed.
        Error::Api { .. } | Error::Busy { .. } => error,
        error => unknown(Some(error)),
    }
}

fn unknown(error: Option<Error>) -> Error {
    let source = error.unwrap_or_else(|| Error::malformed("there is no answer"));
    Error::OutcomeUnknown {
        source: Box::new(source),
    }
}

/// Whether the same server may do better a little later. Who was waited for in vain is not waited for again.
const fn is_worth_another_time(error: &Error) -> bool {
    match error {
        Error::Api { status, .. } => *status >= 500 && *status != 501,
        Error::Busy { .. } | Error::Transport { .. } => true,
        Error::BadCertificate { .. }
        | Error::Refused { .. }
        | Error::TimedOut { .. }
        | Error::DeadlineExceeded { .. }
        | Error::OutcomeUnknown { .. }
        | Error::Incomplete { .. }
        | Error::TooLarge { .. }
        | Error::Malformed { .. }
        | Error::InvalidRequest { .. } => false,
    }
}

const fn free_in(error: &Error) -> Duration {
    match error {
        Error::Busy { retry_after, .. } => *retry_after,
        _ => Duration::ZERO,
    }
}

/// A little more or less, so that clients which have failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness, no jitter.
    let _ = kes_crypto::fill_random(&mut random);
    let part = wait.mul_f64(f64::from(u8::from_ne_bytes(random)) / 256.0);
    (wait / 2).saturating_add(part)
}

/// The time that a call has left.
struct Budget(Option<Instant>);

impl Budget {
    fn new(deadline: Duration) -> Self {
        Self(Instant::now().checked_add(deadline))
    }

    fn remaining(&self) -> Duration {
        self.0
            .map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    fn is_spent(&self) -> bool {
        self.remaining().is_zero()
    }
}

fn request(endpoint: &Endpoint, call: &Call<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
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
    request.body(Full::new(call.body.clone()))
}

/// An answer that is an error.
async fn refusal(endpoint: &Endpoint, response: Response<Incoming>) -> Failed {
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = read(endpoint, response.into_body(), MAX_ERROR)
        .await
        .unwrap_or_default();
    let message = error_message(status, &body);
    let arrived = match status {
        StatusCode::TOO_MANY_REQUESTS => Arrived::No,
        // Only this says that nothing was begun; that a request could not be recorded, for one, is said of one that was carried out.
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() && message == OVERLOADED => Arrived::No,
        _ if status.is_server_error() => Arrived::Perhaps,
        _ => Arrived::Answered,
    };
    let status = status.as_u16();
    let error = match retry_after {
        Some(retry_after) => Error::Busy {
            status,
            message,
            retry_after,
        },
        None => Error::Api { status, message },
    };
    Failed { error, arrived }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_a_little() {
        let wait = Duration::from_millis(100);
        for _ in 0..100 {
            let jittered = jittered(wait);
            assert!(jittered >= wait / 2 && jittered < wait * 2, "{jittered:?}");
            // Who wants to wait for ever is not a mistake to end the program for.
            assert!(super::jittered(Duration::MAX) >= Duration::MAX / 2);
        }
    }
}
