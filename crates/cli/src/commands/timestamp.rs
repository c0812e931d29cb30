//! Points in time for people.

use kes_types::Timestamp;
use time::UtcOffset;
use time::macros::format_description;

/// `YYYY-MM-DD HH:MM:SS` in the time zone of whoever reads it, or in UTC if that cannot be found out. To be called when
/// no thread but the main one is left, since reading the time zone is not safe otherwise.
pub(crate) fn local(at: Timestamp) -> String {
    in_zone(at, zone(at))
}

/// The time zone of whoever reads it, or UTC if that cannot be found out. To be called as [`local`].
pub(crate) fn zone(at: Timestamp) -> UtcOffset {
    UtcOffset::local_offset_at(at).unwrap_or(UtcOffset::UTC)
}

/// `HH:MM:SS` in the time zone of `at`.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    at.format(format_description!("[hour]:[minute]:[second]"))
        .unwrap_or_default()
}

fn in_zone(at: Timestamp, zone: UtcOffset) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.to_offset(zone).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, offset};

    use super::*;

    #[test]
    fn the_zone_moves_the_hour() {
        assert_eq!(
            in_zone(datetime!(2024-05-01 23:30:01.5 UTC), offset!(+2)),
            "2024-05-02 01:30:01"
        );
    }
}
