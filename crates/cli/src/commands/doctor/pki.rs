//! Certificates, as far as the checks look into them.

use std::path::Path;

use kes_crypto::pem;
use kes_tls::Age;
use kes_types::{Identity, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// What is read of a file of certificates.
pub(super) fn chain_in(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = kes_tls::read_regular_file(path).map_err(|error| format!("cannot be read: {error}"))?;
    pem::certificates(&text).map_err(|error| format!("is not usable: {error}"))
}

/// A certificate.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

/// When a certificate is valid, seen from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Valid {
        until: Timestamp,
    },
    /// It is, but not for long.
    EndsSoon {
        until: Timestamp,
        /// How much is left, for people.
        left: String,
    },
    Over {
        since: Timestamp,
    },
    NotYet {
        from: Timestamp,
    },
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(Self { der, parsed })
    }

    pub(super) fn identity(&self) -> Identity {
        kes_crypto::identity_of_spki(self.parsed.public_key().raw)
    }

    /// Whom it is of, for people.
    pub(super) fn subject(&self) -> String {
        name(&self.parsed.subject().to_string())
    }

    /// Who vouches for it, for people.
    pub(super) fn issuer(&self) -> String {
        name(&self.parsed.issuer().to_string())
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.parsed.subject().as_raw() == self.parsed.issuer().as_raw()
    }

    /// Whether `issuer` has the name of who vouches for this one.
    pub(super) fn is_issued_by(&self, issuer: &Self) -> bool {
        self.parsed.issuer().as_raw() == issuer.parsed.subject().as_raw()
    }

    pub(super) fn validity(&self, now: Timestamp) -> Validity {
        let validity = self.parsed.validity();
        let from = validity.not_before.to_datetime();
        let until = validity.not_after.to_datetime();
        let validity = kes_tls::Validity { from, until };
        match validity.age(now) {
            Age::NotYetValid => Validity::NotYet { from },
            Age::Valid => Validity::Valid { until },
            Age::Ending => Validity::EndsSoon {
                until,
                left: validity.left(now),
            },
            Age::Expired => Validity::Over { since: until },
        }
    }

    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.parsed.basic_constraints().ok().flatten();
        constraints.is_some_and(|constraints| constraints.value.ca)
    }

    /// The hosts that it is of.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice());
        names
            .unwrap_or_default()
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                    Ok(bytes) => Some(std::net::IpAddr::from(bytes).to_string()),
                    Err(_) => <[u8; 16]>::try_from(*bytes)
                        .ok()
                        .map(|bytes| std::net::IpAddr::from(bytes).to_string()),
                },
                _ => None,
            })
            .collect()
    }

    /// Whether clients take it for that of `host`.
    pub(super) fn is_of(&self, host: &ServerName<'_>) -> bool {
        let der = CertificateDer::from(self.der);
        ParsedCertificate::try_from(&der).is_ok_and(|parsed| verify_server_name(&parsed, host).is_ok())
    }

    /// Whether its extended key usage, if there is one, has that of a server, and of a client.
    pub(super) fn usages(&self) -> (bool, bool) {
        let usage = self.parsed.extended_key_usage().ok().flatten();
        usage.map_or((true, true), |usage| {
            let usage = usage.value;
            (usage.any || usage.server_auth, usage.any || usage.client_auth)
        })
    }

    /// Whether its key usage, if there is one, lets it sign handshakes.
    pub(super) fn may_sign(&self) -> bool {
        let usage = self.parsed.key_usage().ok().flatten();
        usage.is_none_or(|usage| usage.value.digital_signature())
    }

    /// What is weak about it.
    pub(super) fn weaknesses(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.parsed.version().0 == 0 {
            found.push("is of X.509 version 1, which many clients refuse".to_owned());
        }
        if let Ok(PublicKey::RSA(key)) = self.parsed.public_key().parsed()
            && key.key_size() < 2048
        {
            found.push(format!(
                "has an RSA key of {} bits, fewer than 2048",
                key.key_size()
            ));
        }
        // sha1WithRSAEncryption, md5WithRSAEncryption, ecdsa-with-SHA1
        const BROKEN: [&str; 3] = [
            "1.2.840.113549.1.1.5",
            "1.2.840.113549.1.1.4",
            "1.2.840.10045.4.1",
        ];
        let algorithm = self.parsed.signature_algorithm.algorithm.to_id_string();
        if BROKEN.contains(&algorithm.as_str()) {
            found.push("is signed with SHA-1 or MD5".to_owned());
        }
        found
    }
}

/// A name may be empty, and long.
fn name(name: &str) -> String {
    if name.is_empty() {
        return "(no name)".to_owned();
    }
    name.chars().take(100).collect()
}

/// A date, for people.
pub(super) fn date(time: Timestamp) -> String {
    time.date().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;
    use crate::certificate::{self, Subject};

    fn validity(days: u64, age: i64) -> Validity {
        let from = datetime!(2026-01-01 00:00 UTC);
        let subject = Subject {
            common_name: "a",
            dns: &[],
            ip: &[],
            from,
            validity: Duration::from_hours(24 * days),
            usages: Vec::new(),
        };
        let (pem, _) = certificate::for_any_client(subject).unwrap();
        let chain = pem::certificates(pem.as_bytes()).unwrap();
        let certificate = Certificate::parse(&chain[0]).unwrap();
        certificate.validity(from + time::Duration::days(age))
    }

    #[test]
    fn a_pipe_is_no_file_of_certificates_and_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("public.crt");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let error = chain_in(&pipe).unwrap_err();
        assert!(error.contains("it is a pipe, not a file"), "{error}");
    }

    #[test]
    fn a_certificate_ends_soon_within_30_days_and_in_the_last_third_of_its_time() {
        for (days, age, soon) in [
            (365, 300, false),
            (365, 340, true),
            (30, 1, false),
            (30, 25, true),
        ] {
            let is_soon = matches!(validity(days, age), Validity::EndsSoon { .. });
            assert_eq!(is_soon, soon, "{days} {age}");
        }
        assert!(matches!(validity(30, -1), Validity::NotYet { .. }));
        assert!(matches!(validity(30, 31), Validity::Over { .. }));
        assert!(
            matches!(validity(365, 340), Validity::EndsSoon { left, .. } if left == "in 25 days"),
            "{:?}",
            validity(365, 340)
        );
    }
}
