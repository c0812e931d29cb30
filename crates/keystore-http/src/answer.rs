//! What a service answers.

use std::fmt;
use std::time::Duration;

use ::http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use kes_crypto::SecretBytes;
use reqwest::StatusCode;

/// An answer, read to its end. `Debug` shows the size of the body only.
pub struct Answer {
    /// Whether it went well. Redirects are not followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, in memory that is cleared.
    pub body: SecretBytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// How long the service asks to wait before the next request. A date counts from the answer's own date, so that clocks need
/// not agree.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |value: &str| {
        const HTTP_DATE: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        time::PrimitiveDateTime::parse(value, HTTP_DATE).ok()
    };
    let wait = date(value)? - date(text(DATE)?)?;
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    fn asks(headers: &[(HeaderName, &'static str)]) -> Option<u64> {
        let headers = headers.iter().cloned();
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        retry_after(&headers.collect()).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_service_asks_to_wait_for_seconds_or_until_a_date() {
        const NOW: &str = "Sat, 21 Nov 2026 23:59:58 GMT";
        const THEN: &str = "Sun, 22 Nov 2026 00:00:03 GMT";
        for (retry_after, date, wait) in [
            ("0", NOW, Some(0)),
            ("120", NOW, Some(120)),
            (" 7 ", NOW, Some(7)),
            (THEN, NOW, Some(5)),
            (NOW, NOW, Some(0)),
            (NOW, THEN, Some(0)),
            (THEN, "now", None),
            ("soon", NOW, None),
            ("-1", NOW, None),
            ("1.5", NOW, None),
            ("99999999999999999999", NOW, None),
            ("", NOW, None),
        ] {
            let headers = [(RETRY_AFTER, retry_after), (DATE, date)];
            assert_eq!(asks(&headers), wait, "{retry_after:?} at {date:?}");
        }
        assert_eq!(asks(&[(RETRY_AFTER, THEN)]), None);
        assert_eq!(asks(&[(DATE, NOW)]), None);
    }
}
