//! The metrics of a server, read from the text format of Prometheus.

use std::time::Duration;

/// What a server has counted and measured since its start. What a server does not measure is zero.
/// What comes to be measured later is in the [`Details`].
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let measured = client.measurements().await?;
/// println!("{} of {} requests failed", measured.request_failure, measured.response_time_count);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    /// Requests that have succeeded.
    pub request_success: u64,
    /// Requests that the server has refused: a status of 4xx.
    pub request_error: u64,
    /// Requests in which the server has failed: a status of 5xx.
    pub request_failure: u64,
    /// Requests that are under way.
    pub request_active: u64,
    /// Events of the audit log.
    pub audit_events: u64,
    /// Events of the error log.
    pub error_events: u64,
    /// How many requests took at most so long, for ever longer durations. Those that took longer than all of them are missing.
    pub response_time: Vec<(Duration, u64)>,
    /// How long all requests took together.
    pub response_time_sum: Duration,
    /// How many requests were timed.
    pub response_time_count: u64,
    /// How long the server has been up.
    pub up_time: Duration,
    /// Processors of the machine.
    pub num_cpu: u64,
    /// Processors that the server may use.
    pub num_cpu_used: u64,
    /// Threads of the server.
    pub num_threads: u64,
    /// Bytes on the heap.
    pub mem_heap_used: u64,
    /// Objects on the heap.
    pub mem_heap_objects: u64,
    /// Bytes on the stacks.
    pub mem_stack_used: u64,
    /// What only some servers measure.
    pub details: Details,
}

/// What only some servers measure. What is `None` or empty, the server does not.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// if client.measurements().await?.details.keystore_online == Some(false) {
///     eprintln!("the key store cannot be reached");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Details {
    /// As [`Measurements::response_time`], with finer durations, of all requests that operations were.
    pub operation_time: Vec<(Duration, u64)>,
    /// How many requests [`Self::operation_time`] counts, also those that took longer than all of its durations.
    pub operation_time_count: u64,
    /// Keys that were found in the cache.
    pub cache_hits: Option<u64>,
    /// Keys that were not found in the cache.
    pub cache_misses: Option<u64>,
    /// Keys in the cache.
    pub cache_entries: Option<u64>,
    /// Whether the key store could be reached the last time.
    pub keystore_online: Option<bool>,
    /// Requests to the key store.
    pub keystore_requests: Option<u64>,
    /// Requests in which the key store has failed.
    pub keystore_errors: Option<u64>,
    /// How long all requests to the key store took together.
    pub keystore_time: Option<Duration>,
    /// When the server's certificate expires, in seconds since 1970.
    pub certificate_expires: Option<i64>,
}

impl Details {
    /// Reads `sample`, and returns whether it was one of these.
    fn read(&mut self, Sample { name, labels, value }: &Sample<'_>) -> bool {
        let value = *value;
        let plus = |sum: &mut Option<u64>| add(sum.get_or_insert_default(), value);
        match *name {
            "kes_operation_time_bucket" => {
                // A series for each operation, of which all together are wanted.
                if let Some(bound) = upper_bound(labels) {
                    match self.operation_time.iter_mut().find(|(other, _)| *other == bound) {
                        Some((_, count)) => add(count, value),
                        None => self.operation_time.push((bound, whole(value))),
                    }
                }
            }
            "kes_operation_time_count" => add(&mut self.operation_time_count, value),
            "kes_cache_hits_total" => plus(&mut self.cache_hits),
            "kes_cache_misses_total" => plus(&mut self.cache_misses),
            "kes_cache_entries" => plus(&mut self.cache_entries),
            "kes_keystore_online" => self.keystore_online = Some(value > 0.0),
            "kes_keystore_requests_total" => plus(&mut self.keystore_requests),
            "kes_keystore_errors_total" => plus(&mut self.keystore_errors),
            "kes_keystore_request_seconds_total" => {
                let sum = self.keystore_time.get_or_insert_default();
                *sum = sum.saturating_add(seconds(value));
            }
            "kes_tls_certificate_expiry_timestamp_seconds" => self.certificate_expires = Some(value as i64),
            _ => return false,
        }
        true
    }
}

impl Measurements {
    /// Reads what [`Client::metrics`](crate::Client::metrics) answers. What it does not know is skipped; `None` if that is all.
    ///
    /// ```
    /// use kes_client::Measurements;
    ///
    /// let measured = Measurements::parse("kes_system_num_cpu 4\n").unwrap();
    /// assert_eq!(measured.num_cpu, 4);
    /// assert!(Measurements::parse("<html>").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::default();
        let mut is_any_known = false;
        for sample in text.lines().filter_map(sample) {
            let Sample { name, labels, value } = sample;
            match name {
                "kes_http_request_success" => add(&mut all.request_success, value),
                "kes_http_request_error" => add(&mut all.request_error, value),
                "kes_http_request_failure" => add(&mut all.request_failure, value),
                "kes_http_request_active" => add(&mut all.request_active, value),
                "kes_log_audit_events" => add(&mut all.audit_events, value),
                "kes_log_error_events" => add(&mut all.error_events, value),
                "kes_http_response_time_bucket" => {
                    if let Some(bound) = upper_bound(labels) {
                        all.response_time.push((bound, whole(value)));
                    }
                }
                "kes_http_response_time_sum" => all.response_time_sum = seconds(value),
                "kes_http_response_time_count" => all.response_time_count = whole(value),
                "kes_system_up_time" => all.up_time = seconds(value),
                "kes_system_num_cpu" => all.num_cpu = whole(value),
                "kes_system_num_cpu_used" => all.num_cpu_used = whole(value),
                "kes_system_num_threads" => all.num_threads = whole(value),
                "kes_system_mem_heap_used" => all.mem_heap_used = whole(value),
                "kes_system_mem_heap_objects" => all.mem_heap_objects = whole(value),
                "kes_system_mem_stack_used" => all.mem_stack_used = whole(value),
                _ if all.details.read(&sample) => {}
                _ => continue,
            }
            is_any_known = true;
        }
        all.response_time.sort_unstable();
        all.details.operation_time.sort_unstable();
        is_any_known.then_some(all)
    }
}

