//! Each way to be wrong, with the line and the key that are named and a part of what is said.

use kes_config::Overrides;

use super::{digest, errors, load_with, minimal, settings, warnings};

/// A file that is wrong in one place: text, line, key, part of the message.
type Case = (String, usize, &'static str, &'static str);

fn after_minimal(cases: &[(&str, usize, &'static str, &'static str)]) -> Vec<Case> {
    cases
        .iter()
        .map(|&(text, line, key, part)| (minimal(text), line, key, part))
        .collect()
}

fn check(cases: Vec<Case>) {
    for (text, line, key, part) in cases {
        let errors = errors(&text);
        let [error] = errors.as_slice() else {
            panic!("{text}\n{errors:#?}")
        };
        let place = match line {
            0 => format!("kes.yml: {key}: "),
            line => format!("kes.yml:{line}: {key}: "),
        };
        let place = if key.is_empty() {
            place.trim_end_matches(": ").to_owned() + ": "
        } else {
            place
        };
        assert!(error.starts_with(&place), "{text}\n{error}\nis not at {place}");
        assert!(error.contains(part), "{text}\n{error}\ndoes not say {part}");
    }
}

#[test]
fn files_without_any_settings() {
    check(
        [
            ("", 0, "is empty"),
            ("# only a comment\n", 0, "is empty"),
            ("---\n", 0, "is empty"),
            ("null", 0, "is empty"),
            ("just words", 1, "must consist of `key: value` lines"),
            ("\n- a\n- b", 2, "must consist of `key: value` lines"),
            ("tls:\n\tkey: a", 2, "a tab"),
            ("tls: {key: a", 1, "is not valid YAML"),
            ("a: 1\n b: 2", 2, "is not valid YAML"),
        ]
        .map(|(text, line, part)| (text.to_owned(), line, "", part))
        .into(),
    );
    let nothing = errors("{}");
    let keys: Vec<_> = nothing.iter().map(|e| e.split(": ").nth(1).unwrap()).collect();
    assert_eq!(keys, ["admin.identity", "tls.key", "tls.cert", "keystore"]);
}

#[test]
fn general_settings() {
    check(after_minimal(&[
        ("version: 1", 4, "version", "must be `v1`"),
        ("version: v2", 4, "version", "must be `v1`"),
        ("version: ${FOLDER}", 4, "version", "must be `v1`"),
        (
            "version: [v1]",
            4,
            "version",
            "must be a single value, not a list",
        ),
        (
            "address: localhost:7373",
            4,
            "address",
            "must be an IP address and a port",
        ),
        (
            "address: 0.0.0.0",
            4,
            "address",
            "must be an IP address and a port",
        ),
        (
            "address: {host: a}",
            4,
            "address",
            "must be a single value, not a section",
        ),
        (
            "root: other",
            4,
            "root",
            "is not the same as `admin.identity` in line 1",
        ),
        ("keys: text", 4, "keys", "must be a list"),
        (
            "keys: {fs: {path: a}}",
            4,
            "keys",
            "stands beside `keystore` in line 3",
        ),
        (
            "keys:\n  - a",
            5,
            "keys",
            "must be a section of `key: value` lines",
        ),
        ("keys:\n  - {}", 5, "keys.name", "is missing"),
        (
            "keys:\n  - name: a\n  - name: a.b",
            6,
            "keys.name",
            "must be a key name",
        ),
        (
            "keys:\n  - name: a\n  - name: b\n  - name: a",
            7,
            "keys.name",
            "stands in line 5 already",
        ),
    ]));
    let without = |key: &str| {
        minimal("")
            .lines()
            .filter(|l| !l.starts_with(key))
            .collect::<Vec<_>>()
            .join("\n")
    };
    check(vec![
        (
            without("admin"),
            0,
            "admin.identity",
            "is missing: set it to the identity of the admin, or to `disabled`",
        ),
        (
            without("keystore"),
            0,
            "keystore",
            "`keystore.embedded` keeps keys in one encrypted file, which `kes init DIR` sets up, and `--dev`",
        ),
        (
            minimal("").replace("disabled", "' '"),
            1,
            "admin.identity",
            "is empty",
        ),
        (
            minimal("").replace("{identity: disabled}", "disabled"),
            1,
            "admin",
            "must be a section",
        ),
    ]);
}

