//! The server's certificate: readable, that of the key, a chain in order, valid, and of a kind that clients take.

use kes_config::Tls;
use kes_server::log::chain as chain_of_causes;

use super::finding::Findings;
use super::pki::{Certificate, Validity, chain_in, date};
use super::subject::Subject;
use crate::commands::server::tls_settings;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    let tls = &settings.tls;
    let chain = match chain_in(&tls.cert) {
        Ok(chain) => chain,
        Err(problem) => {
            findings
                .error(
                    format!("the certificate {problem}"),
                    "name a PEM file with the server's certificate, followed by those of the authorities between it and the root",
                )
                .file(tls.cert.display())
                .at(subject, "tls.cert");
            return;
        }
    };
    // The server's own reading: the key, its password, and whether it belongs to the certificate.
    match kes_server::tls::load(&tls_settings(tls), false) {
        Ok(_) => {
            findings
                .ok("the private key belongs to the certificate")
                .file(tls.key.display());
        }
        Err(error) => {
            findings
                .error(
                    chain_of_causes(&error),
                    "put the right files there: certificate and key are made together, and the key's password, if it has one, is tls.password",
                )
                .at(subject, "tls");
        }
    }
    let certificates: Vec<_> = chain.iter().map(|der| Certificate::parse(der)).collect();
    if certificates.iter().any(Option::is_none) {
        findings
            .error(
                "a certificate in the file is malformed",
                "have it made anew: `kes identity new` makes certificates",
            )
            .file(tls.cert.display());
        return;
    }
    let certificates: Vec<_> = certificates.into_iter().flatten().collect();
    for (index, certificate) in certificates.iter().enumerate() {
        validity(subject, tls, index, certificate, findings);
    }
    order(tls, &certificates, findings);
    if let Some(leaf) = certificates.first() {
        kind(subject, tls, leaf, findings);
    }
}

fn validity(
    subject: &Subject,
    tls: &Tls,
    index: usize,
    certificate: &Certificate<'_>,
    findings: &mut Findings,
) {
    let which = if index == 0 {
        "the certificate".to_owned()
    } else {
        format!(
            "the certificate of the authority '{}' in the file",
            certificate.subject()
        )
    };
    let finding = match certificate.validity(subject.now()) {
        Validity::Valid { until } => findings.ok(format!("{which} is valid until {}", date(until))),
        Validity::EndsSoon { until, left } => findings.warn(
            format!("{which} expires {left}, on {}", date(until)),
            "renew it; the server takes a new file on by itself, and at once on SIGHUP",
        ),
        Validity::Over { since } => findings.error(
            format!("{which} has expired on {}", date(since)),
            "renew it: clients refuse it. If it should be valid, the clock of this machine is wrong",
        ),
        Validity::NotYet { from } => findings.error(
            format!("{which} is valid only from {} on", date(from)),
            "the clock of this machine is behind, or that of the machine that made it was ahead: set them, or wait",
        ),
    };
    finding.file(tls.cert.display());
}

/// Each certificate is followed by that of who vouches for it, up to a root that clients have.
fn order(tls: &Tls, certificates: &[Certificate<'_>], findings: &mut Findings) {
    for (index, pair) in (1..).zip(certificates.windows(2)) {
        if let [certificate, next] = pair
            && !certificate.is_issued_by(next)
        {
            findings
                .error(
                    format!(
                        "certificate {index} of the file is vouched for by '{}', but the next one is of '{}'",
                        certificate.issuer(),
                        next.subject()
                    ),
                    "put the server's certificate first, then each time that of who has issued the one before",
                )
                .file(tls.cert.display());
            return;
        }
    }
    let Some(last) = certificates.last() else { return };
    if certificates.len() == 1 && last.is_self_issued() {
        findings
            .note(
                "the certificate is self-signed",
                "give it to clients as the CA to trust, such as in MINIO_KMS_KES_CAPATH",
            )
            .file(tls.cert.display());
        return;
    }
    if last.is_self_issued() {
        findings
            .fact("the file ends with the root itself, which clients need not be sent")
            .file(tls.cert.display());
        return;
    }
    let system = kes_tls::system_certificates();
    let ends_at_root = system
        .iter()
        .filter_map(|root| Certificate::parse(root))
        .any(|root| last.is_issued_by(&root));
    if ends_at_root {
        findings
            .ok("the chain ends at a root that this system trusts")
            .file(tls.cert.display());
    } else {
        findings
            .note(
                format!(
                    "the chain ends at '{}', which is no root that this system trusts",
                    last.issuer()
                ),
                "if that is an authority between the server and the root, append its certificate to the file; if it is your root, \
                 clients need its certificate",
            )
            .file(tls.cert.display());
    }
}

fn kind(subject: &Subject, tls: &Tls, leaf: &Certificate<'_>, findings: &mut Findings) {
    const ANEW: &str = "make a new one: `kes identity new` makes certificates that every client takes";
    let file = tls.cert.display();
    if leaf.names().is_empty() {
        findings
            .warn(
                "the certificate names no host (no subject alternative name): most clients refuse it",
                "make a new one with the names that clients use: `kes identity new --ip ADDRESS --dns NAME …`",
            )
            .file(&file)
            .at(subject, "tls.cert");
    }
    let (is_servers, _) = leaf.usages();
    if !is_servers {
        findings
            .error(
                "the certificate is not for servers: its extended key usage lacks serverAuth",
                ANEW,
            )
            .file(&file);
    }
    if !leaf.may_sign() {
        findings
            .error(
                "the certificate's key usage lacks digitalSignature, without which no handshake is signed",
                ANEW,
            )
            .file(&file);
    }
    if leaf.is_authority() && !leaf.is_self_issued() {
        findings
            .warn("the certificate is that of an authority, not of a server", ANEW)
            .file(&file);
    }
    for weakness in leaf.weaknesses() {
        findings
            .warn(format!("the certificate {weakness}"), ANEW)
            .file(&file);
    }
}
