//! How often to try, and how long to wait in between.

use std::time::Duration;

use kes_keystore::Patience;

use crate::Deadline;

/// Whether to try again after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No: the next attempt would fail as well, or do harm.
    Stop,
    /// Yes, after a wait.
    Wait,
    /// Yes, after at least this long, because the service asks for it.
    After(Duration),
}

/// How often an operation may still be tried, and the waits before.
#[derive(Clone, Debug)]
pub struct Retry {
    left: u32,
    longest: Duration,
    limit: Duration,
}

impl Retry {
    /// As often and with such waits as `patience` says.
    #[must_use]
    pub const fn new(patience: &Patience) -> Self {
        Self {
            left: patience.retries,
            longest: patience.first_wait,
            limit: patience.longest_wait,
        }
    }

    /// The wait before the next attempt, or `None` when there must not be one: all are used up, or it would begin after
    /// the end that is `left` away. The service is never asked again earlier than it `asked` for. `random`, from 0 to 1,
    /// spreads what many would do at once.
    pub fn wait(&mut self, left: Duration, asked: Option<Duration>, random: f64) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let longest = self.longest.min(self.limit);
        self.longest = self.longest.saturating_mul(2);
        let spread = longest.mul_f64(random.clamp(0.0, 1.0));
        let wait = asked.unwrap_or_default().saturating_add(spread);
        (wait < left).then_some(wait)
    }
}

/// Runs `attempt`, with the time that it may take, until it succeeds, or until `again` or the patience says stop. The last
/// failure is the answer. The waits end when the future is dropped.
///
/// # Errors
/// The failure of the last attempt.
pub async fn retrying<T, E>(
    patience: &Patience,
    deadline: &Deadline,
    mut attempt: impl AsyncFnMut(Duration) -> Result<T, E>,
    again: impl Fn(&E) -> Again,
) -> Result<T, E> {
    let mut retry = Retry::new(patience);
    loop {
        let error = match attempt(deadline.attempt()).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let asked = match again(&error) {
            Again::Stop => return Err(error),
            Again::Wait => None,
            Again::After(wait) => Some(wait),
        };
        let Some(wait) = retry.wait(deadline.left(), asked, random()) else {
            return Err(error);
        };
        tokio::time::sleep(wait).await;
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