#[test]
fn tls() {
    let tls = |text: &str, line, key, part| {
        (
            minimal("").replace("key: a.key, cert: a.crt", text),
            line,
            key,
            part,
        )
    };
    check(vec![
        tls(
            "cert: b",
            2,
            "tls.key",
            "is missing: set it to the file with the private key",
        ),
        tls(
            "key: b",
            2,
            "tls.cert",
            "is missing: set it to the file with the certificate",
        ),
        tls("key: '', cert: b", 2, "tls.key", "is empty"),
        tls(
            "key: a, cert: b, auth: sometimes",
            2,
            "tls.auth",
            "must be `on` (verify client certificates) or `off`",
        ),
        tls("key: a, cert: [b]", 2, "tls.cert", "must be a single value"),
        tls(
            "key: a, cert: b, password: {a: b}",
            2,
            "tls.password",
            "must be a single value",
        ),
        tls("key: a, cert: b, proxy: x", 2, "tls.proxy", "must be a section"),
        tls(
            "key: a, cert: b, proxy: {identities: x}",
            2,
            "tls.proxy.identities",
            "must be a list",
        ),
        tls(
            "key: a, cert: b, proxy: {identities: ['']}",
            2,
            "tls.proxy.identities",
            "is empty",
        ),
        tls(
            "key: a, cert: b, proxy: {identities: [disabled]}",
            2,
            "tls.proxy.identities",
            "is the admin's",
        ),
        tls(
            "key: a, cert: b, proxy: {identities: [a b]}",
            2,
            "tls.proxy.identities",
            "must be an identity",
        ),
        tls(
            "key: a, cert: b, proxy: {identities: [x, x]}",
            2,
            "tls.proxy.identities",
            "that of a TLS proxy already",
        ),
        tls(
            "key: a, cert: b, proxy: {identities: [x], header: {cert: a b}}",
            2,
            "tls.proxy.header.cert",
            "HTTP header",
        ),
        tls(
            "key: a, cert: b, proxy: {header: {cert: 'ä'}}",
            2,
            "tls.proxy.header.cert",
            "HTTP header",
        ),
    ]);
}

#[test]
fn api() {
    check(after_minimal(&[
        ("api: [a]", 4, "api", "must be a section"),
        ("api: {/v1/ready: true}", 4, "api./v1/ready", "must be a section"),
        (
            "api: {/v1/ready: {skip_auth: maybe}}",
            4,
            "api./v1/ready.skip_auth",
            "must be `true` or `false`",
        ),
        (
            "api: {/v1/ready: {skip_auth: ''}}",
            4,
            "api./v1/ready.skip_auth",
            "must be `true` or `false`",
        ),
        (
            "api:\n  /v1/key/decrypt:\n    skip_auth: true",
            6,
            "api./v1/key/decrypt.skip_auth",
            "always needs a client",
        ),
        (
            "api:\n  /v1/log/audit:\n    skip_auth: on",
            6,
            "api./v1/log/audit.skip_auth",
            "/version, /v1/ready, /v1/status",
        ),
        (
            "api: {/v1/ready: {timeout: -5s}}",
            4,
            "api./v1/ready.timeout",
            "must not be negative",
        ),
        (
            "api: {/v1/ready: {timeout: 5}}",
            4,
            "api./v1/ready.timeout",
            "must be a duration",
        ),
        (
            "api:\n  /v1/key/list: {timeout: 1s}\n  v1/key/list/: {timeout: 1s}",
            6,
            "api.v1/key/list/",
            "is the same path as the one in line 5",
        ),
        (
            "api: {/v1/ready: {timeout: 1s}, ' v1/ready ': {}}",
            4,
            "api.v1/ready",
            "is the same path",
        ),
    ]));
}

