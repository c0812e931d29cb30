//! Logs that a server sends as they happen.

use std::fmt;
use std::marker::PhantomData;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::{Endpoint, Error};

/// The longest event.
const MAX_EVENT: usize = 1 << 20;

/// Events of a log, as they happen.
pub struct EventStream<T> {
    endpoint: Endpoint,
    body: Incoming,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
    event: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> EventStream<T> {
    pub(crate) fn new(endpoint: Endpoint, body: Incoming) -> Self {
        Self {
            endpoint,
            body,
            buffer: Vec::new(),
            searched: 0,
            event: PhantomData,
        }
    }

    /// Waits for the next event; `None` when the server has ended the log.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| Error::Malformed {
                    reason: error.to_string(),
                });
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_EVENT {
                return Err(Error::TooLarge { limit: MAX_EVENT });
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| Error::from_connection(&self.endpoint, error))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventStream({})", self.endpoint)
    }
}
