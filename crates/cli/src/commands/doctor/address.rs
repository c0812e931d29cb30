//! Where the server listens: nobody there, or a server of ours, which is compared with the files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use kes_config::ListenAddress;

use super::finding::Findings;
use super::names::{given, split};
use super::pki::{Certificate, chain_in, date};
use super::running::{self, Listener};
use super::subject::Subject;

/// How far two clocks may be apart: what one second of resolution and a slow answer make of it, and nobody notices.
const SKEW: Duration = Duration::from_secs(5);

pub(super) async fn check(subject: Arc<Subject>) -> Findings {
    let mut findings = Findings::of("address");
    let Some(settings) = &subject.settings else {
        return findings;
    };
    let first = settings.address.candidates().first().copied();
    match (bind(settings.address), first) {
        (Some(Ok(_)), _) if settings.address.port() != 0 => {
            findings.fact(format!(
                "nothing listens on {} yet: the server is not running",
                settings.address
            ));
        }
        (Some(Ok(_)), _) | (_, None) => {}
        (Some(Err(error)), Some(address)) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let address = SocketAddr::new(reached_by(address.ip()), address.port());
            let what = running::ask(&address.ip().to_string(), address.port(), subject.now()).await;
            taken(&subject, &address.to_string(), &what, &mut findings);
        }
        (Some(Err(error)), _) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            findings
                .error(
                    format!("who runs this may not listen on {}: {error}", settings.address),
                    "use a port from 1024 on, or give the server the capability NET_BIND_SERVICE",
                )
                .at(&subject, "address");
        }
        (Some(Err(error)), _) => {
            findings
                .error(
                    format!("nobody can listen on {}: {error}", settings.address),
                    "name an address of this machine, or :PORT for all of them",
                )
                .at(&subject, "address");
        }
        (None, Some(address)) => {
            findings
                .error(
                    format!("this machine has no such address: {}", address.ip()),
                    "name an address of this machine (`ip address` shows them), or :PORT for all of them",
                )
                .at(&subject, "address");
        }
    }
    if let Some(health) = &settings.health {
        health_address(&subject, &health.address, &mut findings);
    }
    for (address, source) in given(&subject) {
        let (host, port) = split(&address);
        let port = port.unwrap_or(7373);
        match running::ask(host, port, subject.now()).await {
            Listener::Nobody => {
                findings
                    .fact(format!(
                        "nobody listens there, where {source} has clients connect"
                    ))
                    .endpoint(format!("{host}:{port}"));
            }
            Listener::Unreachable(reason) => {
                findings
                    .warn(
                        format!("{source} names what cannot be reached from here: {reason}"),
                        "look at names and firewalls between clients and the server",
                    )
                    .endpoint(format!("{host}:{port}"));
            }
            what @ (Listener::NoTls(_) | Listener::Tls(_)) => {
                taken(&subject, &format!("{host}:{port}"), &what, &mut findings);
            }
        }
    }
    findings
}

/// Where probes are answered. Who holds it cannot be told from outside: it is the server that runs, or something else.
fn health_address(subject: &Subject, address: &ListenAddress, findings: &mut Findings) {
    match bind(*address) {
        Some(Ok(_)) => {}
        Some(Err(error)) if error.kind() == std::io::ErrorKind::AddrInUse => {
            findings
                .note(
                    format!("something listens on {address} already: if this server is not running, it cannot start"),
                    "give the health listener another port, or stop what holds this one (`ss -ltnp` shows it)",
                )
                .at(subject, "health.address");
        }
        Some(Err(error)) => {
            findings
                .error(
                    format!("nobody can listen on {address}: {error}"),
                    "name an address of this machine and a port from 1024 on",
                )
                .at(subject, "health.address");
        }
        None => {
            findings
                .error(
                    format!("this machine has no such address: {address}"),
                    "name an address of this machine, such as 127.0.0.1",
                )
                .at(subject, "health.address");
        }
    }
}

/// Listens on `address` for a moment. `None` when this machine has no such address.
fn bind(address: ListenAddress) -> Option<std::io::Result<TcpListener>> {
    let candidates = address.candidates();
    candidates.iter().map(TcpListener::bind).find(|bound| {
        // Where there is no IPv6, the next one has its turn.
        !matches!(bound, Err(error) if is_absent(error))
    })
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
}

/// Where this machine reaches what listens on `ip`.
const fn reached_by(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// What listens where the server should.
fn taken(subject: &Subject, address: &str, what: &Listener, findings: &mut Findings) {
    let server = match what {
        Listener::Tls(server) => server,
        Listener::NoTls(reason) => {
            findings
                .error(
                    format!("something listens here that is no KES server: {reason}"),
                    "stop it, or give the server another address",
                )
                .endpoint(address)
                .at(subject, "address");
            return;
        }
        Listener::Nobody | Listener::Unreachable(_) => {
            findings
                .warn(
                    "the address is taken, but nothing answers",
                    "find out what holds it (`ss -ltnp` shows it), and stop that",
                )
                .endpoint(address)
                .at(subject, "address");
            return;
        }
    };
    match &server.version {
        Ok(version) => {
            findings
                .ok(format!("a KES server of version {version} runs"))
                .endpoint(address);
            if version != crate::version::VERSION {
                findings
                    .note(
                        format!("this program is of version {}", crate::version::VERSION),
                        "restart the server to have it run this version",
                    )
                    .endpoint(address);
            }
        }
        Err(reason) => {
            findings
                .note(
                    format!("a TLS server listens here that does not tell us its version: {reason}"),
                    "with tls.auth on, only clients with a certificate of yours are told: `kes status` asks as one of them",
                )
                .endpoint(address);
        }
    }
    compare(subject, address, &server.leaf, findings);
    if let Some((there, took)) = server.clock {
        let apart = (subject.now() - there).unsigned_abs();
        if apart > SKEW + took {
            findings
                .warn(
                    format!(
                        "the clocks of this machine and of the server are {} s apart",
                        apart.as_secs()
                    ),
                    "let both take the time from the same servers (NTP): certificates and services go by it",
                )
                .endpoint(address);
        }
    }
}

/// Compares the certificate that is used with the one in the file.
fn compare(subject: &Subject, address: &str, leaf: &[u8], findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    let Ok(chain) = chain_in(&settings.tls.cert) else {
        return;
    };
    if chain.first().is_some_and(|own| own == leaf) {
        findings
            .ok("the running server uses the certificate in the file")
            .endpoint(address);
        return;
    }
    let until = Certificate::parse(leaf).map(|leaf| leaf.validity(subject.now()));
    let until = until.map(|validity| match validity {
        super::pki::Validity::Valid { until } | super::pki::Validity::EndsSoon { until, .. } => {
            format!(", valid until {}", date(until))
        }
        super::pki::Validity::Over { since } => format!(", which has expired on {}", date(since)),
        super::pki::Validity::NotYet { from } => format!(", valid from {}", date(from)),
    });
    findings
        .warn(
            format!(
                "what runs here does not use the certificate in the file, but another one{}",
                until.unwrap_or_default()
            ),
            "if it is this server, it takes the file on within seconds, or says in its error log why it cannot. If it is another \
             one, give this one another address",
        )
        .endpoint(address)
        .file(settings.tls.cert.display());
}
