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
    fn wait(&mut self, left: Duration, asked: Option<Duration>, random: f64) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let longest = self.longest.min(self.limit);
        self.longest = self.longest.saturating_mul(2);
        let spread = longest.mul_f64(random.clamp(0.0, 1.0));
        let wait = asked.unwrap_or_default().saturating_add(spread);
        (wait < left).then_some(wait)
    }

    /// Waits before the next attempt of an operation whose last one failed. `false` if there must not be one. The wait ends
    /// when the future is dropped.
    pub async fn pause(&mut self, deadline: &Deadline, again: Again) -> bool {
        let asked = match again {
            Again::Stop => return false,
            Again::Wait => None,
            Again::After(wait) => Some(wait),
        };
        let Some(wait) = self.wait(deadline.left(), asked, random_fraction()) else {
            return false;
        };
        tokio::time::sleep(wait).await;
        true
    }
}

/// From 0 to 1, for what must not happen everywhere at once. Without randomness it is 1.
#[must_use]
pub fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match kes_crypto::fill_random(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        attempt: Duration::from_secs(5),
        operation: Duration::from_secs(9),
        retries: 5,
        first_wait: ms(200),
        longest_wait: ms(1000),
    };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn waits_are_random_below_a_limit_that_doubles() {
        let waits = |random| {
            let mut retry = Retry::new(&PATIENCE);
            std::iter::from_fn(move || retry.wait(PATIENCE.operation, None, random)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0), [200, 400, 800, 1000, 1000].map(ms));
        assert_eq!(waits(0.5), [100, 200, 400, 500, 500].map(ms));
        assert_eq!(waits(0.0), [Duration::ZERO; 5]);
    }

    #[test]
    fn a_retry_begins_before_the_end_and_not_before_it_is_asked_for() {
        for (left, asked, random, wait) in [
            (ms(9000), None, 0.5, Some(ms(100))),
            (ms(9000), Some(Duration::ZERO), 0.5, Some(ms(100))),
            (ms(9000), Some(ms(3000)), 0.5, Some(ms(3100))),
            (ms(9000), Some(ms(3000)), 0.0, Some(ms(3000))),
            (ms(3000), Some(ms(3000)), 0.0, None),
            (ms(3000), Some(ms(2900)), 1.0, None),
            (ms(9000), Some(Duration::MAX), 1.0, None),
            (ms(100), None, 0.5, None),
            (Duration::ZERO, None, 0.0, None),
            (Duration::MAX, None, f64::INFINITY, Some(ms(200))),
        ] {
            let found = Retry::new(&PATIENCE).wait(left, asked, random);
            assert_eq!(found, wait, "{left:?} left, {asked:?} asked, {random}");
        }
    }

    #[test]
    fn without_retries_there_is_no_wait() {
        let none = Patience {
            retries: 0,
            ..PATIENCE
        };
        assert_eq!(Retry::new(&none).wait(PATIENCE.operation, None, 0.0), None);
    }

    /// How often an operation is tried that fails each time, and how long it takes.
    async fn failing(patience: &Patience, attempt: Duration, again: Again) -> (u32, Duration) {
        let (start, deadline) = (tokio::time::Instant::now(), Deadline::of(patience));
        let (mut retry, mut tries) = (Retry::new(patience), 0);
        loop {
            tries += 1;
            tokio::time::sleep(attempt.min(deadline.attempt())).await;
            if !retry.pause(&deadline, again).await {
                return (tries, start.elapsed());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_ends_in_time() {
        let (tries, took) = failing(&PATIENCE, Duration::ZERO, Again::Wait).await;
        assert_eq!(tries, 6);
        assert!(took <= ms(3500), "{took:?}");

        let (tries, took) = failing(&PATIENCE, ms(5000), Again::Wait).await;
        assert_eq!(tries, 2);
        assert!(took <= PATIENCE.operation, "{took:?}");

        let (tries, took) = failing(&PATIENCE, ms(1), Again::After(ms(3000))).await;
        assert_eq!(tries, 3);
        assert!(took >= ms(6000), "{took:?}");

        for again in [Again::Stop, Again::After(PATIENCE.operation)] {
            assert_eq!(failing(&PATIENCE, ms(1), again).await, (1, ms(1)), "{again:?}");
        }
    }

    #[test]
    fn a_fraction_is_between_nothing_and_all() {
        for _ in 0..100 {
            assert!((0.0..=1.0).contains(&random_fraction()));
        }
    }
}
