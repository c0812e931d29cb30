//! Work of a command that is more than a request: on several threads, until it is done or the user gives up.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// What the user does to give up.
#[derive(Debug)]
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until the user gives up.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for `work`, unless the user gives up before it is done.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Outcome<T> {
        tokio::select! {
            biased;
            () = self.received() => Err(Failure::Interrupted),
            done = work => Ok(done),
        }
    }
}

/// Runs `work`, which is told when the user gives up.
pub(crate) fn run<T>(work: impl AsyncFnOnce(&mut Interrupt) -> Outcome<T>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async { work(&mut Interrupt::new()?).await });
    // What has been given up need not be waited for.
    runtime.shutdown_background();
    outcome
}
