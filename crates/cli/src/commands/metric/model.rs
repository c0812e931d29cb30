//! What the live view knows: the last measurements, what has happened since those before, and whether the server still answers.

use std::time::Duration;

use kes_client::{Details, Measurements};
use kes_types::Timestamp;

/// What is shown of a server.
#[derive(Debug)]
pub(super) struct Model {
    /// Whom the figures are of.
    pub(super) server: String,
    /// How often it is asked.
    pub(super) every: Duration,
    /// Its last answer.
    pub(super) last: Measurements,
    /// What has happened between its last two answers.
    pub(super) interval: Interval,
    /// Why there is no answer to what was asked since.
    pub(super) silence: Option<Silence>,
}

/// A server that does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// When it failed to answer for the first time.
    pub(super) since: Timestamp,
    /// Why it did the last time.
    pub(super) why: String,
}

impl Model {
    /// A server that has answered once.
    pub(super) fn new(server: String, every: Duration, first: Measurements) -> Self {
        Self {
            server,
            every,
            interval: Interval::between(&Measurements::default(), &first),
            last: first,
            silence: None,
        }
    }

    /// The server has answered.
    pub(super) fn answered(&mut self, now: Measurements) {
        let nothing = Measurements::default();
        // What only grows has shrunk: the server has started anew, and all that it has counted is new.
        let before = if is_before(&self.last, &now) {
            &self.last
        } else {
            &nothing
        };
        self.interval = Interval::between(before, &now);
        self.last = now;
        self.silence = None;
    }

    /// The server has not answered. The figures stay, and so does the time since when they are old.
    pub(super) fn failed(&mut self, at: Timestamp, why: String) {
        let since = self.silence.as_ref().map_or(at, |silence| silence.since);
        self.silence = Some(Silence { since, why });
    }
}

/// What has happened between two answers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Interval {
    /// Whether it began with the start of the server.
    pub(super) since_start: bool,
    /// Requests in a second.
    pub(super) rate: Option<f64>,
    /// How long a request took.
    pub(super) average: Option<Duration>,
    /// How long half of all requests took at most, 90 % of them, and 99 %.
    pub(super) percentiles: [Option<Latency>; 3],
    /// How long a request to the key store took.
    pub(super) keystore: Option<Duration>,
}

/// How long requests took, as far as their number by duration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Latency {
    AtMost(Duration),
    MoreThan(Duration),
}

impl Interval {
    fn between(before: &Measurements, now: &Measurements) -> Self {
        let time = now.up_time.saturating_sub(before.up_time);
        let requests = requests(now).saturating_sub(requests(before));
        let timed = now.response_time_count.saturating_sub(before.response_time_count);
        let took = now.response_time_sum.saturating_sub(before.response_time_sum);
        let (fine, fine_before) = (&now.details, &before.details);
        // Operations are timed more finely than requests, where they are timed at all.
        let (buckets, count) = if fine.operation_time.is_empty() {
            (difference(&before.response_time, &now.response_time), timed)
        } else {
            (
                difference(&fine_before.operation_time, &fine.operation_time),
                fine.operation_time_count
                    .saturating_sub(fine_before.operation_time_count),
            )
        };
        Self {
            since_start: before.up_time.is_zero(),
            rate: (!time.is_zero()).then(|| requests as f64 / time.as_secs_f64()),
            average: average(took, timed),
            percentiles: [50, 90, 99].map(|percent| percentile(&buckets, count, percent)),
            keystore: keystore_latency(fine_before, fine),
        }
    }
}

/// `part` of `whole` in tenths of a percent; of nothing, it is nothing.
pub(super) fn per_mille(part: u64, whole: u64) -> u64 {
    let per_mille = u128::from(part) * 1000 / u128::from(whole.max(1));
    u64::try_from(per_mille).unwrap_or(u64::MAX)
}

/// All requests that were answered.
pub(super) const fn requests(measured: &Measurements) -> u64 {
    measured
        .request_success
        .saturating_add(measured.request_error)
        .saturating_add(measured.request_failure)
}

/// Whether one server can have measured the one before the other.
fn is_before(before: &Measurements, now: &Measurements) -> bool {
    before.up_time <= now.up_time
        && before.request_success <= now.request_success
        && before.request_error <= now.request_error
        && before.request_failure <= now.request_failure
        && before.response_time_count <= now.response_time_count
}

/// How many more requests took at most so long, by duration.
fn difference(before: &[(Duration, u64)], now: &[(Duration, u64)]) -> Vec<(Duration, u64)> {
    let count_before = |bound: Duration| {
        let found = before.iter().find(|(other, _)| *other == bound);
        found.map_or(0, |(_, count)| *count)
    };
    now.iter()
        .map(|&(bound, count)| (bound, count.saturating_sub(count_before(bound))))
        .collect()
}

