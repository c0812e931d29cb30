//! Work that may block, away from the threads of the runtime.

use tokio::task::spawn_blocking;

use crate::error::ConnectError;

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ConnectError> + Send + 'static,
) -> Result<T, ConnectError> {
    spawn_blocking(work).await.map_err(|_| ConnectError::Stopped)?
}