#[test]
fn policies() {
    check(after_minimal(&[
        ("policy: [a]", 4, "policy", "must be a section"),
        ("policy: {p: text}", 4, "policy.p", "must be a section"),
        (
            "policy: {p: {allow: /v1/a}}",
            4,
            "policy.p.allow",
            "must be a list",
        ),
        (
            "policy: {p: {allow: [[/v1/a]]}}",
            4,
            "policy.p.allow",
            "must be a single value",
        ),
        ("policy: {-p: {}}", 4, "policy.-p", "must be a policy name"),
        ("policy: {a b: {}}", 4, "policy.a…", "must be a policy name"),
        ("policy: {_: {}}", 4, "policy._", "must be a policy name"),
        (
            "policy:\n  p:\n    allow:\n    - /v1/[a",
            7,
            "policy.p.allow",
            "is not a valid pattern",
        ),
        (
            "policy:\n  p:\n    deny:\n    - /v1/a\n    - v1/b",
            8,
            "policy.p.deny",
            "would never match and deny nothing",
        ),
        (
            "policy: {p: {deny: ['']}}",
            4,
            "policy.p.deny",
            "would never match",
        ),
        (
            "policy: {p: {deny: ['${FOLDER}']}}",
            4,
            "policy.p.deny",
            "would never match",
        ),
        (
            "policy: {p: {identities: [disabled]}}",
            4,
            "policy.p.identities",
            "is the admin's",
        ),
        (
            "policy: {p: {identities: ['']}}",
            4,
            "policy.p.identities",
            "is empty",
        ),
        (
            "policy: {p: {identities: [~]}}",
            4,
            "policy.p.identities",
            "is empty",
        ),
        (
            "policy: {p: {identities: ['${EMPTY}']}}",
            4,
            "policy.p.identities",
            "variable EMPTY is set, but empty",
        ),
        (
            "policy: {p: {identities: [a.b]}}",
            4,
            "policy.p.identities",
            "must be an identity",
        ),
        (
            "policy:\n  p:\n    identities:\n    - a\n    - a",
            8,
            "policy.p.identities",
            "has the policy `p` already (line 7)",
        ),
        (
            "policy:\n  p: {identities: [a]}\n  q: {identities: [a]}",
            6,
            "policy.q.identities",
            "has the policy `p` already",
        ),
        (
            "policy:\n  p: {}\n  p: {}",
            6,
            "policy.p",
            "stands here and in line 5",
        ),
        (
            "policy:\n  p:\n    allow: []\n    allow: []",
            7,
            "policy.p.allow",
            "stands here and in line 6",
        ),
    ]));
    let proxied = minimal(&format!("policy: {{p: {{identities: [{}]}}}}", digest(7))).replace(
        "cert: a.crt",
        &format!("cert: a.crt, proxy: {{identities: [{}]}}", digest(7)),
    );
    check(vec![(
        proxied,
        4,
        "policy.p.identities",
        "is that of a TLS proxy already",
    )]);
}

