//! One call: to the servers in their order, again where that does no harm, each attempt within its time and all within theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kes_types::Verb;
use kes_types::wire::ErrorResponse;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use crate::connect::Connector;
use crate::{Credentials, Endpoint, Error, ServerTrust};

/// The longest answer to anything but a listing.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// The longest error body that is read.
const MAX_ERROR: usize = 64 << 10;
/// The most characters of a plain-text error that are shown.
const MAX_ERROR_SHOWN: usize = 500;
/// Who says that it will be free later than this is not waited for.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long a server that could not be reached comes last.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
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

/// What becomes of an answer that is no error.
pub(crate) trait Receive: Sync {
    type Output: Send;

    fn receive(
        &self,
        endpoint: &Endpoint,
        response: Response<Incoming>,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// What an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JSON. Some servers call it text.
    Json,
    /// One JSON document a line, without an end.
    Events,
    /// Text.
    Text,
    /// Nothing, or what comes to nothing.
    Nothing,
}

impl Kind {
    /// Refuses what says that it is something else, such as the page of a proxy in between.
    pub(crate) fn check(self, response: &Response<Incoming>) -> Result<(), Error> {
        let Some(content_type) = response.headers().get(header::CONTENT_TYPE) else {
            return Ok(());
        };
        let is = |kind: &str| {
            let content_type = content_type.to_str().unwrap_or_default();
            content_type.len() >= kind.len()
                && content_type
                    .get(..kind.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(kind))
        };
        let suits = match self {
            Self::Json | Self::Events => {
                is("application/json") || is("application/x-ndjson") || is("text/plain")
            }
            Self::Text => is("text/plain") || is("application/openmetrics-text"),
            Self::Nothing => !is("text/html"),
        };
        if suits {
            return Ok(());
        }
        Err(Error::malformed(match self {
            Self::Json | Self::Nothing => "its content type is not that of an answer of KES",
            Self::Events => "its content type is not that of a log",
            Self::Text => "its content type is not that of metrics",
        }))
    }
}

/// A body that is read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) kind: Kind,
    pub(crate) limit: usize,
}

impl Receive for Whole {
    type Output = Zeroizing<Vec<u8>>;

    async fn receive(
        &self,
        endpoint: &Endpoint,
        response: Response<Incoming>,
    ) -> Result<Self::Output, Error> {
        self.kind.check(&response)?;
        let body = read(endpoint, response.into_body(), self.limit).await?;
        let text = body.trim_ascii();
        if self.kind == Kind::Nothing && !text.is_empty() && !text.starts_with(b"{") {
            return Err(Error::malformed("there is something where nothing belongs"));
        }
        Ok(body)
    }
}

/// An answer whose body never ends, or is too long to wait for. Only its headers have to come in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open;

impl Receive for Open {
    type Output = (Endpoint, Response<Incoming>);

    async fn receive(
        &self,
        endpoint: &Endpoint,
        response: Response<Incoming>,
    ) -> Result<Self::Output, Error> {
        Ok((endpoint.clone(), response))
    }
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

/// Which servers could not be reached a moment ago.
#[derive(Debug)]
struct Health {
    start: Instant,
    /// For each server the milliseconds after the start until which it comes last.
    avoided_until: Vec<AtomicU64>,
}

impl Health {
    fn new(servers: usize) -> Self {
        Self {
            start: Instant::now(),
            avoided_until: (0..servers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The servers in the order in which they are asked.
    fn order(&self) -> Vec<usize> {
        let now = self.now();
        let is_avoided = |until: &AtomicU64| until.load(Ordering::Relaxed) > now;
        let servers = self.avoided_until.iter().enumerate();
        let (last, first): (Vec<_>, Vec<_>) = servers.partition(|(_, until)| is_avoided(until));
        first.into_iter().chain(last).map(|(server, _)| server).collect()
    }

    fn note(&self, server: usize, failed: &Failed) {
        match failed.error {
            Error::Transport { .. } | Error::TimedOut { .. } => {
                let duration = u64::try_from(AVOIDED_FOR.as_millis()).unwrap_or(u64::MAX);
                self.set(server, self.now().saturating_add(duration));
            }
            _ => self.reached(server),
        }
    }

    fn reached(&self, server: usize) {
        self.set(server, 0);
    }

    fn set(&self, server: usize, until: u64) {
        if let Some(avoided_until) = self.avoided_until.get(server) {
            avoided_until.store(until, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
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

/// When a busy server wants to be asked again. What is no number of seconds is a point in time, for which nobody's clock is right.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let is_busy = response.status() == StatusCode::TOO_MANY_REQUESTS;
    if !is_busy && response.status() != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    match response.headers().get(header::RETRY_AFTER) {
        Some(value) => Some(seconds(value.as_bytes())),
        None => is_busy.then_some(Duration::from_secs(1)),
    }
}

fn seconds(value: &[u8]) -> Duration {
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    Duration::from_secs(number.unwrap_or(1))
}

async fn read(endpoint: &Endpoint, body: Incoming, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Room for all of it where its length is known, so that it does not move.
    let size = body
        .size_hint()
        .exact()
        .and_then(|size| usize::try_from(size).ok());
    let size = size.unwrap_or(4 << 10).min(limit);
    let mut body = Limited::new(body, limit);
    // Collected by hand, because the bytes may be a secret and `Collected` would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge { limit }
            } else {
                Error::from_connection(endpoint, error)
            }
        })?;
        if let Ok(data) = frame.into_data() {
            append(&mut bytes, &data);
        }
    }
    Ok(bytes)
}

/// Like `extend_from_slice`, which would leave what it moves where it was.
pub(crate) fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let length = bytes.len() + data.len();
    if length > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * bytes.capacity())));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
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

    #[test]
    fn a_busy_server_names_seconds_and_anything_else_is_one() {
        for (value, want) in [
            ("0", 0),
            (" 7 ", 7),
            ("-1", 1),
            ("Fri, 01 May 2026 00:00:00 GMT", 1),
            ("", 1),
        ] {
            assert_eq!(seconds(value.as_bytes()).as_secs(), want, "{value}");
        }
    }

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

    #[test]
    fn who_could_not_be_reached_comes_last_for_a_while() {
        let health = Health::new(3);
        let lost = Failed {
            error: Error::TimedOut {
                endpoint: Endpoint::parse("a").unwrap(),
                after: Duration::ZERO,
            },
            arrived: Arrived::Perhaps,
        };
        health.note(0, &lost);
        assert_eq!(health.order(), [1, 2, 0]);
        health.note(1, &lost);
        assert_eq!(health.order(), [2, 0, 1]);
        health.reached(0);
        assert_eq!(health.order(), [0, 2, 1]);
        health.set(1, 0);
        assert_eq!(health.order(), [0, 1, 2]);
    }

    #[test]
    fn what_grows_keeps_its_bytes() {
        let mut bytes = Zeroizing::new(Vec::new());
        for number in 0..100_u8 {
            append(&mut bytes, &[number; 100]);
        }
        assert_eq!(bytes.len(), 10_000);
        assert!(
            bytes
                .chunks(100)
                .zip(0..100_u8)
                .all(|(chunk, number)| *chunk == [number; 100])
        );
    }
}
