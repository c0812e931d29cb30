//! A backup that a server sends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::{Response, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Sleep, sleep};

use crate::{Endpoint, Error};

/// How long the server may take for the next piece. Longer than it waits for its key store itself, so that it is the one
/// that breaks off.
const PATIENCE: Duration = Duration::from_secs(90);

/// The pieces of a backup, in order.
///
/// What they make up is a backup once [`BackupStream::next`] has answered `None`, and only then. Dropping it ends the request.
///
/// ```no_run
/// # async fn example(admin: kes_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut backup = admin.store_backup().await?;
/// let mut size = 0;
/// while let Some(piece) = backup.next().await? {
///     size += piece.len();
/// }
/// println!("a whole backup of {size} bytes");
/// # Ok(())
/// # }
/// ```
pub struct BackupStream {
    endpoint: Endpoint,
    body: Incoming,
    is_http2: bool,
    state: State,
    /// How long the next piece is waited for, while it is.
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    Complete,
    Broken,
}

impl BackupStream {
    pub(crate) fn new(endpoint: Endpoint, response: Response<Incoming>) -> Result<Self, Error> {
        let malformed = |reason: &str| Err(Error::malformed(reason));
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
            patience: None,
        })
    }

    /// Waits for the next piece; `None` when the backup is complete. After an error it never is. Nothing is lost when the future is
    /// dropped before it is ready.
    ///
    /// ```no_run
    /// # async fn example(mut backup: kes_client::BackupStream) -> Result<(), kes_client::Error> {
    /// while let Some(piece) = backup.next().await? {
    ///     println!("{} bytes", piece.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Incomplete`] when the backup breaks off, [`Error::TimedOut`] when nothing comes for 90 seconds.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.state == State::Broken {
            return Err(self.incomplete("it broke off earlier"));
        }
        std::future::poll_fn(|cx| self.poll_piece(cx)).await.transpose()
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.state != State::Going {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_data(cx));
        self.patience = None;
        self.state = match &piece {
            Ok(Some(_)) => State::Going,
            Ok(None) => State::Complete,
            Err(_) => State::Broken,
        };
        Poll::Ready(piece.transpose())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Err(Error::TimedOut {
                        endpoint: self.endpoint.clone(),
                        after: PATIENCE,
                    }));
                }
            };
            return Poll::Ready(match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Ok(Some(data)),
                    Ok(_) | Err(_) => continue,
                },
                Some(Err(error)) => Err(self.incomplete(error)),
                // A stream that is reset without an error looks like one that has ended, but has not been ended.
                None if self.is_http2 && !self.body.is_end_stream() => {
                    Err(self.incomplete("the server broke it off"))
                }
                None => Ok(None),
            });
        }
    }

    fn incomplete(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::incomplete(&self.endpoint, cause)
    }
}

/// After an error the stream ends; only an end without an error is that of a whole backup.
impl Stream for BackupStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_piece(cx)
    }
}

impl fmt::Debug for BackupStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupStream({})", self.endpoint)
    }
}