#[test]
fn cache_log_and_limits() {
    check(after_minimal(&[
        ("cache: on", 4, "cache", "must be a section"),
        ("cache: {expiry: 5m}", 4, "cache.expiry", "must be a section"),
        (
            "cache: {expiry: {any: -1s}}",
            4,
            "cache.expiry.any",
            "must not be negative",
        ),
        (
            "cache: {expiry: {unused: 300}}",
            4,
            "cache.expiry.unused",
            "must be a duration",
        ),
        (
            "cache: {expiry: {offline: 5 m}}",
            4,
            "cache.expiry.offline",
            "must be a duration",
        ),
        (
            "cache: {expiry: {any: ''}}",
            4,
            "cache.expiry.any",
            "must be a duration",
        ),
        (
            "cache: {expiry: {all: x}}",
            4,
            "cache.expiry.all",
            "must be a duration",
        ),
        (
            "cache: {expiry: {any: 300y}}",
            4,
            "cache.expiry.any",
            "must be a duration",
        ),
        (
            "cache: {expiry: {any: 9999999h}}",
            4,
            "cache.expiry.any",
            "less than 292 years",
        ),
        (
            "cache: {entries: 0}",
            4,
            "cache.entries",
            "whole number of at least 1",
        ),
        (
            "cache: {entries: many}",
            4,
            "cache.entries",
            "whole number of at least 1",
        ),
        (
            "log: {error: warning}",
            4,
            "log.error",
            "must be `on`, `off`, `debug`",
        ),
        (
            "log: {audit: info + 2}",
            4,
            "log.audit",
            "must be `on`, `off`, `debug`",
        ),
        ("log: {error: {level: on}}", 4, "log.error", "must be a level"),
        ("log: {error: [on]}", 4, "log.error", "must be a single value"),
        (
            "limits: {connections: -1}",
            4,
            "limits.connections",
            "whole number of at least 1",
        ),
        (
            "limits: {log_streams: 1.5}",
            4,
            "limits.log_streams",
            "whole number of at least 1",
        ),
        (
            "limits: {body_memory: 1000}",
            4,
            "limits.body_memory",
            "at least 1MiB",
        ),
        (
            "limits: {body_memory: 1MB}",
            4,
            "limits.body_memory",
            "at least 1MiB",
        ),
        (
            "limits: {body_memory: 99999999999GiB}",
            4,
            "limits.body_memory",
            "at least 1MiB",
        ),
        (
            "limits: {body_memory: MiB}",
            4,
            "limits.body_memory",
            "at least 1MiB",
        ),
    ]));
}

#[test]
fn health() {
    check(after_minimal(&[
        ("health: on", 4, "health", "must be a section"),
        (
            "health: [127.0.0.1:7374]",
            4,
            "health",
            "must be a section of `key: value` lines, not a list",
        ),
        (
            "health:\n  address: localhost:7374",
            5,
            "health.address",
            "must be an IP address and a port such as `127.0.0.1:7374`",
        ),
        (
            "health: {address: 127.0.0.1}",
            4,
            "health.address",
            "must be an IP address and a port",
        ),
        (
            "health: {address: 127.0.0.1:65536}",
            4,
            "health.address",
            "must be an IP address and a port",
        ),
        (
            "health: {address: 7374}",
            4,
            "health.address",
            "must be an IP address and a port",
        ),
        (
            "health: {address: http://127.0.0.1:7374}",
            4,
            "health.address",
            "must be an IP address and a port",
        ),
        (
            "health: {address: https://127.0.0.1:7374}",
            4,
            "health.address",
            "there is no TLS here",
        ),
        (
            "health: {address: [':1', ':2']}",
            4,
            "health.address",
            "must be a single value, not a list",
        ),
        (
            "health: {address: '${UNSET}'}",
            4,
            "health.address",
            "the environment variable UNSET is not set",
        ),
        // What the server listens on without `address`.
        (
            "health: {address: 127.0.0.1:7373}",
            4,
            "health.address",
            "is where the server listens for clients already: use another port",
        ),
        (
            "address: 127.0.0.1:7000\nhealth: {address: 127.0.0.1:7000}",
            5,
            "health.address",
            "is where the server listens for clients already",
        ),
        (
            "address: 127.0.0.1:7000\nhealth: {address: ':7000'}",
            5,
            "health.address",
            "is where the server listens for clients already",
        ),
        (
            "address: ':1234'\nhealth: {address: '${PORT}'}",
            5,
            "health.address",
            "is where the server listens for clients already",
        ),
        (
            "health: {address: ':1'}\nhealth: {address: ':2'}",
            5,
            "health",
            "stands here and in line 4",
        ),
    ]));
}

