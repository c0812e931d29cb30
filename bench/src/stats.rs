//! The few statistics that the table needs.

/// A median with the interval that holds the true one with a probability of at least [`Interval::confidence`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) confidence: f64,
}

/// The median; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at((sorted.len() / 2).saturating_sub(1)), at(sorted.len() / 2))
    } else {
        at(sorted.len() / 2)
    }
}

/// The value that `share` of the values do not exceed; 0 of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The interval between two order statistics: it assumes nothing about how the values are distributed.
///
/// The narrowest one with 95 % is taken; with fewer than six values there is none, and the widest is given.
pub(crate) fn median_interval(values: &[f64]) -> Interval {
    let sorted = sorted(values);
    let n = sorted.len();
    let mut rank = 0;
    while 2 * (rank + 1) < n && coverage(n, rank + 1) >= 0.95 {
        rank += 1;
    }
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    Interval {
        median: median(values),
        low: at(rank),
        high: at(n.saturating_sub(1 + rank)),
        confidence: coverage(n, rank),
    }
}

/// How probably the true median lies between the values of rank `rank` and `n - 1 - rank`: each value is above it or below
/// it like a tossed coin.
fn coverage(n: usize, rank: usize) -> f64 {
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut outside = term;
    for k in 1..=rank {
        term *= (n - k + 1) as f64 / k as f64;
        outside += term;
    }
    1.0 - 2.0 * outside
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn eleven_values_give_the_second_to_the_tenth() {
        let values: Vec<f64> = (1..=11).map(f64::from).collect();
        let interval = median_interval(&values);
        assert_eq!((interval.low, interval.median, interval.high), (2.0, 6.0, 10.0));
        assert!((interval.confidence - 0.988).abs() < 0.001, "{interval:?}");
    }

    #[test]
    fn too_few_values_give_all_of_them_and_say_how_little_that_means() {
        let interval = median_interval(&[2.0, 1.0, 3.0]);
        assert_eq!((interval.low, interval.high), (1.0, 3.0));
        assert_eq!(interval.confidence, 0.75);
    }
}
