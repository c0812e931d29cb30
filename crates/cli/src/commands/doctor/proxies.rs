//! Proxies that the environment names, between the server and a key store behind a network.

use std::net::IpAddr;

use super::finding::Findings;
use super::names::host;
use super::subject::Subject;

const VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(service) = subject.service() else { return };
    let Some((variable, _)) = subject.environment.first(&VARIABLES) else {
        return;
    };
    let endpoint = service.endpoint;
    let host = host(endpoint.strip_prefix("http://").unwrap_or(endpoint));
    let exceptions = subject.environment.first(&["NO_PROXY", "no_proxy"]);
    if is_loopback(host) || exceptions.is_some_and(|(_, list)| is_excepted(host, list)) {
        findings.ok(format!(
            "{variable} is set, and the key store is reached without that proxy"
        ));
    } else if is_near(host) {
        findings
            .warn(
                format!("{variable} is set: the key store at {host} is asked through that proxy, though it seems to be near"),
                format!("add {host} to NO_PROXY, unless the proxy is the way there"),
            )
            .at(subject, &subject.keystore_key());
    } else {
        findings
            .fact(format!(
                "the key store is asked through the proxy that {variable} names"
            ))
            .at(subject, &subject.keystore_key());
    }
}

/// Whether `list`, the value of `NO_PROXY`, names `host` or a domain that it is in.
fn is_excepted(host: &str, list: &str) -> bool {
    let is_below = |domain: &str| {
        let rest = host.strip_suffix(domain);
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    list.split(',').any(|exception| {
        let exception = exception.trim().trim_start_matches('.');
        !exception.is_empty() && (exception == "*" || host == exception || is_below(exception))
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a host is one of this network, by the looks of its name.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
        // A name of the region's own service is empty here.
        Err(_) => {
            !host.is_empty()
                && (!host.contains('.') || host.ends_with(".local") || host.ends_with(".internal"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_a_host_or_a_domain() {
        for list in ["*", "kes.example.com", " .example.com", "a,example.com"] {
            assert!(is_excepted("kes.example.com", list), "{list}");
        }
        for list in ["", ",", "ample.com", "other.example.com", "kes"] {
            assert!(!is_excepted("kes.example.com", list), "{list}");
        }
    }

    #[test]
    fn a_host_is_near_by_its_address_or_a_name_without_a_domain() {
        for near in ["10.1.2.3", "192.168.0.1", "vault", "vault.local", "fd00::1"] {
            assert!(is_near(near), "{near}");
        }
        for far in [
            "",
            "vault.example.com",
            "8.8.8.8",
            "secretsmanager.us-east-2.amazonaws.com",
        ] {
            assert!(!is_near(far), "{far}");
        }
    }
}
