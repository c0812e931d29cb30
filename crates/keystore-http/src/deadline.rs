//! How long an operation may still take.

use std::time::Duration;

use kes_keystore::Patience;
use tokio::time::Instant;

/// What stands for ever; adding more to the time of day could overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
            end: Instant::now() + patience.operation.min(LONGEST),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_attempt_takes_no_longer_than_the_operation_may() {
        let deadline = Deadline::of(&Patience {
            attempt: 5 * SECOND,
            operation: 9 * SECOND,
            ..Patience::default()
        });
        for (passes, left, attempt) in [(0, 9, 5), (3, 6, 5), (2, 4, 4), (3, 1, 1), (1, 0, 0), (1, 0, 0)] {
            tokio::time::advance(passes * SECOND).await;
            assert_eq!(deadline.left(), left * SECOND);
            assert_eq!(deadline.attempt(), attempt * SECOND);
        }
        assert_eq!(deadline.end() + SECOND, Instant::now());
    }

    #[tokio::test]
    async fn patience_may_be_endless() {
        let deadline = Deadline::of(&Patience {
            attempt: Duration::MAX,
            operation: Duration::MAX,
            ..Patience::default()
        });
        assert!(deadline.attempt() > 3600 * SECOND);
    }
}
