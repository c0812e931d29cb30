//! A backup that a server sends.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::{Endpoint, Error};

/// How long the server may take for the next piece. Longer than it waits for its key store itself, so that it is the one
/// that breaks off.
const PATIENCE: Duration = Duration::from_secs(90);

/// The pieces of a backup, in order.
///
/// What they make up is a backup once [`BackupStream::next`] has answered `None`, and only then.
pub struct BackupStream {
    endpoint: Endpoint,
    body: Incoming,
    is_http2: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    Complete,
    Broken,
}

impl BackupStream {
    pub(crate) fn new(endpoint: Endpoint, response: Response<Incoming>) -> Result<Self, Error> {
        let malformed = |reason: &str| {
            Err(Error::Malformed {
                reason: reason.to_owned(),
            })
        };
        let content_type = response.headers().get(header::CONTENT_TYPE);
        if content_type.is_none_or(|kind| kind != "application/octet-stream") {
            return malformed("it is not a backup");
        }
        let is_http2 = response.version() == Version::HTTP_2;
        let is_delimited = is_http2
            || response.headers().contains_key(header::TRANSFER_ENCODING)
            || response.body().size_hint().exact().is_some();
        if !is_delimited {
            return malformed("nothing would tell its end from a broken connection");
        }
        Ok(Self {
            endpoint,
            body: response.into_body(),
            is_http2,
            state: State::Going,
        })
    }

    /// Waits for the next piece; `None` when the backup is complete. After an error it never is.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when the backup breaks off, [`Error::TimedOut`] when nothing comes for 90 seconds.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.state {
            State::Going => {}
            State::Complete => return Ok(None),
            State::Broken => return Err(self.incomplete("it broke off earlier")),
        }
        let piece = self.piece().await;
        self.state = match &piece {
            Ok(Some(_)) => State::Going,
            Ok(None) => State::Complete,
            Err(_) => State::Broken,
        };
        piece
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::TimedOut {
                endpoint: self.endpoint.clone(),
                after: PATIENCE,
            })?;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => return Err(self.incomplete(error)),
                // A stream that is reset without an error looks like one that has ended, but has not been ended.
                None if self.is_http2 && !self.body.is_end_stream() => {
                    return Err(self.incomplete("the server broke it off"));
                }
                None => return Ok(None),
            }
        }
    }

    fn incomplete(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::incomplete(&self.endpoint, cause)
    }
}

impl fmt::Debug for BackupStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupStream({})", self.endpoint)
    }
}
