//! Commands that go on until the user has seen enough.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::failure::{Failure, Outcome};

/// Runs `work` until it is done, or until the user ends it: with Ctrl-C, which is how such a command is meant to end, or by
/// closing what the output goes to.
pub(crate) fn follow(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Err(Failure::Interrupted),
            () = nobody_reads() => Err(Failure::BrokenPipe),
            outcome = work => outcome,
        }
    });
    // The threads that wait for the standard output may wait for ever.
    runtime.shutdown_background();
    outcome
}

/// Waits until the standard output takes a line. Waiting in the write itself would leave Ctrl-C without effect while a reader
/// is slow.
pub(crate) async fn somebody_reads() -> Outcome {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if !wait_for_stdout(PollFlags::OUT, Some(at_once))? {
        spawn_blocking(|| wait_for_stdout(PollFlags::OUT, None)).await??;
    }
    Ok(())
}

/// Waits until nobody reads the standard output any more.
async fn nobody_reads() {
    // Errors are waited for without being asked for.
    let waited = spawn_blocking(|| wait_for_stdout(PollFlags::empty(), None)).await;
    if !matches!(waited, Ok(Ok(true))) {
        std::future::pending().await
    }
}

/// Whether anything that was waited for has come.
fn wait_for_stdout(flags: PollFlags, limit: Option<Timespec>) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, flags)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, limit.as_ref()))? > 0)
}
