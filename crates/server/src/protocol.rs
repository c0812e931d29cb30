//! How this server speaks HTTP/1.1 and HTTP/2: the settings of the library, in one place for the server and for what it is
//! measured against.

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;

/// Most bytes of a request's headers.
const MAX_HEADERS: usize = 64 << 10;
/// Most requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 250;

/// HTTP/1.1. The library's own timers are off: a connection is watched as a whole.
#[must_use]
pub fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(MAX_HEADERS);
    builder
}

/// HTTP/2. Resets and header floods are bounded by the library's own limits.
#[must_use]
pub fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32);
    builder
}