/// One line of metrics.
struct Sample<'a> {
    name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    value: f64,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            // A label's value may hold a brace, but no number does.
            let (labels, rest) = rest.rsplit_once('}')?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            (name, "", rest)
        }
    };
    // A point in time may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// The bound of a bucket that has one.
fn upper_bound(labels: &str) -> Option<Duration> {
    let (_, rest) = labels.split_once("le=\"")?;
    let (bound, _) = rest.split_once('"')?;
    let bound: f64 = bound.parse().ok()?;
    bound.is_finite().then(|| seconds(bound))
}

fn add(sum: &mut u64, value: f64) {
    *sum = sum.saturating_add(whole(value));
}

/// A count, of which no sensible one is less than zero.
const fn whole(value: f64) -> u64 {
    value as u64
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let read = Measurements::parse(
            "# HELP kes_http_request_success Requests\n# TYPE kes_http_request_success counter\n\
             kes_http_request_success{code=\"200\"} 12\nkes_http_request_success{code=\"204\"} 3 1700000000000\n\
             kes_http_request_error{code=\"403\",why=\"a}b\"} 1\nkes_http_request_active 2\n\
             kes_http_response_time_bucket{le=\"0.5\"} 14\nkes_http_response_time_bucket{le=\"0.01\"} 9\n\
             kes_http_response_time_bucket{le=\"+Inf\"} 16\nkes_http_response_time_sum 1.25\nkes_http_response_time_count 16\n\
             kes_system_up_time 1.5\nkes_system_mem_heap_used 3.141592e+06\nkes_cache_hits 7\n",
        );
        assert_eq!(
            read.unwrap(),
            Measurements {
                request_success: 15,
                request_error: 1,
                request_active: 2,
                response_time: vec![(Duration::from_millis(10), 9), (Duration::from_millis(500), 14)],
                response_time_sum: Duration::from_millis(1250),
                response_time_count: 16,
                up_time: Duration::from_millis(1500),
                mem_heap_used: 3_141_592,
                ..Measurements::default()
            }
        );
    }

    #[test]
    fn what_only_some_servers_measure_is_read_apart() {
        let read = Measurements::parse(
            "kes_operation_time_bucket{operation=\"a\",le=\"0.001\"} 2\nkes_operation_time_bucket{operation=\"a\",le=\"0.00005\"} 1\n\
             kes_operation_time_bucket{operation=\"a\",le=\"+Inf\"} 3\nkes_operation_time_bucket{operation=\"b\",le=\"0.001\"} 5\n\
             kes_operation_time_count{operation=\"a\"} 3\nkes_operation_time_count{operation=\"b\"} 5\n\
             kes_cache_hits_total 7\nkes_cache_misses_total 2\nkes_cache_entries 1\nkes_keystore_online 0\n\
             kes_keystore_requests_total{operation=\"get\"} 4\nkes_keystore_requests_total{operation=\"list\"} 1\n\
             kes_keystore_errors_total{operation=\"get\"} 1\n\
             kes_keystore_request_seconds_total{operation=\"get\"} 0.5\nkes_keystore_request_seconds_total{operation=\"list\"} 0.25\n\
             kes_tls_certificate_expiry_timestamp_seconds 1700000000\n",
        );
        assert_eq!(
            read.unwrap().details,
            Details {
                operation_time: vec![(Duration::from_micros(50), 1), (Duration::from_millis(1), 7)],
                operation_time_count: 8,
                cache_hits: Some(7),
                cache_misses: Some(2),
                cache_entries: Some(1),
                keystore_online: Some(false),
                keystore_requests: Some(5),
                keystore_errors: Some(1),
                keystore_time: Some(Duration::from_millis(750)),
                certificate_expires: Some(1_700_000_000),
            }
        );
        let older = Measurements::parse("kes_system_up_time 1").unwrap();
        assert_eq!(older.details, Details::default());
    }

    #[test]
    fn what_is_no_metric_is_nothing_and_what_is_no_number_is_zero() {
        for text in [
            "",
            "\n\n",
            "<html>",
            "kes_system_up_time",
            "kes_http_response_time_bucket{le=\"1\" 1",
            "other_metric 1\n# kes_system_up_time 1",
        ] {
            assert_eq!(Measurements::parse(text), None, "{text}");
        }
        for text in [
            "kes_system_up_time NaN",
            "kes_system_up_time -1",
            "kes_system_num_cpu -Inf",
            "kes_http_response_time_bucket{le=\"x\"} 1",
            "kes_http_response_time_bucket{} 1",
        ] {
            assert_eq!(Measurements::parse(text), Some(Measurements::default()), "{text}");
        }
        let endless = Measurements::parse("kes_system_num_cpu +Inf").unwrap();
        assert_eq!(endless.num_cpu, u64::MAX);
    }
}
