//! Sizes and times for people: no more digits than they read.

use std::time::Duration;

/// How long a server has been up, in the largest unit that says something. Never more than it was.
pub(crate) fn uptime(seconds: u64) -> String {
    let count = |number: u64, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => count(seconds, "second"),
        (0, 0, _) => count(minutes, "minute"),
        (0, _, _) => count(hours, "hour"),
        _ => format!("{} {}", count(days, "day"), count(hours % 24, "hour")),
    }
}

/// A number of bytes in decimal units with one decimal.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{}{name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}B"),
    }
}

/// So many nanoseconds with about three digits.
pub(crate) fn rounded(nanos: u64) -> Duration {
    const MICROSECOND: u64 = 1_000;
    const MILLISECOND: u64 = 1_000 * MICROSECOND;
    const SECOND: u64 = 1_000 * MILLISECOND;
    let unit = match nanos {
        SECOND.. => SECOND / 10,
        _ if nanos >= 10 * MILLISECOND => MILLISECOND,
        MILLISECOND.. => MILLISECOND / 10,
        _ if nanos >= 10 * MICROSECOND => MICROSECOND,
        _ => 1,
    };
    Duration::from_nanos(nanos.saturating_add(unit / 2) / unit * unit)
}

#[cfg(test)]
mod tests {
    use kes_config::duration;

    use super::*;

    #[test]
    fn time_is_cut_and_not_rounded() {
        for (seconds, want) in [
            (0, "0 seconds"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (86_399, "23 hours"),
            (129_600, "1 day 12 hours"),
            (172_799, "1 day 23 hours"),
        ] {
            assert_eq!(uptime(seconds), want);
        }
    }

    #[test]
    fn a_latency_has_about_three_digits() {
        for (nanos, want) in [
            (0, "0s"),
            (999, "999ns"),
            (9_999, "9.999µs"),
            (142_300, "142µs"),
            (142_500, "143µs"),
            (1_249_999, "1.2ms"),
            (12_600_000, "13ms"),
            (1_260_000_000, "1.3s"),
            (63_249_000_000, "1m3.2s"),
        ] {
            assert_eq!(duration::format(rounded(nanos)), want, "{nanos}");
        }
    }
}
