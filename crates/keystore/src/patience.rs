//! How long a service is waited for.

use std::time::Duration;

/// How long a service is waited for. What asks it over a network holds itself to this; [`crate::Limited`] is the wider bound
/// that holds for every key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long one attempt may take, from the connection to the last byte of the answer.
    pub attempt: Duration,
    /// How long an operation may take: logins, attempts and the waits between them.
    pub operation: Duration,
    /// How often an attempt may follow a failed one.
    pub retries: u32,
    /// The longest wait before the first retry; it doubles up to `longest_wait`. The actual wait is random below it.
    pub first_wait: Duration,
    /// The longest wait before any retry, unless the service asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for Patience {
    /// Below what a request of a client has: its client learns why.
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            operation: Duration::from_secs(9),
            retries: 2,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(1),
        }
    }
}
