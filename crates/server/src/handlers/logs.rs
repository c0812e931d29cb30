//! The error and the audit log as streams.

use tokio::sync::mpsc;

use super::{Permitted, Reply};
use crate::error::ApiError;

pub(super) fn error(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    follow(request, || request.shared.error_log.events().follow())
}

pub(super) fn audit(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    follow(request, || request.shared.audit.follow())
}

fn follow(
    request: &Permitted<'_>,
    subscribe: impl FnOnce() -> mpsc::Receiver<bytes::Bytes>,
) -> Result<Reply, ApiError> {
    let place = request
        .shared
        .streams
        .open(request.snapshot.limits.log_streams)
        .ok_or_else(ApiError::overloaded)?;
    Ok(Reply::Events {
        events: subscribe(),
        place,
    })
}
