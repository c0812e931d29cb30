//! What is asked of a service.

use std::fmt;

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

/// The longest answer, in bytes, that is read unless a request allows for more.
pub const ANSWER_LIMIT: usize = 1 << 20;
/// The longest answer, in bytes, that should be read where it is a list of names.
pub const LIST_LIMIT: usize = 32 << 20;

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

    /// With an answer of up to `limit` bytes. A longer one is an error.
    #[must_use]
    pub const fn answer_limit(mut self, limit: usize) -> Self {
        self.answer_limit = limit;
        self
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

/// `content` as JSON, in memory that is cleared when it is dropped.
///
/// # Errors
/// When `content` is nothing that JSON can express, such as a map whose keys are no texts.
pub fn to_json(content: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut size = Counter(0);
    serde_json::to_writer(&mut size, content)?;
    // Room for all of it, so that it does not move and leave a copy.
    let mut json = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *json, content)?;
    Ok(json)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_fills_the_memory_that_was_made_for_it() {
        let json = to_json(&["\u{1}\u{1}\u{1}", "\"\""]).unwrap();
        assert_eq!(*json, br#"["\u0001\u0001\u0001","\"\""]"#);
        assert_eq!(json.capacity(), json.len());
    }
}
