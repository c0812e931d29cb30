//! What can be said of the server's own certificate by looking at it: how long it is valid, and what clients will not like.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kes_tls::{Age, Validity};
use kes_types::{Monotonic, Timestamp};
use time::format_description::well_known::Rfc3339;
use tracing::{error, warn};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// How often it is said again that a certificate ends.
const AGAIN: Duration = Duration::from_hours(24);

/// The server's certificate, without those between it and a CA.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Where it comes from; `None` when it was made for this process.
    file: Option<String>,
    names_host: bool,
    /// `None` when that cannot be read.
    validity: Option<Validity>,
}

impl Leaf {
    /// The certificate `der`, which comes from `file`.
    pub(crate) fn new(der: &[u8], file: Option<String>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self {
                file,
                names_host: true,
                validity: None,
            };
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let is_host =
            |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
        let names_host = names.is_some_and(|names| names.value.general_names.iter().any(is_host));
        let validity = certificate.validity();
        Self {
            file,
            names_host,
            validity: Some(Validity {
                from: validity.not_before.to_datetime(),
                until: validity.not_after.to_datetime(),
            }),
        }
    }

    /// When it ends.
    pub(crate) fn expires(&self) -> Timestamp {
        self.validity
            .map_or(Timestamp::UNIX_EPOCH, |validity| validity.until)
    }

    /// When it begins.
    pub(crate) fn begins(&self) -> Timestamp {
        self.validity
            .map_or(Timestamp::UNIX_EPOCH, |validity| validity.from)
    }

    pub(crate) fn age(&self, now: Timestamp) -> Age {
        self.validity.map_or(Age::Valid, |validity| validity.age(now))
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        self.file.as_deref().unwrap_or("<memory>")
    }

    /// When it ends or begins, for people, if that needs their attention.
    pub(crate) fn dates(&self, now: Timestamp) -> Option<String> {
        let show = |time: Timestamp| time.format(&Rfc3339).unwrap_or_default();
        match self.age(now) {
            Age::Valid => None,
            Age::NotYetValid => Some(format!("is not valid before {}", show(self.begins()))),
            Age::Expired => Some(format!("expired at {}", show(self.expires()))),
            Age::Ending => {
                let left = self
                    .validity
                    .map(|validity| validity.left(now))
                    .unwrap_or_default();
                Some(format!("expires at {}, {left}", show(self.expires())))
            }
        }
    }

    /// What is to be said of its dates.
    fn dates_message(&self, now: Timestamp) -> Option<String> {
        let dates = self.dates(now)?;
        let remedy = match (&self.file, self.age(now)) {
            (_, Age::NotYetValid) => {
                "clients refuse it until then, unless the clock of this machine is wrong"
            }
            (Some(_), _) => "put a new one and its key in place of the files, and the server takes them on",
            (None, _) => "a restart makes a new one",
        };
        Some(format!("the TLS certificate {dates}: {remedy}"))
    }

    /// What clients will not like about its names.
    fn names_message(&self) -> Option<&'static str> {
        const NO_HOST: &str = "the TLS certificate names no host (no DNS or IP subject alternative name): most clients will refuse it";
        (!self.names_host).then_some(NO_HOST)
    }

    /// Everything that is to be said of it, each with the file.
    pub(crate) fn concerns(&self, now: Timestamp) -> Vec<String> {
        let dates = self.dates_message(now);
        let all = dates.into_iter().chain(self.names_message().map(str::to_owned));
        all.map(|message| format!("{}: {message}", self.name())).collect()
    }

    /// Logs what clients will not like about its names.
    pub(crate) fn log_names(&self) {
        if let Some(message) = self.names_message() {
            warn!(certificate = self.name(), "{message}");
        }
    }
}

/// When it was last said that the certificate ends, and of which end.
#[derive(Debug, Default)]
pub(crate) struct Reminder(Mutex<Option<(Monotonic, Age, Timestamp)>>);

impl Reminder {
    /// Logs that `leaf` ends or is not valid: at once, and then daily.
    pub(crate) fn remind(&self, leaf: &Leaf, now: Timestamp, monotonic: Monotonic) {
        let (age, expires) = (leaf.age(now), leaf.expires());
        let Some(message) = leaf.dates_message(now) else {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_said = |&(at, said, of): &(Monotonic, Age, Timestamp)| {
            said == age && of == expires && monotonic.since(at) < AGAIN
        };
        if last.as_ref().is_some_and(is_said) {
            return;
        }
        *last = Some((monotonic, age, expires));
        drop(last);
        if age == Age::Expired {
            error!(certificate = leaf.name(), "{message}");
        } else {
            warn!(certificate = leaf.name(), "{message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn leaf() -> Leaf {
        Leaf {
            file: Some("public.crt".to_owned()),
            names_host: true,
            validity: Some(Validity {
                from: datetime!(2026-01-01 0:00 UTC),
                until: datetime!(2026-06-30 12:00 UTC),
            }),
        }
    }

    #[test]
    fn the_dates_are_told_once_the_end_is_near() {
        for (now, age, dates) in [
            (
                datetime!(2025-12-31 23:59 UTC),
                Age::NotYetValid,
                Some("is not valid before 2026-01-01T00:00:00Z"),
            ),
            (datetime!(2026-01-01 0:00 UTC), Age::Valid, None),
            (datetime!(2026-05-31 11:59 UTC), Age::Valid, None),
            (
                datetime!(2026-05-31 12:00 UTC),
                Age::Ending,
                Some("expires at 2026-06-30T12:00:00Z, in 30 days"),
            ),
            (
                datetime!(2026-06-29 11:00 UTC),
                Age::Ending,
                Some("expires at 2026-06-30T12:00:00Z, in 1 day"),
            ),
            (
                datetime!(2026-06-30 12:00 UTC),
                Age::Ending,
                Some("expires at 2026-06-30T12:00:00Z, in less than a day"),
            ),
            (
                datetime!(2026-06-30 12:01 UTC),
                Age::Expired,
                Some("expired at 2026-06-30T12:00:00Z"),
            ),
        ] {
            assert_eq!(leaf().age(now), age, "{now}");
            assert_eq!(leaf().dates(now).as_deref(), dates, "{now}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let leaf = Leaf::new(b"garbage", None);
        let now = datetime!(2026-06-30 12:01 UTC);
        assert_eq!((leaf.age(now), leaf.concerns(now)), (Age::Valid, Vec::new()));
        assert_eq!(leaf.expires(), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn concerns_name_the_file_and_the_remedy() {
        let leaf = Leaf {
            names_host: false,
            ..leaf()
        };
        let [dates, names] = &leaf.concerns(datetime!(2027-01-01 0:00 UTC))[..] else {
            panic!()
        };
        assert_eq!(
            dates,
            "public.crt: the TLS certificate expired at 2026-06-30T12:00:00Z: put a new one and its key in place of the \
             files, and the server takes them on"
        );
        assert!(
            names.starts_with("public.crt: the TLS certificate names no host"),
            "{names}"
        );
    }
}
