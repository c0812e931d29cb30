//! What the server counts. `text` is how Prometheus reads it.

mod text;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use kes_keystore::{Observer, Outcome, StoreOp};
use kes_types::Verb;

pub(crate) use self::text::Readings;

/// Upper bounds of the response time histogram in seconds.
const BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0];
/// Upper bounds of the finer histogram by operation in microseconds.
const FINE_BUCKETS: [u64; 10] = [
    50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000,
];
/// Statuses 200 to 599.
const STATUSES: usize = 400;

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    by_status: Box<[AtomicU64; STATUSES]>,
    active: AtomicI64,
    response_time: Histogram<{ BUCKETS.len() + 1 }>,
    by_verb: Box<[Histogram<{ FINE_BUCKETS.len() + 1 }>; Verb::ALL.len()]>,
    audit_events: AtomicU64,
    audit_events_lost: AtomicU64,
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    connections: AtomicI64,
    connection_limit_reached: AtomicU64,
    overloaded: AtomicU64,
    store: Box<[StoreCounters; StoreOp::ALL.len()]>,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    sum_nanos: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            sum_nanos: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&self, bucket: usize, took: Duration) {
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(
            u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

#[derive(Debug, Default)]
struct StoreCounters {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            by_status: Box::new([const { AtomicU64::new(0) }; STATUSES]),
            active: AtomicI64::new(0),
            response_time: Histogram::default(),
            by_verb: Box::new(std::array::from_fn(|_| Histogram::default())),
            audit_events: AtomicU64::new(0),
            audit_events_lost: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            connections: AtomicI64::new(0),
            connection_limit_reached: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            store: Box::new(std::array::from_fn(|_| StoreCounters::default())),
        }
    }
}

/// Counts something as active until it is dropped.
#[derive(Debug)]
pub(crate) struct Active<'a>(&'a AtomicI64);

impl<'a> Active<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn request(&self) -> Active<'_> {
        Active::new(&self.active)
    }

    pub(crate) fn connection(&self) -> Active<'_> {
        Active::new(&self.connections)
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, verb: Option<Verb>, status: u16, took: Duration) {
        if let Some(count) = usize::from(status)
            .checked_sub(200)
            .and_then(|index| self.by_status.get(index))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|&bound| seconds <= bound)
            .unwrap_or(BUCKETS.len());
        self.response_time.observe(bucket, took);
        if let Some(histogram) = verb.and_then(|verb| self.by_verb.get(verb as usize)) {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let bucket = FINE_BUCKETS
                .iter()
                .position(|&bound| micros <= bound)
                .unwrap_or(FINE_BUCKETS.len());
            histogram.observe(bucket, took);
        }
    }

    pub(crate) fn audit_event(&self) {
        self.audit_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn audit_event_lost(&self) {
        self.audit_events_lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake(&self, succeeded: bool) {
        let count = if succeeded {
            &self.handshakes
        } else {
            &self.handshakes_failed
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_limit_reached(&self) {
        self.connection_limit_reached.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }
}

impl Observer for Metrics {
    fn observe(&self, op: StoreOp, outcome: Outcome, took: Duration) {
        let Some(counters) = self.store.get(op as usize) else {
            return;
        };
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if matches!(outcome, Outcome::Failed | Outcome::Unreachable) {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        counters.nanos.fetch_add(
            u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}
