//! The counters as text, as Prometheus reads it (text format 0.0.4).
//!
//! The names without `_total` and the families with one sample are what existing dashboards and SDKs read: an SDK refuses
//! a family without a sample, and more than one sample in any family that it knows but the three request counters.
//!
//! What is measured of a key store that the server keeps itself is there only with such a store.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use kes_keystore::{CommitTimes, StoreGauges, StoreOp};
use kes_types::{Timestamp, Verb};

use super::{BUCKETS, FINE_BUCKETS, Histogram, Metrics};
use crate::system::Usage;

/// What the metrics tell that the counters do not know.
#[derive(Debug)]
pub(crate) struct Readings<'a> {
    pub(crate) usage: Usage,
    pub(crate) uptime: Duration,
    pub(crate) error_events: u64,
    pub(crate) error_events_dropped: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) cache_entries: u64,
    pub(crate) cache_evicted: u64,
    pub(crate) online: bool,
    /// Of a key store that the server keeps itself.
    pub(crate) store: Option<&'a StoreGauges>,
    pub(crate) now: Timestamp,
    pub(crate) certificate_expires: i64,
    pub(crate) version: &'a str,
    pub(crate) commit: &'a str,
}

impl Metrics {
    /// Everything, in the text format 0.0.4.
    pub(crate) fn encode(&self, readings: &Readings<'_>) -> String {
        let Readings {
            usage,
            uptime,
            error_events,
            error_events_dropped,
            cache_hits,
            cache_misses,
            cache_entries,
            cache_evicted,
            online,
            store,
            now,
            certificate_expires,
            version,
            commit,
        } = *readings;
        let mut out = String::with_capacity(16 << 10);
        let out = &mut out;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let gauge = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed).max(0);

        self.write_statuses(
            out,
            "kes_http_request_success",
            "Number of requests that succeeded.",
            200,
            200..400,
        );
        self.write_statuses(
            out,
            "kes_http_request_error",
            "Number of requests that the client got wrong.",
            400,
            400..500,
        );
        self.write_statuses(
            out,
            "kes_http_request_failure",
            "Number of requests that the server failed.",
            500,
            500..600,
        );
        one(
            out,
            "kes_http_request_active",
            "gauge",
            "Number of requests that are being answered.",
            gauge(&self.active),
        );
        head(
            out,
            "kes_http_response_time",
            "histogram",
            "Time from request to answer in seconds.",
        );
        self.response_time
            .write(out, "kes_http_response_time", "", BUCKETS.into_iter());
        one(
            out,
            "kes_log_error_events",
            "counter",
            "Number of error log events.",
            error_events,
        );
        one(
            out,
            "kes_log_audit_events",
            "counter",
            "Number of audit log events.",
            count(&self.audit_events),
        );
        one(
            out,
            "kes_system_up_time",
            "gauge",
            "Seconds since the start.",
            uptime.as_secs_f64(),
        );
        one(
            out,
            "kes_system_num_cpu",
            "gauge",
            "Number of processors.",
            usage.cpus,
        );
        one(
            out,
            "kes_system_num_cpu_used",
            "gauge",
            "Number of processors that the server may use.",
            usage.usable_cpus,
        );
        one(
            out,
            "kes_system_num_threads",
            "gauge",
            "Number of threads.",
            usage.threads,
        );
        one(
            out,
            "kes_system_mem_heap_used",
            "gauge",
            "Bytes of anonymous memory.",
            usage.heap,
        );
        let objects = cache_entries + gauge(&self.connections).unsigned_abs() + 1;
        one(
            out,
            "kes_system_mem_heap_objects",
            "gauge",
            "Number of cached keys and connections, plus one.",
            objects,
        );
        one(
            out,
            "kes_system_mem_stack_used",
            "gauge",
            "Bytes of stack.",
            usage.stack,
        );