/// How long `percent` of `count` requests took at most.
fn percentile(buckets: &[(Duration, u64)], count: u64, percent: u64) -> Option<Latency> {
    if count == 0 {
        return None;
    }
    let rank = (u128::from(count) * u128::from(percent)).div_ceil(100);
    let reached = buckets.iter().find(|(_, below)| u128::from(*below) >= rank);
    match (reached, buckets.last()) {
        (Some((bound, _)), _) => Some(Latency::AtMost(*bound)),
        (None, Some((last, _))) => Some(Latency::MoreThan(*last)),
        (None, None) => None,
    }
}

fn average(took: Duration, count: u64) -> Option<Duration> {
    // A server may claim to have spent more time than there is.
    (count > 0)
        .then(|| Duration::try_from_secs_f64(took.as_secs_f64() / count as f64).unwrap_or(Duration::MAX))
}

fn keystore_latency(before: &Details, now: &Details) -> Option<Duration> {
    let count = now
        .keystore_requests?
        .saturating_sub(before.keystore_requests.unwrap_or_default());
    let took = now
        .keystore_time?
        .saturating_sub(before.keystore_time.unwrap_or_default());
    average(took, count)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn measured(up_time: u64, success: u64) -> Measurements {
        Measurements {
            request_success: success,
            up_time: SECOND * u32::try_from(up_time).unwrap(),
            response_time: vec![(Duration::from_millis(10), success)],
            response_time_count: success,
            response_time_sum: Duration::from_millis(2 * success),
            ..Measurements::default()
        }
    }

    fn model(first: Measurements) -> Model {
        Model::new("server".to_owned(), SECOND, first)
    }

    #[test]
    fn the_first_answer_is_about_all_time_and_the_next_about_the_time_between() {
        let mut model = model(measured(10, 100));
        assert_eq!(
            (model.interval.since_start, model.interval.rate),
            (true, Some(10.0))
        );
        model.answered(Measurements {
            response_time: vec![(Duration::from_millis(10), 110), (SECOND, 19)],
            response_time_sum: Duration::from_secs(1),
            ..measured(20, 120)
        });
        assert_eq!(
            model.interval,
            Interval {
                since_start: false,
                rate: Some(2.0),
                average: Some(Duration::from_millis(40)),
                percentiles: [
                    Some(Latency::AtMost(Duration::from_millis(10))),
                    Some(Latency::AtMost(SECOND)),
                    Some(Latency::MoreThan(SECOND)),
                ],
                keystore: None,
            }
        );
    }

    #[test]
    fn an_endless_time_has_an_average() {
        assert_eq!(average(Duration::MAX, 1), Some(Duration::MAX));
        assert_eq!(
            average(Duration::from_secs(3), 2),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(average(Duration::MAX, 0), None);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let mut model = model(Measurements::default());
        let nothing = Interval {
            since_start: true,
            ..Interval::default()
        };
        assert_eq!(model.interval, nothing);
        model.answered(measured(5, 0));
        assert_eq!((model.interval.rate, model.interval.average), (Some(0.0), None));
        assert_eq!(model.interval.percentiles, [None; 3]);
        assert_eq!((per_mille(0, 0), per_mille(1, 3)), (0, 333));
        assert_eq!(per_mille(u64::MAX, u64::MAX), 1000);
    }

    #[test]
    fn a_server_that_has_started_anew_has_counted_from_zero() {
        let mut restarted = model(measured(100, 1000));
        restarted.answered(measured(2, 6));
        assert_eq!(
            (restarted.interval.since_start, restarted.interval.rate),
            (true, Some(3.0))
        );
        // One that was up for longer in its second life, but has done less.
        let mut restarted = model(measured(100, 1000));
        restarted.answered(measured(200, 400));
        assert_eq!(
            (restarted.interval.since_start, restarted.interval.rate),
            (true, Some(2.0))
        );
    }

    #[test]
    fn finer_times_are_preferred() {
        let fine = |at_most: u64| {
            let mut measured = measured(10 + at_most, at_most);
            measured.details.operation_time = vec![(Duration::from_micros(50), at_most)];
            measured.details.operation_time_count = at_most;
            measured.details.keystore_requests = Some(at_most);
            measured.details.keystore_time = Some(Duration::from_millis(at_most * at_most));
            measured
        };
        let mut model = model(fine(1));
        model.answered(fine(3));
        assert_eq!(
            model.interval.percentiles,
            [Some(Latency::AtMost(Duration::from_micros(50))); 3]
        );
        assert_eq!(model.interval.keystore, Some(Duration::from_millis(4)));
    }

    #[test]
    fn a_server_that_does_not_answer_leaves_its_figures_and_the_time_since_when() {
        let mut model = model(measured(10, 100));
        let (first, later) = (
            datetime!(2024-05-01 10:00:00 UTC),
            datetime!(2024-05-01 10:00:05 UTC),
        );
        model.failed(first, "refused".to_owned());
        model.failed(later, "hangs".to_owned());
        assert_eq!(model.last.request_success, 100);
        let silence = Silence {
            since: first,
            why: "hangs".to_owned(),
        };
        assert_eq!(model.silence, Some(silence));
        model.answered(measured(30, 140));
        assert_eq!((model.silence, model.interval.rate), (None, Some(2.0)));
    }
}
