//! The names that a certificate is to be valid for, as options give them: `--ip` and `--dns`.

use std::net::IpAddr;

use anyhow::{anyhow, bail};

use crate::certificate;

/// The addresses that `--ip` gives.
pub(super) fn addresses(values: &[String]) -> anyhow::Result<Vec<IpAddr>> {
    let address = |text: &String| {
        text.parse()
            .map_err(|_| anyhow!("invalid value '{text}' for '--ip': want an IP address"))
    };
    elements(values)?.iter().map(address).collect()
}

/// The names that `--dns` gives. A certificate for a name that no client can ask for helps nobody.
pub(super) fn host_names(values: &[String]) -> anyhow::Result<Vec<String>> {
    let names = elements(values)?;
    let is_any = |name: &str| certificate::is_host_name(name.strip_prefix("*.").unwrap_or(name));
    match names.iter().find(|name| !is_any(name)) {
        None => Ok(names),
        Some(name) => Err(anyhow!(
            "invalid value '{}' for '--dns': want a DNS name",
            name.escape_debug()
        )),
    }
}

/// The elements of list options, each of which may be a list with commas, with quotes around elements that hold one. Whatever
/// stands beside a comma is an element, also if it is empty: where a name was meant, its absence is noticed now and not when
/// a client does not trust the certificate.
fn elements(values: &[String]) -> anyhow::Result<Vec<String>> {
    let mut elements = Vec::new();
    for value in values {
        let mut element = String::new();
        let mut chars = value.chars().peekable();
        let mut is_quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => element.push('"'),
                '"' if is_quoted || element.is_empty() => is_quoted = !is_quoted,
                ',' if !is_quoted => elements.push(std::mem::take(&mut element)),
                c => element.push(c),
            }
        }
        if is_quoted {
            bail!("a quote in '{value}' is not closed");
        }
        elements.push(element);
    }
    elements
        .iter_mut()
        .for_each(|element| *element = element.trim().to_owned());
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn list_options_hold_lists() {
        let read = |values: &[&str]| elements(&owned(values));
        assert_eq!(read(&["a", "b, c"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(read(&[r#""a,b",c"#, r#""d""e""#]).unwrap(), ["a,b", "c", "d\"e"]);
        assert!(read(&[]).unwrap().is_empty());
        assert!(read(&["\"a"]).is_err());
    }

    #[test]
    fn names_that_no_client_can_ask_for_are_refused() {
        for good in ["localhost", "kes.example.net", "*.example.net", "kes_1", "a, b"] {
            assert!(host_names(&owned(&[good])).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "a,",
            "a b",
            "a..b",
            "*",
            "ü.de",
            "a\nb",
            "127.0.0.1",
            "\"a,b\"",
            "https://a",
        ] {
            let error = host_names(&owned(&[bad])).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid value '") && error.ends_with("' for '--dns': want a DNS name"),
                "{bad:?}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn addresses_are_addresses() {
        let read = |value: &str| addresses(&owned(&[value]));
        assert_eq!(read("127.0.0.1, ::1").unwrap().len(), 2);
        for bad in [
            "",
            "127.0.0.1,",
            "127.0.0.1,,::1",
            "127.0.0.1:80",
            "[::1]",
            "localhost",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(
                error.ends_with("' for '--ip': want an IP address"),
                "{bad:?}: {error}"
            );
        }
    }
}