        head(
            out,
            "kes_operation_time",
            "histogram",
            "Time from request to answer by operation in seconds.",
        );
        for (verb, histogram) in Verb::ALL.iter().zip(self.by_verb.iter()) {
            if verb.is_maintenance() && store.is_none() {
                continue;
            }
            let label = format!("operation=\"{}\"", verb.label());
            let bounds = FINE_BUCKETS
                .iter()
                .map(|&micros| Duration::from_micros(micros).as_secs_f64());
            histogram.write(out, "kes_operation_time", &label, bounds);
        }
        one(
            out,
            "kes_cache_hits_total",
            "counter",
            "Number of keys found in the cache.",
            cache_hits,
        );
        one(
            out,
            "kes_cache_misses_total",
            "counter",
            "Number of keys not found in the cache.",
            cache_misses,
        );
        let help = "Number of keys that left the cache because it was full.";
        one(out, "kes_cache_evicted_total", "counter", help, cache_evicted);
        one(
            out,
            "kes_cache_entries",
            "gauge",
            "Number of cached keys.",
            cache_entries,
        );
        one(
            out,
            "kes_keystore_online",
            "gauge",
            "Whether the key store was reachable when last asked.",
            u8::from(online),
        );
        for (name, help) in [
            (
                "kes_keystore_requests_total",
                "Number of requests to the key store.",
            ),
            (
                "kes_keystore_errors_total",
                "Number of requests that the key store failed.",
            ),
            (
                "kes_keystore_request_seconds_total",
                "Seconds spent waiting for the key store.",
            ),
        ] {
            head(out, name, "counter", help);
            for (op, counters) in StoreOp::ALL.iter().zip(self.store.iter()) {
                let op = op.as_str();
                _ = match name {
                    "kes_keystore_requests_total" => {
                        writeln!(out, "{name}{{operation=\"{op}\"}} {}", count(&counters.requests))
                    }
                    "kes_keystore_errors_total" => {
                        writeln!(out, "{name}{{operation=\"{op}\"}} {}", count(&counters.errors))
                    }
                    _ => {
                        let seconds = Duration::from_nanos(count(&counters.nanos)).as_secs_f64();
                        writeln!(out, "{name}{{operation=\"{op}\"}} {seconds}")
                    }
                };
            }
        }
        if let Some(store) = store {
            write_store(out, store, now);
        }
        head(
            out,
            "kes_tls_handshakes_total",
            "counter",
            "Number of TLS handshakes by result.",
        );
        _ = writeln!(
            out,
            "kes_tls_handshakes_total{{result=\"ok\"}} {}",
            count(&self.handshakes)
        );
        _ = writeln!(
            out,
            "kes_tls_handshakes_total{{result=\"failed\"}} {}",
            count(&self.handshakes_failed)
        );
        let help = "When the server certificate expires, in seconds since 1970.";
        one(
            out,
            "kes_tls_certificate_expiry_timestamp_seconds",
            "gauge",
            help,
            certificate_expires,
        );
        one(
            out,
            "kes_connections",
            "gauge",
            "Number of open connections.",
            gauge(&self.connections),
        );
        let help = "Number of times that the limit of connections was reached.";
        one(
            out,
            "kes_connections_limit_reached_total",
            "counter",
            help,
            count(&self.connection_limit_reached),
        );
        let help = "Number of requests refused because a limit was reached.";
        one(
            out,
            "kes_http_overloaded_total",
            "counter",
            help,
            count(&self.overloaded),
        );
        let help = "Number of audit events that could not be recorded; their requests were answered 503.";
        one(
            out,
            "kes_log_audit_events_lost_total",
            "counter",
            help,
            count(&self.audit_events_lost),
        );
        let help = "Number of error log lines that standard error could not take.";
        one(
            out,
            "kes_log_error_events_dropped_total",
            "counter",
            help,
            error_events_dropped,
        );
        head(out, "kes_build_info", "gauge", "Version of the server.");
        _ = writeln!(
            out,
            "kes_build_info{{version=\"{version}\",commit=\"{commit}\"}} 1"
        );
        std::mem::take(out)
    }

    /// One sample for each status that occurred; a zero for `always`, since no family may be empty.
    fn write_statuses(
        &self,
        out: &mut String,
        name: &str,
        help: &str,
        always: usize,
        range: std::ops::Range<usize>,
    ) {
        head(out, name, "counter", help);
        for status in range {
            let count = status
                .checked_sub(200)
                .and_then(|index| self.by_status.get(index));
            let count = count.map_or(0, |count| count.load(Ordering::Relaxed));
            if count > 0 || status == always {
                _ = writeln!(out, "{name}{{code=\"{status}\"}} {count}");
            }
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn write(&self, out: &mut String, name: &str, label: &str, bounds: impl Iterator<Item = f64>) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed));
        write_histogram(out, name, label, bounds, counts, sum);
    }
}

/// Measurements of a key store that the server keeps itself.
fn write_store(out: &mut String, gauges: &StoreGauges, now: Timestamp) {
    let StoreGauges {
        keys,
        deleted,
        size,
        last_backup,
        commits: CommitTimes { counts, sum },
    } = gauges;
    one(
        out,
        "kes_store_keys",
        "gauge",
        "Number of keys in the key store.",
        keys,
    );
    let help = "Number of deleted keys that can be brought back.";
    one(out, "kes_store_deleted_keys", "gauge", help, deleted);
    one(
        out,
        "kes_store_size_bytes",
        "gauge",
        "Size of the key store.",
        size,
    );
    let help = "When the last backup was read to its end, in seconds since 1970; 0 if there is none.";
    let last = last_backup.map_or(0, Timestamp::unix_timestamp);
    one(
        out,
        "kes_store_last_backup_timestamp_seconds",
        "gauge",
        help,
        last,
    );
    // Without a backup there is no age: a zero would look like a fresh one.
    if let Some(last) = *last_backup {
        let help = "Seconds since the last backup was read to its end; absent if there is none.";
        let age = (now - last).max(time::Duration::ZERO).whole_seconds();
        one(out, "kes_store_backup_age_seconds", "gauge", help, age);
    }
    let (name, bounds) = ("kes_store_commit_seconds", CommitTimes::BOUNDS.into_iter());
    head(
        out,
        name,
        "histogram",
        "Time that the key store took to put changes on disk in seconds.",
    );
    write_histogram(out, name, "", bounds, counts.iter().copied(), *sum);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    head(out, name, kind, help);
    _ = writeln!(out, "{name} {value}");
}

/// The samples of a histogram. `counts` has one more element than `bounds`.
fn write_histogram(
    out: &mut String,
    name: &str,
    label: &str,
    bounds: impl Iterator<Item = f64>,
    counts: impl Iterator<Item = u64>,
    sum: Duration,
) {
    let mut total = 0;
    let comma = if label.is_empty() { "" } else { "," };
    for (count, bound) in counts.zip(bounds.map(Some).chain([None])) {
        total += count;
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {total}");
    }
    let braces = if label.is_empty() {
        String::new()
    } else {
        format!("{{{label}}}")
    };
    let sum = sum.as_secs_f64();
    _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {total}");
}
