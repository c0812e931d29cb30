//! How often an operation is tried.

use kes_keystore::Patience;
use kes_keystore_http::{Again, Deadline, Retry};

/// The attempts of an operation.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    retry: Retry,
    deadline: &'a Deadline,
}

impl<'a> Attempts<'a> {
    /// As many as `patience` allows, until `deadline`.
    pub(crate) fn new(patience: &Patience, deadline: &'a Deadline) -> Self {
        Self {
            retry: Retry::new(patience),
            deadline,
        }
    }

    /// Waits before the next attempt; `false` if there must not be one.
    pub(crate) async fn pause(&mut self, again: Again) -> bool {
        self.retry.pause(self.deadline, again).await
    }
}
