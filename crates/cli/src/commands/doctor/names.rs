//! The names in the server's certificate, against those by which clients reach it.

use std::net::IpAddr;

use kes_client::{BadEndpoint, Endpoint};
use rustls_pki_types::ServerName;

use super::finding::Findings;
use super::pki::{Certificate, chain_in};
use super::subject::Subject;
use crate::commands::server::reachable;
use crate::connection;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    // What is wrong with the file is told by another check.
    let Ok(chain) = chain_in(&settings.tls.cert) else {
        return;
    };
    let Some(leaf) = chain.first().and_then(|der| Certificate::parse(der)) else {
        return;
    };
    let names = leaf.names();
    if names.is_empty() {
        return;
    }
    let file = settings.tls.cert.display();
    for (address, source) in given(subject) {
        let host = host(&address).to_owned();
        let Ok(name) = ServerName::try_from(host.clone()) else {
            findings.error(
                format!("'{address}', which {source} names, is neither a host name nor an IP address"),
                "write it as HOST, HOST:PORT or [IPv6]:PORT",
            );
            continue;
        };
        if leaf.is_of(&name) {
            findings
                .ok(format!(
                    "the certificate is good for {host}, which {source} names"
                ))
                .file(&file);
        } else {
            findings
                .error(
                    format!(
                        "the certificate is not good for {host}, which {source} names, but for {}",
                        names.join(", ")
                    ),
                    format!(
                        "make one that is, such as by `kes identity new {} {host}`, or have clients use a name that it has",
                        if host.parse::<IpAddr>().is_ok() { "--ip" } else { "--dns" }
                    ),
                )
                .file(&file)
                .at(subject, "tls.cert");
        }
    }
    let listened = settings.address.candidates();
    let is_specific = listened.iter().all(|address| !address.ip().is_unspecified());
    let missing: Vec<_> = local(settings.address)
        .into_iter()
        .filter(|(name, _)| !ServerName::try_from(name.clone()).is_ok_and(|name| leaf.is_of(&name)))
        .collect();
    if missing.is_empty() {
        findings
            .ok("the certificate is good for every address that the server listens on")
            .file(&file);
        return;
    }
    let shown: Vec<_> = missing
        .iter()
        .map(|(name, what)| format!("{name} ({what})"))
        .collect();
    let what = format!(
        "the certificate has no name for {}; it is good for {}",
        shown.join(", "),
        names.join(", ")
    );
    let remedy = "fine, if no client uses these: see what yours use with `--address HOST`. Else make a certificate that names them";
    let finding = if is_specific {
        findings.warn(what, remedy)
    } else {
        findings.note(what, remedy)
    };
    finding.file(&file);
}

/// The addresses that somebody has named, and who.
pub(super) fn given(subject: &Subject) -> Vec<(String, &'static str)> {
    let options = subject
        .addresses
        .iter()
        .map(|address| (without_secret(address), "--address"));
    let variable = subject.environment.first(connection::SERVER);
    let variable = variable.into_iter().flat_map(|(name, value)| {
        let servers = value
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty());
        servers.map(move |server| (without_secret(server), name))
    });
    options.chain(variable).collect()
}

/// The address without a password or an API key, which have no place there, and which nobody shall read in a report.
fn without_secret(address: &str) -> String {
    match Endpoint::parse(address) {
        Err(BadEndpoint::Malformed(shown)) => shown,
        Err(_) | Ok(_) => address.to_owned(),
    }
}

/// The host of `HOST`, `HOST:PORT`, `[IPv6]:PORT` or a URL.
pub(super) fn host(address: &str) -> &str {
    split(address).0
}

/// Host and port, if there is one.
pub(super) fn split(address: &str) -> (&str, Option<u16>) {
    let address = address.trim();
    let address = address.strip_prefix("https://").unwrap_or(address);
    let address = address.split('/').next().unwrap_or_default();
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match address.rsplit_once(':') {
        // An IPv6 address without brackets has several.
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (address, None),
    }
}

/// Under which names this machine may be reached, and what they are.
fn local(address: kes_config::ListenAddress) -> Vec<(String, &'static str)> {
    let mut names: Vec<(String, &'static str)> = reachable(address)
        .unwrap_or_default()
        .into_iter()
        .map(|ip| (ip.to_string(), "an address of this machine"))
        .collect();
    let is_loopback = |ip: &str| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if names.iter().any(|(name, _)| !is_loopback(name)) {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if crate::certificate::is_host_name(&host) {
            names.push((host, "the name of this machine"));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_no_part_of_an_address() {
        for (address, shown) in [
            ("kes:7373", "kes:7373"),
            ("::1", "::1"),
            ("https://user:secret@kes:7373", "...@kes:7373"),
            ("kes:v1:secret", "kes:v1:..."),
        ] {
            assert_eq!(without_secret(address), shown, "{address}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        for (address, expected) in [
            ("kes", ("kes", None)),
            ("kes:7373", ("kes", Some(7373))),
            ("https://kes.example:7373/", ("kes.example", Some(7373))),
            ("10.0.0.1", ("10.0.0.1", None)),
            ("::1", ("::1", None)),
            ("[::1]:7373", ("::1", Some(7373))),
            ("[::1]", ("::1", None)),
            ("", ("", None)),
            ("[", ("", None)),
        ] {
            assert_eq!(split(address), expected, "{address}");
        }
    }
}
