//! HTTP/1.1 towards the client, byte by byte, since a proxy that breaks it must be able to; and a decent client towards the
//! service.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ProxiedRequest;
use crate::Answer;

/// The most bytes of a request.
const LARGEST: usize = 4 << 20;

/// The client's end of a connection.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// The next request; none if the client has nothing more to say, or nothing that is understood here.
    pub(super) async fn request(&mut self) -> Option<ProxiedRequest> {
        let head = loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break self.received.drain(..end + 4).collect::<Vec<_>>();
            }
            self.receive().await?;
        };
        let head = String::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let mut first = lines.next()?.split(' ');
        let method = Method::from_bytes(first.next()?.as_bytes()).ok()?;
        let target = first.next()?.to_owned();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        let body = if headers.contains_key(TRANSFER_ENCODING) {
            self.chunks().await?
        } else {
            let length = headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok());
            let length = length.map_or(Some(0), |length| length.parse().ok())?;
            self.take(length).await?
        };
        Some(ProxiedRequest {
            method,
            target,
            headers,
            body: body.into(),
            at: Instant::now(),
        })
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = self.received.windows(2).position(|bytes| bytes == b"\r\n") {
                    break self.received.drain(..end + 2).collect::<Vec<_>>();
                }
                self.receive().await?;
            };
            let size = std::str::from_utf8(&line).ok()?.trim();
            let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
            let chunk = self.take(size.checked_add(2)?).await?;
            body.extend_from_slice(chunk.get(..size)?);
            if size == 0 {
                return Some(body);
            }
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.received.len() < length {
            self.receive().await?;
        }
        Some(self.received.drain(..length).collect())
    }

    async fn receive(&mut self) -> Option<()> {
        if self.received.len() > LARGEST {
            return None;
        }
        // A reset is an end, too.
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Returns when the client has closed the connection.
    pub(super) async fn gone(&self) {
        if matches!(self.stream.peek(&mut [0]).await, Ok(1)) {
            // The next request already: this client is not of the kind that goes away.
            std::future::pending().await
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes the connection so that the client sees a reset.
    pub(super) fn reset(self) {
        // Without it the client sees an end, which is as bad.
        _ = self.stream.set_zero_linger();
    }
}

/// Whether the connection ends with this message.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// An answer as bytes, and how many of them are its head.
pub(super) fn encode(answer: &Answer) -> (Vec<u8>, usize) {
    let mut bytes = format!("HTTP/1.1 {} As-It-Is\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
    if answer.status != 204 && answer.status != 304 {
        bytes.extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let head = bytes.len();
    bytes.extend_from_slice(&answer.body);
    (bytes, head)
}

/// Asks the service, on a connection of its own.
pub(crate) async fn forward(service: SocketAddr, request: &ProxiedRequest) -> io::Result<Answer> {
    let stream = TcpStream::connect(service).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut forwarded = Request::new(Full::new(request.body.clone()));
    *forwarded.method_mut() = request.method.clone();
    *forwarded.uri_mut() = request.target.parse().map_err(io::Error::other)?;
    for (name, value) in &request.headers {
        if name != CONNECTION && name != TRANSFER_ENCODING && name != CONTENT_LENGTH {
            forwarded.headers_mut().append(name, value.clone());
        }
    }
    let answer = async {
        let (head, body) = sender
            .send_request(forwarded)
            .await
            .map_err(io::Error::other)?
            .into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await.map_err(io::Error::other)?.to_bytes(),
        })
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    }
}

impl Answer {
    /// An answer with a body and its type.
    #[must_use]
    pub fn of(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            hyper::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        );
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    /// The same with another header.
    ///
    /// # Panics
    /// When `value` cannot be one.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}
