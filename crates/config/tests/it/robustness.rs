//! Texts that nobody meant as a configuration.

use kes_config::Overrides;
use proptest::prelude::*;

use super::{errors, load, minimal, settings, warnings};

#[test]
fn windows_editors_are_fine() {
    let unix = minimal("policy:\n  p:\n    allow:\n    - /v1/api\n");
    let windows = format!("\u{feff}{}", unix.replace('\n', "\r\n"));
    assert_eq!(settings(&unix), settings(&windows));
}

#[test]
fn only_the_first_document_counts() {
    let text = minimal("---\naddress: nonsense\n");
    assert_eq!(
        warnings(&text),
        ["kes.yml:4: a second document begins here; only the first is read"]
    );
}

#[test]
fn endless_texts_are_refused_at_once() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in ('b'..='z').zip('a'..) {
        let item = format!("*{last}");
        bomb.push_str(&format!("{this}: &{this} [{}]\n", [item.as_str(); 9].join(", ")));
    }
    assert!(
        errors(&bomb)[0].contains("aliases stand for more"),
        "{:?}",
        errors(&bomb)
    );
    assert!(errors(&format!("policy: {}", "[".repeat(10_000)))[0].contains("is not valid YAML"));
    assert!(errors(&format!("#{}", "x".repeat(1 << 20)))[0].contains("larger than 1 MiB"));
}

#[test]
fn many_policies_are_fine() {
    let policies: String = (0..2000)
        .map(|i| format!("  p{i}:\n    allow: [/v1/key/create/p{i}-*]\n    identities: [{i:064x}]\n"))
        .collect();
    assert_eq!(
        settings(&minimal(&format!("policy:\n{policies}"))).policies.len(),
        2000
    );
}

/// Parts that configurations are made of, in whatever order.
fn part() -> impl Strategy<Value = String> {
    let words = [
        "address",
        "admin",
        "identity",
        "root",
        "tls",
        "key",
        "cert",
        "proxy",
        "identities",
        "header",
        "api",
        "/v1/ready",
        "skip_auth",
        "timeout",
        "policy",
        "allow",
        "deny",
        "paths",
        "keys",
        "name",
        "cache",
        "expiry",
        "any",
        "all",
        "log",
        "error",
        "keystore",
        "fs",
        "path",
        "vault",
        "endpoint",
        "approle",
        "transit",
        "aws",
        "secretsmanager",
        "region",
        "credentials",
        "kes",
        "limits",
        "body_memory",
        "version",
        "${FOLDER}",
        "${EMPTY}",
        "${UNSET}",
        "disabled",
        "1m",
        "-1s",
        "on",
        "~",
        "/v1/*",
        "<<",
        "&a",
        "*a",
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        ",",
        "''",
        "\"",
        "#",
        "|",
        "!!binary",
        "---\n",
        "\t",
        "64MiB",
        "ä",
    ];
    proptest::sample::select(words.map(str::to_owned).to_vec())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), parts in proptest::collection::vec(part(), 0..60)) {
        let _ = load(&text);
        let _ = load(&parts.concat());
        let _ = load(&minimal(&parts.concat()));
    }

    #[test]
    fn a_text_that_is_wrong_says_so(parts in proptest::collection::vec(part(), 0..40)) {
        match kes_config::parse(&parts.concat(), "kes.yml", &Overrides::default(), &super::environment) {
            Ok(loaded) => prop_assert!(!loaded.settings.tls.key.as_os_str().is_empty()),
            Err(error) => prop_assert!(!error.errors.is_empty()),
        }
    }
}
