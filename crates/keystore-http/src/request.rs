//! What is asked of a service.

use std::fmt;

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use kes_crypto::SecretBytes;
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

/// The longest answer that is read, unless a request allows for more.
const ANSWER_LIMIT: usize = 1 << 20;
/// The longest answer that should be read where it is a list of names.
pub const LIST_LIMIT: usize = 32 << 20;

/// Why something cannot be part of a request. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The value of a header holds characters that no header may have, such as the end of a line.
    #[error("the header '{0}' would hold characters that no header may have")]
    Header(&'static str),
    /// The body is not JSON.
    #[error("the request cannot be written as JSON")]
    Json,
}

/// What is asked of a service. `Debug` shows neither the body, nor the query, nor what is secret in the headers.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<bytes::Bytes>,
    pub(crate) answer_limit: usize,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            answer_limit: ANSWER_LIMIT,
        }
    }

    /// With this header; an earlier one of this name is replaced.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Zeroizing<Vec<u8>>) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(bytes::Bytes::from_owner(body));
        self
    }

    /// With `body` as JSON, in memory that is cleared when the request is gone.
    ///
    /// # Errors
    /// When `body` is nothing that JSON can express.
    pub fn json(self, body: &impl Serialize) -> Result<Self, BadRequest> {
        let mut size = Counter(0);
        serde_json::to_writer(&mut size, body).map_err(|_| BadRequest::Json)?;
        // Room for all of it, so that it does not move and leave a copy.
        let mut json = Zeroizing::new(Vec::with_capacity(size.0));
        serde_json::to_writer(&mut *json, body).map_err(|_| BadRequest::Json)?;
        Ok(self.body("application/json", json))
    }

    /// With an answer of up to `limit` bytes. A longer one is an error.
    #[must_use]
    pub const fn answer_limit(mut self, limit: usize) -> Self {
        self.answer_limit = limit;
        self
    }

    /// A header's value that appears nowhere.
    ///
    /// # Errors
    /// When it holds what no header may have; `name` is for the error.
    pub fn secret_value(name: &'static str, value: &SecretBytes) -> Result<HeaderValue, BadRequest> {
        let mut value =
            HeaderValue::from_bytes(value.expose_secret()).map_err(|_| BadRequest::Header(name))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("path", &self.url.path())
            .field("headers", &self.headers)
            .field("body", &self.body.as_ref().map(bytes::Bytes::len))
            .finish_non_exhaustive()
    }
}

/// Counts what is written.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
