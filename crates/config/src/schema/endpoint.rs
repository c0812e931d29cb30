//! Addresses of services: what can be seen of them before anybody connects.

use std::net::IpAddr;

use crate::reader::{Checked, Context, Text};

/// An address, which must be a URL.
pub(crate) fn url(cx: &Context<'_>, text: &Text) -> Checked<String> {
    read(cx, text, |address| address.scheme.is_some())
}

/// An address, which may be a host alone.
pub(crate) fn host_or_url(cx: &Context<'_>, text: &Text) -> Checked<String> {
    read(cx, text, |_| true)
}

fn read(cx: &Context<'_>, text: &Text, is_right: fn(&Address<'_>) -> bool) -> Checked<String> {
    const BAD: &str = "must be an address such as `https://service.example.com:8200`";
    const USER: &str =
        "has a name and a password in it, which belong somewhere else: remove what stands before the `@`";

    let address = text.parse(cx, |text| {
        let address = Address::of(text).filter(is_right).ok_or(BAD)?;
        if address.authority.contains('@') {
            return Err(USER);
        }
        Ok((address.scheme == Some("http"), address.is_loopback()))
    })?;
    if let (true, false) = address {
        cx.warn(
            text.at,
            &text.key,
            "is another machine and has `http`: credentials and keys can be read on the way there; use `https`",
        );
    }
    Ok(text.to_public())
}

/// The parts of an address.
struct Address<'a> {
    scheme: Option<&'a str>,
    authority: &'a str,
}

impl<'a> Address<'a> {
    /// Takes an address apart that is one of HTTP.
    fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let is_one = scheme.is_none_or(|scheme| matches!(scheme, "http" | "https"))
            && !authority.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#'));
        is_one.then_some(Self { scheme, authority })
    }

    /// Whether it is on this machine, so that nobody else sees what is said.
    fn is_loopback(&self) -> bool {
        let host = match self.authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (text, scheme, authority, is_loopback) in [
            ("https://vault:8200/v1", Some("https"), "vault:8200", false),
            ("http://127.0.0.1:8200", Some("http"), "127.0.0.1:8200", true),
            ("http://127.9.9.9", Some("http"), "127.9.9.9", true),
            ("http://[::1]:8200", Some("http"), "[::1]:8200", true),
            (
                "http://[2001:db8::1]:8200/",
                Some("http"),
                "[2001:db8::1]:8200",
                false,
            ),
            ("http://LOCALHOST.:1", Some("http"), "LOCALHOST.:1", true),
            ("http://vault.localhost", Some("http"), "vault.localhost", true),
            (
                "http://localhost.example.com",
                Some("http"),
                "localhost.example.com",
                false,
            ),
            (
                "secretsmanager.REGION.amazonaws",
                None,
                "secretsmanager.REGION.amazonaws",
                false,
            ),
        ] {
            let address = Address::of(text).unwrap();
            assert_eq!((address.scheme, address.authority), (scheme, authority), "{text}");
            assert_eq!(address.is_loopback(), is_loopback, "{text}");
        }
        for text in [
            "",
            "/",
            "https://",
            "https:///v1",
            "ftp://vault",
            "HTTPS //a",
            "https://a b",
            "https://a?b",
            "https://a#b",
            "a\tb",
        ] {
            assert!(Address::of(text).is_none(), "{text}");
        }
    }
}
