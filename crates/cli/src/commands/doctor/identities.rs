//! Who has the identities of the configuration: the certificates and API keys at hand, against admin, policies and proxies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kes_config::AuthMode;
use kes_types::Identity;

use super::finding::Findings;
use super::pki::{Certificate, Validity, chain_in, date};
use super::policies;
use super::subject::Subject;
use crate::commands::identity::identity_of;

/// How many files of a folder are looked at.
const MOST_FILES: usize = 1_000;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let known = policies::identities(subject);
    let mut at_hand: BTreeMap<Identity, String> = BTreeMap::new();
    for (index, client) in subject.clients.iter().enumerate() {
        // An API key is a secret.
        let is_file = Path::new(client).exists();
        let name = if is_file {
            client.clone()
        } else {
            format!("the API key of --client-cert number {}", index + 1)
        };
        let identity = match identity_of(client) {
            Ok(identity) if is_file || client.starts_with("kes:") || identity.is_digest() => identity,
            Ok(_) | Err(_) => {
                findings.error(
                    format!(
                        "{} is no certificate and no API key",
                        if is_file {
                            &name
                        } else {
                            "what --client-cert names"
                        }
                    ),
                    "name a PEM file with a certificate, or an API key",
                );
                continue;
            }
        };
        match known.iter().find(|(known, _)| *known == identity) {
            Some((_, key)) => {
                findings
                    .ok(format!("{name} has the identity {}", short(&identity)))
                    .at(subject, key);
            }
            None => {
                findings.warn(
                    format!("{name} has the identity {identity}, which no policy names and which is not the admin's: it may do nothing"),
                    "add the identity to the policy that it should have",
                );
            }
        }
        if is_file {
            validity(subject, Path::new(client), &name, findings);
        }
        at_hand.insert(identity, name);
    }
    for (identity, file) in beside(subject) {
        at_hand
            .entry(identity)
            .or_insert_with(|| file.display().to_string());
    }
    if at_hand.is_empty() {
        if !known.is_empty() {
            findings.note(
                "there is no certificate at hand to compare identities with",
                "name certificates or API keys of clients: --client-cert FILE",
            );
        }
        return;
    }
    for (identity, key) in known.iter().filter(|(identity, _)| identity.is_digest()) {
        match at_hand.get(identity) {
            Some(name) => {
                findings
                    .ok(format!("the identity {} is that of {name}", short(identity)))
                    .at(subject, key);
            }
            None => {
                findings
                    .note(
                        format!("no certificate at hand has the identity {}", short(identity)),
                        "if its client is refused, compare with what `kes identity of` prints of its certificate",
                    )
                    .at(subject, key);
            }
        }
    }
}

fn short(identity: &Identity) -> String {
    let text: String = identity.as_str().chars().take(12).collect();
    format!("{text}…")
}

/// A client's certificate needs to be valid only where it is verified.
fn validity(subject: &Subject, file: &Path, name: &str, findings: &mut Findings) {
    let is_verified = subject
        .settings
        .as_ref()
        .is_some_and(|settings| settings.tls.auth == AuthMode::On);
    let Ok(chain) = chain_in(file) else { return };
    let Some(certificate) = chain.first().and_then(|der| Certificate::parse(der)) else {
        return;
    };
    let when = match certificate.validity(subject.now()) {
        Validity::Valid { .. } => None,
        Validity::EndsSoon { until, .. } => Some((format!("expires on {}", date(until)), false)),
        Validity::Over { since } => Some((format!("has expired on {}", date(since)), true)),
        Validity::NotYet { from } => Some((format!("is valid only from {} on", date(from)), true)),
    };
    match (when, is_verified) {
        (Some((when, true)), true) => {
            findings
                .error(
                    format!("{name} {when}, and the server verifies clients (tls.auth)"),
                    "renew it",
                )
                .file(file.display());
        }
        (Some((when, false)), true) => {
            findings
                .warn(format!("{name} {when}"), "renew it")
                .file(file.display());
        }
        (Some((when, _)), false) => {
            findings
                .fact(format!(
                    "{name} {when}, which this server does not look at (tls.auth is off)"
                ))
                .file(file.display());
        }
        (None, _) => {}
    }
    if is_verified && !certificate.usages().1 {
        findings
            .error(
                format!("{name} is not for clients: its extended key usage lacks clientAuth"),
                "have one made that is",
            )
            .file(file.display());
    }
}

/// The certificates in the folders of the configuration and of the server's certificate.
fn beside(subject: &Subject) -> Vec<(Identity, PathBuf)> {
    let Some(settings) = &subject.settings else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = [&subject.path, &settings.tls.cert]
        .iter()
        .filter_map(|file| file.parent())
        .map(|folder| {
            if folder.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                folder.to_owned()
            }
        })
        .collect();
    folders.dedup();
    let entries = folders
        .iter()
        .filter_map(|folder| folder.read_dir().ok())
        .flat_map(|entries| entries.flatten().take(MOST_FILES));
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("crt" | "cert" | "pem" | "cer"))
        })
        .collect();
    files.sort();
    let own = settings.tls.cert.canonicalize().ok();
    files.retain(|file| file.canonicalize().ok() != own);
    files
        .into_iter()
        .filter_map(|file| {
            let chain = chain_in(&file).ok()?;
            let identity = Certificate::parse(chain.first()?)?.identity();
            Some((identity, file))
        })
        .collect()
}
