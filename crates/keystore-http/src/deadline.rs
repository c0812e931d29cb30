//! How long an operation may still take.

use std::time::Duration;

use kes_keystore::Patience;
use tokio::time::Instant;

/// When an operation has to be over, with its logins, its attempts and the waits between them.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    attempt: Duration,
}

impl Deadline {
    /// The deadline of an operation that begins now.
    #[must_use]
    pub fn of(patience: &Patience) -> Self {
        Self {
            end: Instant::now() + patience.operation,
            attempt: patience.attempt,
        }
    }

    /// How much time is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// How long the next attempt may take: zero when the time is over.
    #[must_use]
    pub fn attempt(&self) -> Duration {
        self.left().min(self.attempt)
    }

    /// When the operation has to be over.
    #[must_use]
    pub const fn end(&self) -> Instant {
        self.end
    }
}
