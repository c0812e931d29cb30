//! What a server answers: what it has to be, how much of it is read, and what an error says.

use std::time::Duration;

use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use kes_types::wire::ErrorResponse;
use zeroize::Zeroizing;

use crate::{Endpoint, Error};

/// The most characters of a plain-text error that are shown.
const MAX_ERROR_SHOWN: usize = 500;

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

/// When a busy server wants to be asked again. What is no number of seconds is a point in time, for which nobody's clock is right.
pub(super) fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
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

pub(super) async fn read(
    endpoint: &Endpoint,
    body: Incoming,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
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
pub(super) fn error_message(status: StatusCode, body: &[u8]) -> String {
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