#[test]
fn an_option_may_be_what_the_health_address_clashes_with() {
    let overrides = Overrides {
        addr: Some("127.0.0.1:7374".to_owned()),
        ..Overrides::default()
    };
    let text = minimal("address: 127.0.0.1:7000\nhealth: {address: 127.0.0.1:7374}");
    let errors = load_with(&text, &overrides).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("kes.yml:5: health.address: is where"),
        "{errors:?}"
    );
    let text = minimal("address: 127.0.0.1:7374\nhealth: {address: 127.0.0.1:7374}");
    let overrides = Overrides {
        addr: Some("127.0.0.1:7000".to_owned()),
        ..overrides
    };
    load_with(&text, &overrides).unwrap();
}

#[test]
fn a_health_address_that_others_can_reach_is_warned_of() {
    for address in [
        "0.0.0.0:7374",
        "':7374'",
        "'[::]:7374'",
        "192.0.2.7:7374",
        "'[2001:db8::7]:1'",
    ] {
        let warned = warnings(&minimal(&format!("health:\n  address: {address}")));
        let [warning] = warned.as_slice() else {
            panic!("{address}: {warned:?}")
        };
        assert!(
            warning.starts_with("kes.yml:5: health.address: can be reached from beyond a private network"),
            "{warning}"
        );
    }
    for address in [
        "127.0.0.1:7374",
        "'[::1]:0'",
        "10.1.2.3:7374",
        "192.168.0.9:1",
        "'[fd00::7]:1'",
    ] {
        let settings = settings(&minimal(&format!("health: {{address: {address}}}")));
        assert!(settings.health.is_some(), "{address}");
    }
}

#[test]
fn duplicates_anywhere() {
    check(after_minimal(&[
        (
            "address: ':1'\n\naddress: ':1'",
            6,
            "address",
            "stands here and in line 4",
        ),
        (
            "cache:\n  expiry:\n    any: 1m\n    any: 1m",
            7,
            "cache.expiry.any",
            "stands here and in line 6",
        ),
        (
            "keys:\n- name: a\n  name: a",
            6,
            "keys.name",
            "stands here and in line 5",
        ),
        (
            "log: &l {error: on, error: off}",
            4,
            "log.error",
            "stands here and in line 4",
        ),
    ]));
    // The same mistake through an alias is told once, where it stands.
    let twice = minimal("x: &x {a: 1, a: 2}\ny: *x\n");
    assert_eq!(errors(&twice).len(), 1);
}

#[test]
fn older_key_store_sections_beside_a_current_one() {
    check(after_minimal(&[
        (
            "vault: {address: x}",
            3,
            "keystore",
            "there are `keystore.fs`, `vault`",
        ),
        (
            "fs: {path: x}",
            4,
            "fs.path",
            "is not the same as `keystore.fs.path` in line 3",
        ),
        ("kms: {aws: {key: x}}", 4, "kms.aws", "was removed in v0.8.0"),
    ]));
    assert!(warnings(&minimal("kms: {aws: {key: ''}}")).len() == 1);
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let errors = errors(
        "address: nowhere\ntls:\n  auth: maybe\n  cert: ${UNSET}\napi:\n  /v1/ready:\n    timeout: soon\n\
         policy:\n  p:\n    deny: [x]\n    identities: ['']\ncache: {expiry: {any: x}}\nlog: {error: x}\nlimits: {connections: x}\n\
         keystore:\n  fs: {path: a}\n  vault: {endpoint: https://b}\n",
    );
    let places: Vec<_> = errors
        .iter()
        .map(|e| e.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        places,
        [
            "kes.yml:1 address",
            "kes.yml:3 tls.key",
            "kes.yml:3 tls.auth",
            "kes.yml:4 tls.cert",
            "kes.yml:7 api./v1/ready.timeout",
            "kes.yml:10 policy.p.deny",
            "kes.yml:11 policy.p.identities",
            "kes.yml:12 cache.expiry.any",
            "kes.yml:13 log.error",
            "kes.yml:14 limits.connections",
            "kes.yml:16 keystore",
            "kes.yml admin.identity",
        ],
        "{errors:#?}"
    );
}
