//! How long a certificate is valid, and when its end is near.

use std::time::Duration;

use kes_types::Timestamp;

/// How long before its end it is said that a certificate ends: long enough for whoever renews it by hand. One that is made for a
/// shorter time, such as the month of `kes identity new`, is not renewed on its first day, so its last third is enough.
const SOON: Duration = Duration::from_hours(30 * 24);

/// From when until when a certificate is valid. Both moments belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// Where a moment stands in the life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Before it.
    NotYetValid,
    /// In it, and not near its end.
    Valid,
    /// In it, but not for long.
    Ending,
    /// After it.
    Expired,
}

impl Validity {
    /// Where `now` stands in it.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Age {
        let Self { from, until } = *self;
        if now > until {
            Age::Expired
        } else if now < from {
            Age::NotYetValid
        } else if until - now <= SOON && (until - now) * 3 <= until - from {
            Age::Ending
        } else {
            Age::Valid
        }
    }

    /// How much of it is left, for people: `in 3 days`.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> String {
        match (self.until - now).whole_days() {
            0 => "in less than a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        }
    }
}

impl Age {
    /// Whether others accept the certificate.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid | Self::Ending)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_end_is_near_from_thirty_days_before_it() {
        let validity = Validity {
            from: datetime!(2026-01-01 0:00 UTC),
            until: datetime!(2026-06-30 12:00 UTC),
        };
        for (now, age) in [
            (datetime!(2025-12-31 23:59 UTC), Age::NotYetValid),
            (datetime!(2026-01-01 0:00 UTC), Age::Valid),
            (datetime!(2026-05-31 11:59 UTC), Age::Valid),
            (datetime!(2026-05-31 12:00 UTC), Age::Ending),
            (datetime!(2026-06-30 12:00 UTC), Age::Ending),
            (datetime!(2026-06-30 12:01 UTC), Age::Expired),
        ] {
            assert_eq!(validity.age(now), age, "{now}");
        }
    }

    #[test]
    fn of_a_month_the_end_is_near_in_its_last_third() {
        let validity = Validity {
            from: datetime!(2026-06-01 0:00 UTC),
            until: datetime!(2026-07-01 0:00 UTC),
        };
        assert_eq!(validity.age(datetime!(2026-06-20 23:59 UTC)), Age::Valid);
        assert_eq!(validity.age(datetime!(2026-06-21 0:00 UTC)), Age::Ending);
    }
}
