//! The files of certificates that others are believed by: clients, and the service that keeps the keys.

use std::path::Path;

use kes_config::AuthMode;
use kes_server::log::chain as chain_of_causes;

use super::finding::Findings;
use super::pki::{Certificate, Validity, date};
use super::subject::Subject;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    match (&settings.tls.ca, settings.tls.auth) {
        (Some(ca), AuthMode::On) => file(subject, ca, "tls.ca", findings),
        (Some(_), AuthMode::Off) => {
            findings
                .note(
                    "tls.ca has no effect, since client certificates are not verified (tls.auth is off)",
                    "set tls.auth to on, or remove tls.ca. Policies go by public keys in both cases",
                )
                .at(subject, "tls.ca");
        }
        (None, AuthMode::On) => {
            findings
                .note(
                    "clients are verified against all authorities that this system trusts",
                    "name the authority of your clients in tls.ca",
                )
                .at(subject, "tls.auth");
        }
        (None, AuthMode::Off) => {}
    }
    if let Some(ca) = subject.service().and_then(|service| service.ca) {
        let key = format!("{}.tls.ca", subject.keystore_key());
        file(subject, ca, &key, findings);
    }
}

fn file(subject: &Subject, path: &Path, key: &str, findings: &mut Findings) {
    let found = match kes_tls::certificates_at(path) {
        Ok(found) => found,
        Err(error) => {
            findings
                .error(
                    chain_of_causes(&error),
                    "name a PEM file of CA certificates, or a folder with nothing else in it",
                )
                .at(subject, key);
            return;
        }
    };
    if found.is_empty() {
        findings
            .error(
                "there is no CA certificate in it",
                "name a PEM file of CA certificates",
            )
            .file(path.display())
            .at(subject, key);
        return;
    }
    for found in &found {
        let Some(certificate) = Certificate::parse(&found.certificate) else {
            continue;
        };
        let name = certificate.subject();
        let finding = match certificate.validity(subject.now()) {
            Validity::Valid { until } => {
                findings.ok(format!("the authority '{name}' is valid until {}", date(until)))
            }
            Validity::EndsSoon { until, left } => findings.warn(
                format!(
                    "the certificate of the authority '{name}' expires {left}, on {}",
                    date(until)
                ),
                "get its successor, and have both in the file for a while",
            ),
            Validity::Over { since } => findings.error(
                format!(
                    "the certificate of the authority '{name}' has expired on {}",
                    date(since)
                ),
                "replace it by its successor",
            ),
            Validity::NotYet { from } => findings.error(
                format!(
                    "the certificate of the authority '{name}' is valid only from {} on",
                    date(from)
                ),
                "set the clock of this machine, or wait",
            ),
        };
        finding.file(found.path.display());
    }
}
