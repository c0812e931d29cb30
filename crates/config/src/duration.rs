//! Durations as Go programs write them: `5m0s`, `1.5h`, `142µs`. The command line prints them the same way.

use std::time::Duration;

/// The longest duration, as the reference counts nanoseconds in 63 bits: about 292 years.
pub const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, the micro sign
    ("μs", 1_000), // U+03BC, the Greek letter
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000), // not in Go, but promised by the documentation of the reference
];

/// A text that is no duration that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// Not a number with a unit, repeated.
    #[error(
        "must be a duration such as `30s`, `5m` or `1h30m`: numbers, each with a unit of ns, us, ms, s, m, h or d"
    )]
    Syntax,
    /// Less than zero.
    #[error("must not be negative")]
    Negative,
    /// More than [`MAX`].
    #[error("must be less than 292 years")]
    TooLong,
}

/// Reads a duration: an optional sign, then one or more decimal numbers, each with its unit. `0` needs no unit.
///
/// # Errors
/// When it is not written like that, negative or too long.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(BadDuration::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        total = total.saturating_add(nanos);
        rest = after;
    }
    if total > MAX.as_nanos() {
        return Err(BadDuration::TooLong);
    }
    if negative && total > 0 {
        return Err(BadDuration::Negative);
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| BadDuration::TooLong)
}

/// One number with its unit at the start of `text`, in nanoseconds, and what follows.
fn component(text: &str) -> Result<(u128, &str), BadDuration> {
    // Digits past these change nothing: the longest unit has 14 digits.
    const WHOLE_DIGITS: usize = 20;
    const FRACTION_DIGITS: usize = 15;

    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(BadDuration::Syntax);
    }
    let unit_len = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_len);
    let unit = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|&(_, nanos)| u128::from(nanos))
        .ok_or(BadDuration::Syntax)?;

    let whole = whole.trim_start_matches('0');
    if whole.len() > WHOLE_DIGITS {
        return Err(BadDuration::TooLong);
    }
    let number = |digits: &str| {
        digits
            .bytes()
            .fold(0u128, |n, digit| n * 10 + u128::from(digit - b'0'))
    };
    let fraction = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    let scale = fraction.bytes().fold(1u128, |scale, _| scale * 10);
    Ok((number(whole) * unit + number(fraction) * unit / scale, after))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes a duration as Go does: `0s`, `142µs`, `1.5s`, `5m0s`, `26h0m0.25s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, per_unit) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let last = decimal(nanos % 60_000_000_000, 1_000_000_000);
            return match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{last}s"),
                (0, minutes) => format!("{minutes}m{last}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
            };
        }
    };
    format!("{}{unit}", decimal(nanos, per_unit))
}

/// `nanos / unit` with as many decimals as it needs. `unit` is a power of ten.
fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("5m0s", 300_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("90s", 90_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100ms", 100_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            ("7ns", 7),
            ("0.1ns", 0),
            ("1d", 86_400_000_000_000),
            ("1d12h", 129_600_000_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.33333333333333333333s", 333_333_333),
            ("0000000000000000000000001s", 1_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_durations() {
        use BadDuration::{Negative, Syntax, TooLong};

        for (text, expected) in [
            ("", Syntax),
            ("-", Syntax),
            ("300", Syntax),
            ("1.5", Syntax),
            ("00", Syntax),
            ("5 m", Syntax),
            (" 5m", Syntax),
            ("5m ", Syntax),
            ("m", Syntax),
            (".s", Syntax),
            (".", Syntax),
            ("5x", Syntax),
            ("5M", Syntax),
            ("5m3", Syntax),
            ("5m-3s", Syntax),
            ("--5m", Syntax),
            ("1e3s", Syntax),
            ("٣s", Syntax),
            ("-5m", Negative),
            ("9223372036854775808ns", TooLong),
            ("293y", Syntax),
            ("106752d", TooLong),
            ("99999999999999999999999999999999999999999999h", TooLong),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (142_000, "142µs"),
            (2_200_000, "2.2ms"),
            (2_002_000, "2.002ms"),
            (1_000_000_000, "1s"),
            (3_300_000_000, "3.3s"),
            (300_000_000_000, "5m0s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (8 * 60_000_000_000 + 1, "8m0.000000001s"),
            (93_600_000_000_000, "26h0m0s"),
            (i64::MAX as u64, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_printed(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.a-zµ ]{0,40}", any in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&any);
        }

        #[test]
        fn no_duration_makes_it_panic(seconds in any::<u64>(), nanos in 0..1_000_000_000u32) {
            prop_assert!(!format(Duration::new(seconds, nanos)).is_empty());
        }
    }
}
