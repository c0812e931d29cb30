//! The addresses under which a server can be reached.

use std::net::IpAddr;

use anyhow::{Context as _, bail};

/// The addresses under which a server that listens on `ip` can be reached.
pub(super) fn of(ip: IpAddr) -> anyhow::Result<Vec<IpAddr>> {
    if !ip.is_unspecified() {
        return Ok(vec![ip]);
    }
    let interfaces = if_addrs::get_if_addrs().context("cannot list the network interfaces")?;
    let up = interfaces
        .iter()
        .filter(|interface| interface.is_oper_up() || interface.is_loopback());
    let reachable = reachable(up.map(if_addrs::Interface::ip));
    if reachable.is_empty() {
        bail!("no network interface has an address");
    }
    Ok(reachable)
}

/// What of `addresses` another machine could use, or this one: those of IPv4 if there are any, each once.
fn reachable(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut usable: Vec<IpAddr> = Vec::new();
    for address in addresses {
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if !is_link_local && !address.is_multicast() && !usable.contains(&address) {
            usable.push(address);
        }
    }
    if usable.iter().any(IpAddr::is_ipv4) {
        usable.retain(IpAddr::is_ipv4);
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(addresses: &[&str]) -> Vec<String> {
        reachable(addresses.iter().map(|ip| ip.parse().unwrap()))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn ipv4_is_preferred_and_local_links_are_left_out() {
        assert_eq!(
            chosen(&["127.0.0.1", "::1", "10.0.0.1", "10.0.0.1", "169.254.1.1"]),
            ["127.0.0.1", "10.0.0.1"]
        );
        assert_eq!(
            chosen(&["::1", "fe80::1", "2001:db8::1", "ff02::1"]),
            ["::1", "2001:db8::1"]
        );
        assert!(chosen(&[]).is_empty());
    }

    #[test]
    fn an_address_of_its_own_is_the_only_one() {
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(of(ip).unwrap(), [ip]);
    }
}
