use kes_keystore::{CommitTimes, StoreGauges};
use kes_types::{Clock as _, ManualClock};

use super::*;
use crate::system::Usage;

fn encode(metrics: &Metrics) -> String {
    encode_with(metrics, None)
}

fn encode_with(metrics: &Metrics, store: Option<&StoreGauges>) -> String {
    metrics.encode(&Readings {
        usage: Usage::now(),
        uptime: Duration::from_secs(7),
        error_events: 1,
        error_events_dropped: 0,
        cache_hits: 2,
        cache_misses: 3,
        cache_entries: 4,
        cache_evicted: 0,
        online: true,
        store,
        now: ManualClock::default().now(),
        certificate_expires: 5,
        version: "v",
        commit: "c",
    })
}

#[test]
fn every_family_has_help_type_and_a_sample() {
    let without = families(&encode(&Metrics::default()));
    assert!(without > 25, "{without}");
    let mut store = StoreGauges::default();
    let with = families(&encode_with(&Metrics::default(), Some(&store)));
    assert_eq!(with, without + 5);
    store.last_backup = Some(ManualClock::default().now());
    let with = families(&encode_with(&Metrics::default(), Some(&store)));
    assert_eq!(with, without + 6);
}

fn families(text: &str) -> usize {
    let mut families = 0;
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let name = help.strip_prefix("# HELP ").unwrap().split(' ').next().unwrap();
        assert!(
            lines.next().unwrap().starts_with(&format!("# TYPE {name} ")),
            "{name}"
        );
        let mut samples = 0;
        while lines.next_if(|line| !line.starts_with('#')).is_some() {
            samples += 1;
        }
        assert!(samples > 0, "{name}");
        families += 1;
    }
    families
}

#[test]
fn a_key_store_of_ours_is_measured_and_no_other_is() {
    let metrics = Metrics::default();
    metrics.answered(Some(Verb::StoreInfo), 200, Duration::from_micros(20));
    let text = encode(&metrics);
    assert!(
        !text.contains("kes_store_") && !text.contains("store_info"),
        "{text}"
    );

    let mut gauges = StoreGauges {
        keys: 7,
        deleted: 2,
        size: 1_589_248,
        last_backup: None,
        commits: CommitTimes {
            counts: [1, 0, 2, 0, 0, 0, 0, 0, 0, 3],
            sum: Duration::from_millis(9_500),
        },
    };
    let text = encode_with(&metrics, Some(&gauges));
    for line in [
        "kes_store_keys 7",
        "kes_store_deleted_keys 2",
        "kes_store_size_bytes 1589248",
        "kes_store_last_backup_timestamp_seconds 0",
        "kes_store_commit_seconds_bucket{le=\"0.001\"} 1",
        "kes_store_commit_seconds_bucket{le=\"0.0025\"} 1",
        "kes_store_commit_seconds_bucket{le=\"0.005\"} 3",
        "kes_store_commit_seconds_bucket{le=\"2.5\"} 3",
        "kes_store_commit_seconds_bucket{le=\"+Inf\"} 6",
        "kes_store_commit_seconds_sum 9.5",
        "kes_store_commit_seconds_count 6",
        "kes_operation_time_count{operation=\"store_info\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("kes_store_backup_age_seconds"));

    let now = ManualClock::default().now();
    for (last, age) in [
        (now - Duration::from_secs(90), 90),
        (now + Duration::from_secs(90), 0),
    ] {
        gauges.last_backup = Some(last);
        let text = encode_with(&metrics, Some(&gauges));
        let at = format!(
            "kes_store_last_backup_timestamp_seconds {}\n",
            last.unix_timestamp()
        );
        assert!(text.contains(&at), "{text}");
        assert!(
            text.contains(&format!("kes_store_backup_age_seconds {age}\n")),
            "{text}"
        );
    }
}

#[test]
fn answers_are_counted_by_class_and_in_cumulative_buckets() {
    let metrics = Metrics::default();
    metrics.answered(Some(Verb::GenerateKey), 200, Duration::from_micros(20));
    metrics.answered(Some(Verb::GenerateKey), 200, Duration::from_millis(60));
    metrics.answered(None, 404, Duration::from_secs(60));
    metrics.answered(Some(Verb::Ready), 504, Duration::ZERO);
    let text = encode(&metrics);
    for line in [
        "kes_http_request_success{code=\"200\"} 2",
        "kes_http_request_error{code=\"400\"} 0",
        "kes_http_request_error{code=\"404\"} 1",
        "kes_http_request_failure{code=\"504\"} 1",
        "kes_http_response_time_bucket{le=\"0.01\"} 2",
        "kes_http_response_time_bucket{le=\"0.1\"} 3",
        "kes_http_response_time_bucket{le=\"10\"} 3",
        "kes_http_response_time_bucket{le=\"+Inf\"} 4",
        "kes_http_response_time_count 4",
        "kes_operation_time_bucket{operation=\"key_generate\",le=\"0.00005\"} 1",
        "kes_operation_time_count{operation=\"key_generate\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn what_is_active_ends_with_its_guard() {
    let metrics = Metrics::default();
    let active = metrics.request();
    assert!(encode(&metrics).contains("kes_http_request_active 1\n"));
    drop(active);
    assert!(encode(&metrics).contains("kes_http_request_active 0\n"));
}
