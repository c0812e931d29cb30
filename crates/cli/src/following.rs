//! Commands that go on until the user has seen enough.

use std::io::{self, Stdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// Runs `work` until it is done, or until the user ends it: with Ctrl-C, which is how such a command is meant to end, or by
/// closing what the output goes to.
pub(crate) fn follow(work: impl AsyncFnOnce(&Reader) -> Outcome) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let reader = Reader::of_stdout();
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Err(Failure::Interrupted),
            () = reader.gone() => Err(Failure::BrokenPipe),
            outcome = work(&reader) => outcome,
        }
    });
    // A name look-up that is still under way cannot be stopped, but need not be waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Whoever reads the standard output. Waiting for them here and not in a write keeps Ctrl-C working when they are slow.
#[derive(Debug)]
pub(crate) struct Reader {
    /// None for a file, which takes everything at once.
    stdout: Option<AsyncFd<Stdout>>,
}

impl Reader {
    fn of_stdout() -> Self {
        let interest = Interest::WRITABLE | Interest::ERROR;
        Self {
            stdout: AsyncFd::with_interest(io::stdout(), interest).ok(),
        }
    }

    /// Waits until the standard output takes a line.
    pub(crate) async fn ready(&self) -> Outcome {
        let Some(stdout) = &self.stdout else { return Ok(()) };
        loop {
            let mut guard = stdout.ready(Interest::WRITABLE).await?;
            let mut polled = [PollFd::new(stdout.get_ref(), PollFlags::OUT)];
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if poll(&mut polled, Some(&at_once)).map_err(io::Error::from)? > 0 {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    /// Waits until nobody reads the standard output any more.
    async fn gone(&self) {
        if let Some(stdout) = &self.stdout
            && stdout.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}
