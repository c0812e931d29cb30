//! The tasks that the key ring owns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Runs futures that must not end with whoever waits for them. They end with this.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        // Those that have ended are kept until somebody asks.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Runs `work` to its end and gives its output to the caller, if it is still there, else to `unheard`. `None` when the
    /// work panicked or was stopped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        unheard: impl FnOnce(T) + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            if let Err(output) = sender.send(work.await) {
                unheard(output);
            }
        });
        receiver.await.ok()
    }

    pub(crate) fn abort_all(&self) {
        self.lock().abort_all();
    }

    /// Waits until all have ended.
    pub(crate) async fn join(&self) {
        let mut running = std::mem::take(&mut *self.lock());
        while running.join_next().await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Guards the list alone, which no panic leaves half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
