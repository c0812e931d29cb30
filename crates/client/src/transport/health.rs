//! Which servers are asked first: those that could not be reached a moment ago come last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Failed;
use crate::Error;

/// How long a server that could not be reached comes last.
const AVOIDED_FOR: Duration = Duration::from_secs(30);

/// Which servers could not be reached a moment ago.
#[derive(Debug)]
pub(super) struct Health {
    start: Instant,
    /// For each server the milliseconds after the start until which it comes last.
    avoided_until: Vec<AtomicU64>,
}

impl Health {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            start: Instant::now(),
            avoided_until: (0..servers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The servers in the order in which they are asked.
    pub(super) fn order(&self) -> Vec<usize> {
        let now = self.now();
        let is_avoided = |until: &AtomicU64| until.load(Ordering::Relaxed) > now;
        let servers = self.avoided_until.iter().enumerate();
        let (last, first): (Vec<_>, Vec<_>) = servers.partition(|(_, until)| is_avoided(until));
        first.into_iter().chain(last).map(|(server, _)| server).collect()
    }

    pub(super) fn note(&self, server: usize, failed: &Failed) {
        match failed.error {
            Error::Transport { .. } | Error::TimedOut { .. } => {
                let duration = u64::try_from(AVOIDED_FOR.as_millis()).unwrap_or(u64::MAX);
                self.set(server, self.now().saturating_add(duration));
            }
            _ => self.reached(server),
        }
    }

    pub(super) fn reached(&self, server: usize) {
        self.set(server, 0);
    }

    fn set(&self, server: usize, until: u64) {
        if let Some(avoided_until) = self.avoided_until.get(server) {
            avoided_until.store(until, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;
    use crate::transport::Arrived;

    #[test]
    fn who_could_not_be_reached_comes_last_for_a_while() {
        let health = Health::new(3);
        let lost = Failed {
            error: Error::TimedOut {
                endpoint: Endpoint::parse("a").unwrap(),
                after: Duration::ZERO,
            },
            arrived: Arrived::Perhaps,
        };
        health.note(0, &lost);
        assert_eq!(health.order(), [1, 2, 0]);
        health.note(1, &lost);
        assert_eq!(health.order(), [2, 0, 1]);
        health.reached(0);
        assert_eq!(health.order(), [0, 2, 1]);
        health.set(1, 0);
        assert_eq!(health.order(), [0, 1, 2]);
    }
}
