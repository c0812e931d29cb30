//! Answers, and how they look in HTTP.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use kes_types::wire::ErrorResponse;
use serde::Serialize;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::backup::Transfer;
use crate::body::{AnswerBody, Pages, Stream};
use crate::connection::InProgress;
use crate::error::ApiError;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The answer to a request that succeeded.
pub(crate) enum Reply {
    /// There is nothing to say.
    Empty,
    /// A JSON document.
    Json(Bytes),
    /// Measurements.
    Metrics(String),
    /// A listing, one JSON object a line.
    Lines(Pages),
    /// Events as they happen, and a place among the streams.
    Events {
        events: mpsc::Receiver<Bytes>,
        place: Arc<()>,
    },
    /// A backup of the key store.
    Backup(Box<Transfer>),
}

impl Reply {
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self::Json(
            serde_json::to_vec(value).map_err(ApiError::internal)?.into(),
        ))
    }

    /// A JSON object of base64 strings, made without intermediate copies; zeroed when it has been sent.
    pub(crate) fn secrets(fields: &[(&str, &[u8])]) -> Self {
        let size: usize = fields
            .iter()
            .map(|(name, bytes)| name.len() + bytes.len().div_ceil(3) * 4 + 6)
            .sum();
        let mut json = Json::with_capacity(size + 2);
        json.object(fields);
        json.finish()
    }

    pub(crate) fn into_response(self, in_progress: InProgress) -> Response<AnswerBody> {
        let (content_type, body) = match self {
            Self::Empty => (None, AnswerBody::Whole(None)),
            Self::Json(json) => (Some(JSON), AnswerBody::Whole(Some(json))),
            Self::Metrics(text) => (Some(PROMETHEUS), AnswerBody::Whole(Some(text.into()))),
            Self::Lines(pages) => (
                Some(NDJSON),
                AnswerBody::Pages {
                    pages,
                    _in_progress: in_progress,
                },
            ),
            Self::Events { events, place } => {
                let stream = Stream {
                    events,
                    _place: place,
                    _in_progress: in_progress,
                };
                (Some(NDJSON), AnswerBody::Events(stream))
            }
            Self::Backup(transfer) => (Some(OCTETS), AnswerBody::Backup(transfer.start(in_progress))),
        };
        let mut response = Response::new(body);
        if http_body::Body::is_end_stream(response.body()) {
            // HTTP/2 says so by itself only where there is a body.
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        response
    }
}

/// JSON of base64 strings under construction.
pub(crate) struct Json(Zeroizing<Vec<u8>>);

impl Json {
    /// Room for `capacity` bytes. Growing past it would leave copies behind that are not zeroed.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub(crate) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// An object whose names need no escaping.
    pub(crate) fn object(&mut self, fields: &[(&str, &[u8])]) {
        let mut separator = "{\"";
        for (name, bytes) in fields {
            self.raw(separator);
            self.raw(name);
            self.raw("\":\"");
            let start = self.0.len();
            self.0.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let written = STANDARD.encode_slice(bytes, self.0.get_mut(start..).unwrap_or_default());
            debug_assert_eq!(written.ok(), Some(self.0.len() - start));
            self.raw("\"");
            separator = ",\"";
        }
        self.raw("}");
    }

    /// Adds a field, whose value is JSON already, to the object that was written last.
    pub(crate) fn append_raw_field(&mut self, name: &str, json: &str) {
        if self.0.last() == Some(&b'}') {
            self.0.pop();
            for text in [",\"", name, "\":", json, "}"] {
                self.raw(text);
            }
        }
    }

    pub(crate) fn finish(self) -> Reply {
        Reply::Json(Bytes::from_owner(self.0))
    }
}

impl ApiError {
    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        /// What the reference says instead of `Allow`.
        const ACCEPT: HeaderName = http::header::ACCEPT;
        let Self {
            status,
            message,
            source: _,
            allow,
            retry,
        } = self;
        let body = serde_json::to_vec(&ErrorResponse {
            message: message.into_owned(),
        })
        .unwrap_or_default();
        let mut response = Response::new(AnswerBody::Whole(Some(body.into())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(allow) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
            headers.insert(ACCEPT, HeaderValue::from_static(allow));
        }
        if retry && status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_an_object_of_base64_in_one_allocation() {
        let Reply::Json(json) = Reply::secrets(&[("plaintext", b"\x00\xff"), ("ciphertext", b"abc")]) else {
            panic!()
        };
        assert_eq!(json, r#"{"plaintext":"AP8=","ciphertext":"YWJj"}"#);
        for length in 0..40 {
            let bytes = vec![7; length];
            let Reply::Json(json) = Reply::secrets(&[("a", &bytes), ("bc", &bytes)]) else {
                panic!()
            };
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(value["bc"], STANDARD.encode(&bytes));
            let capacity = 2 + 2 * (length.div_ceil(3) * 4 + 6) + 3;
            assert!(json.len() <= capacity, "{} > {capacity}", json.len());
        }
    }
}
