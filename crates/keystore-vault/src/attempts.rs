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
        let asked = match again {
            Again::Stop => return false,
            Again::Wait => None,
            Again::After(wait) => Some(wait),
        };
        match self.retry.wait(self.deadline.left(), asked, random()) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                true
            }
            None => false,
        }
    }
}

/// From 0 to 1. Without randomness the wait is the longest.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match kes_crypto::fill_random(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
