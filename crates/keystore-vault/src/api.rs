//! A thin client of Vault's HTTP API: what every request carries, one redirect to the active node, and what a refusal means.

mod answer;
mod error;

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use kes_keystore::Patience;
pub(crate) use kes_keystore_http::StatusCode;
use kes_keystore_http::header::LOCATION;
use kes_keystore_http::{
    ANSWER_LIMIT, Answer, Deadline, HeaderName, HeaderValue, Http, Method, Request, Retry, Url, to_json,
};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(crate) use answer::Reply;
pub(crate) use error::{ApiError, Problem};

use crate::path::Path;

/// The server's HTTP API.
#[derive(Debug)]
pub(crate) struct Api {
    /// Replaced when the files have changed that it is made from.
    http: RwLock<Http>,
    endpoint: Endpoint,
}

/// Where the server is: its URL up to, and without, `/v1/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

/// A URL that no server can be asked at. It is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no URL of this kind.
    #[error("is not a URL like https://vault.example:8200")]
    NoUrl,
    /// It holds something that has no place in it.
    #[error("contains a user name, a password, a query or a fragment, which have no place in it")]
    Extras,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// What to do.
    pub(crate) method: Method,
    /// To what.
    pub(crate) path: &'a Path,
    /// Who asks. Not for logins and for the health.
    pub(crate) token: Option<HeaderValue>,
    /// In which namespace.
    pub(crate) namespace: Option<&'a HeaderValue>,
    /// What is sent.
    pub(crate) body: Option<&'a Body>,
    /// The longest answer that is read.
    pub(crate) limit: usize,
}

/// What is sent, as JSON.
pub(crate) struct Body {
    json: Zeroizing<Vec<u8>>,
    /// What must not appear in an error, should the server repeat what it was sent.
    secret: Zeroizing<String>,
}

impl Body {
    /// `content` as JSON; `secret` is what is secret in it.
    pub(crate) fn new(content: &impl Serialize, secret: &str) -> Self {
        Self {
            // Texts and maps of texts can always be written as JSON.
            json: to_json(content).unwrap_or_default(),
            secret: Zeroizing::new(secret.to_owned()),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.json.len())
    }
}

impl<'a> Call<'a> {
    /// A request without a token, a namespace and a body.
    pub(crate) fn new(method: Method, path: &'a Path) -> Self {
        Self {
            method,
            path,
            token: None,
            namespace: None,
            body: None,
            limit: ANSWER_LIMIT,
        }
    }
}

impl Endpoint {
    /// Reads the configured URL. A path in it stays, so that Vault may be behind a proxy that serves it below one.
    pub(crate) fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let url = Url::parse(text).map_err(|_| BadEndpoint::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(BadEndpoint::NoUrl);
        }
        let user = !url.username().is_empty() || url.password().is_some();
        if user || url.query().is_some() || url.fragment().is_some() {
            return Err(BadEndpoint::Extras);
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    fn url(&self, path: &Path) -> Option<Url> {
        Url::parse(&format!("{self}/v1/{}", path.url())).ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Api {
    /// The API at `endpoint`.
    pub(crate) const fn new(http: Http, endpoint: Endpoint) -> Self {
        Self {
            http: RwLock::new(http),
            endpoint,
        }
    }

    /// Requests go out with `http` from now on.
    pub(crate) fn connect_with(&self, http: Http) {
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = http;
    }

    /// Where the server is.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one request, follows one redirect, and reads the answer, all within `timeout`.
    ///
    /// # Errors
    /// For every answer that is no success.
    pub(crate) async fn call(&self, call: &Call<'_>, timeout: Duration) -> Result<Reply, ApiError> {
        let error = |problem| ApiError::new(call, problem);
        let end = Instant::now() + timeout;
        let url = self.endpoint.url(call.path);
        let url = url.ok_or_else(|| error(Problem::BadAnswer("the path makes no URL")))?;
        let mut answer = self.send(call, url.clone(), end).await?;
        if is_redirect(&answer) {
            let to = target(&url, &answer).map_err(error)?;
            answer = self.send(call, to, end).await?;
            if is_redirect(&answer) {
                return Err(error(Problem::Redirect("to a server that redirects again")));
            }
        }
        answer::read(call, answer)
    }

    /// [`Self::call`] for what may be done twice: again after failures that may pass, until `deadline`.
    ///
    /// # Errors
    /// The failure of the last attempt that had its time.
    pub(crate) async fn repeat(
        &self,
        call: &Call<'_>,
        patience: &Patience,
        deadline: &Deadline,
    ) -> Result<Reply, ApiError> {
        let mut retry = Retry::new(patience);
        let mut before = None;
        loop {
            let is_cut_short = deadline.left() < patience.attempt;
            let error = match self.call(call, deadline.attempt()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            // That there was too little time for the last attempt says less than what the one before has met.
            let error = match before {
                Some(before) if is_cut_short && error.is_timeout() => before,
                _ => error,
            };
            if !retry.pause(deadline, error.again()).await {
                return Err(error);
            }
            before = Some(error);
        }
    }

    async fn send(&self, call: &Call<'_>, url: Url, end: Instant) -> Result<Answer, ApiError> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ApiError::new(call, Problem::OutOfTime));
        }
        let mut request = Request::new(call.method.clone(), url)
            .header(X_VAULT_REQUEST, HeaderValue::from_static("true"))
            .answer_limit(call.limit);
        if let Some(token) = &call.token {
            request = request.header(X_VAULT_TOKEN, token.clone());
        }
        if let Some(namespace) = call.namespace {
            request = request.header(X_VAULT_NAMESPACE, namespace.clone());
        }
        if let Some(body) = call.body {
            request = request.body("application/json", body.json.clone());
        }
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = http.send(request, left).await;
        sent.map_err(|error| ApiError::new(call, Problem::NoAnswer(error)))
    }
}

fn is_redirect(answer: &Answer) -> bool {
    matches!(
        answer.status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    )
}

/// Where a standby node sends its clients: to the active one, which must be reached as safely as the standby was.
fn target(from: &Url, answer: &Answer) -> Result<Url, Problem> {
    let location = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
    let to = location.and_then(|to| from.join(to).ok());
    let to = to.ok_or(Problem::Redirect("to a place that is no URL"))?;
    if to.scheme() != from.scheme() {
        return Err(Problem::Redirect(
            "to another scheme, where the token must not go",
        ));
    }
    Ok(to)
}

const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
