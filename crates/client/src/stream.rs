//! Logs that a server sends as they happen, and other answers that are one JSON document a line.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use http::{Response, Version};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

use crate::transport::Kind;
use crate::{Endpoint, Error};

/// The longest event.
const MAX_EVENT: usize = 1 << 20;

/// Events of a log, as they happen, without an end of its own: [`Client::audit_log`](crate::Client::audit_log) and
/// [`Client::error_log`](crate::Client::error_log). Dropping it ends the request.
///
/// Nothing is lost when the future of [`EventStream::next`] is dropped before it is ready. After an error there are no more events.
///
/// ```no_run
/// use futures_util::TryStreamExt as _;
///
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// // It is a `Stream`, too.
/// let refused = client.audit_log().await?.try_filter(|event| std::future::ready(event.response.code == 403));
/// refused.try_for_each(async |event| Ok(println!("{}", event.request.identity))).await?;
/// # Ok(())
/// # }
/// ```
pub struct EventStream<T> {
    lines: Lines,
    is_over: bool,
    event: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> EventStream<T> {
    pub(crate) fn new(endpoint: Endpoint, response: Response<Incoming>) -> Result<Self, Error> {
        Kind::Events.check(&response)?;
        Ok(Self {
            lines: Lines::new(endpoint, response, MAX_EVENT),
            is_over: false,
            event: PhantomData,
        })
    }

    /// Waits for the next event; `None` when the server has ended the log.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut log = client.error_log().await?;
    /// while let Some(event) = log.next().await? {
    ///     println!("{}", event.message);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Incomplete`] when the connection breaks or ends within an event, [`Error::Malformed`] when what comes is no event,
    /// [`Error::TooLarge`] when it is longer than 1 MiB.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await.transpose()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let event = match ready!(self.lines.poll_line(cx)) {
            Ok(Some(line)) => Some(self.lines.parse(&line)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        self.is_over = !matches!(event, Some(Ok(_)));
        Poll::Ready(event)
    }
}

impl<T: DeserializeOwned> Stream for EventStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventStream({})", self.lines.endpoint)
    }
}

/// The lines of a body, blank ones left out.
pub(crate) struct Lines {
    endpoint: Endpoint,
    body: Incoming,
    is_http2: bool,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
    /// The longest line.
    limit: usize,
    has_ended: bool,
}

/// One line.
pub(crate) struct Line {
    bytes: Vec<u8>,
    /// Whether there is an end of line, and not only the end of everything.
    has_end: bool,
}

impl Lines {
    pub(crate) fn new(endpoint: Endpoint, response: Response<Incoming>, limit: usize) -> Self {
        Self {
            endpoint,
            is_http2: response.version() == Version::HTTP_2,
            body: response.into_body(),
            buffer: Vec::new(),
            searched: 0,
            limit,
            has_ended: false,
        }
    }

    /// What to say of a line that does not come in time.
    pub(crate) fn timed_out(&self, after: Duration) -> Error {
        Error::TimedOut {
            endpoint: self.endpoint.clone(),
            after,
        }
    }

    /// The next line, if there is one, as JSON.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        match std::future::poll_fn(|cx| self.poll_line(cx)).await? {
            Some(line) => self.parse(&line).map(Some),
            None => Ok(None),
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &Line) -> Result<T, Error> {
        if line.has_end && line.bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Error::malformed("there is a line that is no JSON object"));
        }
        serde_json::from_slice(&line.bytes).map_err(|error| {
            if line.has_end {
                Error::malformed_json(&error)
            } else {
                Error::incomplete(&self.endpoint, "it ends within a line")
            }
        })
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Line>, Error>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let bytes = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if bytes.len() > self.limit {
                    return Poll::Ready(Err(Error::TooLarge { limit: self.limit }));
                }
                if bytes.trim_ascii().is_empty() {
                    continue;
                }
                return Poll::Ready(Ok(Some(Line { bytes, has_end: true })));
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Poll::Ready(Err(Error::TooLarge { limit: self.limit }));
            }
            if self.has_ended {
                let bytes = std::mem::take(&mut self.buffer);
                self.searched = 0;
                let is_blank = bytes.trim_ascii().is_empty();
                return Poll::Ready(Ok((!is_blank).then_some(Line {
                    bytes,
                    has_end: false,
                })));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::incomplete(&self.endpoint, error))),
                // A stream that is reset without an error looks like one that has ended, but has not been ended.
                None if self.is_http2 && !self.body.is_end_stream() => {
                    let error = Error::incomplete(&self.endpoint, "the server broke it off");
                    return Poll::Ready(Err(error));
                }
                None => self.has_ended = true,
            }
        }
    }
}
