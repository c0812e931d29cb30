//! Bodies: requests' within bounds, answers' whole or as streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kes_keystore::BoxError;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::backup;
use crate::connection::InProgress;
use crate::error::ApiError;

/// Bytes of request bodies that the server holds at once.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    used: AtomicUsize,
}

/// A share of the body memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    memory: &'a BodyMemory,
    bytes: usize,
}

impl BodyMemory {
    pub(crate) const fn new() -> Self {
        Self {
            used: AtomicUsize::new(0),
        }
    }

    fn reserve(&self, bytes: usize, limit: usize) -> Option<Reserved<'_>> {
        let reserved = Reserved { memory: self, bytes };
        // On failure, the guard gives back what was added too much.
        (self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= limit).then_some(reserved)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A client that has read its body to the end for a server that went away announces it again to the next one and sends nothing:
/// MinIO's does. Taken for an empty object, its data key would be sealed without the context, and what it encrypts
/// could never be read again; refused, the request is made anew.
const LOST_BODY: &str = "request body was announced, but nothing came";

/// Reads a body of at most `max` bytes; one that is announced must have some. The guard holds its share of the body memory.
pub(crate) async fn read<'m>(
    body: &mut Incoming,
    max: usize,
    memory: &'m BodyMemory,
    memory_limit: usize,
) -> Result<(Bytes, Reserved<'m>), ApiError> {
    let announced = body.size_hint();
    if announced.lower() > max as u64 {
        return Err(ApiError::too_large());
    }
    let reserve = |bytes| {
        memory
            .reserve(bytes, memory_limit)
            .ok_or_else(ApiError::overloaded)
    };
    // A client that does not announce the length is taken for one that uses it all.
    let expected = announced
        .exact()
        .map_or(max, |exact| usize::try_from(exact).unwrap_or(max));
    let reserved = reserve(expected)?;
    // Not by length: chunked, or HTTP/2 whose headers did not end the stream.
    let is_to_come = !body.is_end_stream() && announced.exact() != Some(0);
    let broken = |error: hyper::Error| ApiError::bad_request("request body cannot be read").because(error);

    let mut whole = Bytes::new();
    // The joined copy does not stay in memory: it may hold a plaintext or a key.
    let mut several = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if whole.len() + several.len() + data.len() > max {
            return Err(ApiError::too_large());
        }
        if whole.is_empty() && several.is_empty() {
            whole = data;
        } else {
            if several.is_empty() {
                several.reserve_exact(expected.min(max));
                several.extend_from_slice(&std::mem::take(&mut whole));
            }
            several.extend_from_slice(&data);
        }
    }
    if is_to_come && whole.is_empty() && several.is_empty() {
        return Err(ApiError::bad_request(LOST_BODY));
    }
    Ok((
        if several.is_empty() {
            whole
        } else {
            Bytes::from_owner(several)
        },
        reserved,
    ))
}

/// Reads and forgets what is left of a body, so that the client gets to read its answer; gives up past `max` bytes.
pub(crate) async fn discard(body: &mut Incoming, max: usize) -> Result<(), ApiError> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(()) };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > max {
            return Err(ApiError::too_large());
        }
    }
    Ok(())
}

/// Pages of a listing, made as they are sent.
pub(crate) type Pages = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// Events as they happen, with a place among the streams.
pub(crate) struct Stream {
    pub(crate) events: mpsc::Receiver<Bytes>,
    pub(crate) _place: Arc<()>,
    pub(crate) _in_progress: InProgress,
}

/// The body of an answer. One that is made as it is sent keeps its request in progress.
pub(crate) enum AnswerBody {
    /// All of it, or what has not been sent yet.
    Whole(Option<Bytes>),
    /// Events as they happen.
    Events(Stream),
    /// Pages of a listing.
    Pages { pages: Pages, _in_progress: InProgress },
    /// Pieces of a backup.
    Backup(backup::Pieces),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(stream) => stream
                .events
                .poll_recv(cx)
                .map(|event| event.map(|event| Ok(Frame::data(event)))),
            Self::Pages { pages, .. } => pages.as_mut().poll_frame(cx),
            Self::Backup(pieces) => pieces
                .poll_next(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) | Self::Pages { .. } | Self::Backup(_) => SizeHint::default(),
        }
    }
}
