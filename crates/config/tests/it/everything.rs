//! The smallest file, and the one in which every key is set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kes_config::{AuthMode, Cache, Limits, Log, LogLevel, Overrides};
use kes_types::Verb;

use super::{digest, errors, load_with, minimal, settings, warnings};

#[test]
fn the_smallest_file_has_the_defaults() {
    let settings =
        settings("admin:\n  identity: disabled\ntls:\n  key: a\n  cert: b\nkeystore:\n  fs:\n    path: c\n");
    assert_eq!(settings.address.to_string(), "0.0.0.0:7373");
    assert_eq!(
        (settings.admin.text.as_str(), &settings.admin.identity),
        ("disabled", &None)
    );
    assert_eq!(
        (settings.tls.key.as_path(), settings.tls.cert.as_path()),
        (Path::new("a"), Path::new("b"))
    );
    assert_eq!(settings.tls.auth, AuthMode::Off);
    assert!(settings.tls.password.is_none() && settings.tls.ca.is_none() && settings.tls.proxy.is_none());
    assert!(settings.api.is_empty() && settings.policies.is_empty() && settings.keys.is_empty());
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let cache = Cache {
        any: minutes(5),
        unused: Duration::from_secs(30),
        offline: Duration::ZERO,
        entries: 1_000_000,
    };
    assert_eq!(settings.cache, cache);
    assert_eq!(
        settings.log,
        Log {
            error: LogLevel::INFO,
            audit: LogLevel::OFF
        }
    );
    assert_eq!(
        settings.limits,
        Limits {
            connections: None,
            body_memory: 268_435_456,
            log_streams: 64
        }
    );
    assert_eq!(settings.health, None);
    assert_eq!(settings.keystore.kind(), "fs");
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "
version: v1
address: '[::1]:7000'
admin:
  identity: {admin}
tls:
  key: k.pem
  cert: c.pem
  password: p4ss
  auth: on
  ca: /etc/ca
  proxy:
    identities: [{proxy}]
    header:
      cert: X-Client
api:
  /v1/ready: {{skip_auth: true, timeout: 5s}}
  v1/key/create: {{timeout: 250ms}}
  /v1/key/list/: {{skip_auth: no, timeout: 0}}
  /version: {{skip_auth: Yes}}
policy:
  one:
    allow: [/v1/key/create/*, '/v1/key/*/a?[b-c]']
    deny: [/v1/key/create/x]
    identities: [{one}, {other}]
  two:
keys:
  - name: key-1
  - name: key_2
cache:
  entries: 5000
  expiry: {{any: 1m, unused: 2s, offline: 1d}}
log:
  error: warn
  audit: on
health: {{address: 127.0.0.1:7001}}
limits: {{connections: 100, body_memory: 16MiB, log_streams: 3}}
keystore:
  fs: {{path: /keys}}
",
        admin = digest(0xa1).to_uppercase(),
        proxy = digest(2),
        one = digest(3),
        other = digest(4),
    );
    let settings = settings(&text);
    assert_eq!(settings.address.to_string(), "[::1]:7000");
    assert_eq!(settings.admin.text, digest(0xa1));
    assert_eq!(settings.admin.identity.unwrap().as_str(), digest(0xa1));
    assert_eq!(settings.tls.password.unwrap().expose_secret(), "p4ss");
    assert_eq!(
        (settings.tls.auth, settings.tls.ca),
        (AuthMode::On, Some(PathBuf::from("/etc/ca")))
    );
    let proxy = settings.tls.proxy.unwrap();
    assert_eq!(
        (proxy.identities[0].as_str(), proxy.header.as_str()),
        (digest(2).as_str(), "X-Client")
    );

    let api: Vec<_> = settings
        .api
        .iter()
        .map(|(verb, route)| (*verb, route.skip_auth, route.timeout))
        .collect();
    assert_eq!(
        api,
        [
            (Verb::Version, true, None),
            (Verb::Ready, true, Some(Duration::from_secs(5))),
            (Verb::CreateKey, false, Some(Duration::from_millis(250))),
            (Verb::ListKeys, false, None),
        ]
    );

    let [one, two] = settings.policies.as_slice() else {
        panic!()
    };
    assert_eq!((one.name.as_str(), two.name.as_str()), ("one", "two"));
    assert_eq!(
        (
            one.policy.allow.len(),
            one.policy.deny.len(),
            one.identities.len()
        ),
        (2, 1, 2)
    );
    assert!(one.policy.permits("/v1/key/create/a") && !one.policy.permits("/v1/key/create/x"));
    assert!(two.policy.allow.is_empty() && two.identities.is_empty());

    assert_eq!(
        settings.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["key-1", "key_2"]
    );
    let second = Duration::from_secs(1);
    let cache = Cache {
        any: 60 * second,
        unused: 2 * second,
        offline: 86_400 * second,
        entries: 5000,
    };
    assert_eq!(settings.cache, cache);
    assert_eq!(
        settings.log,
        Log {
            error: LogLevel::WARN,
            audit: LogLevel::INFO
        }
    );
    let health = settings.health.unwrap();
    assert_eq!(
        (health.address.to_string().as_str(), health.place.as_str()),
        ("127.0.0.1:7001", "kes.yml:36: health.address")
    );
    assert_eq!(
        settings.limits,
        Limits {
            connections: Some(100),
            body_memory: 16 << 20,
            log_streams: 3
        }
    );
}

#[test]
fn null_and_empty_values_are_as_good_as_absent() {
    let empty = settings(&minimal(
        "version: ''\naddress: ''\napi:\npolicy: ~\nkeys: null\ncache: {expiry: {any: ~, unused: 0s, offline:}}\n\
         log: {error: '', audit: ' '}\nhealth: {address: ''}\nlimits:\n",
    ));
    let mut expected = settings(&minimal(""));
    assert_eq!(empty, expected);
    let empty = settings(
        "admin: {identity: disabled}\ntls: {key: a.key, cert: a.crt, password: '', auth: '', ca: '', proxy: {identities: [], header: {cert: ''}}}\nhealth:\n\
         keystore: {fs: {path: /keys}, vault: ~, aws: {secretsmanager: ~}, kes:}\napi: {/v1/ready: }",
    );
    expected.tls.password = None;
    assert_eq!(empty, expected);
}

#[test]
fn texts_stay_as_they_are_written() {
    let settings = settings(
        "admin: {identity: 0123}\ntls: {key: 0x1F, cert: 1e5, password: 0777, ca: true}\nkeystore: {fs: {path: 1.50}}\n\
         keys: [{name: 007}, {name: 1_000}, {name: on}]\n",
    );
    assert_eq!(settings.admin.text, "0123");
    assert_eq!(settings.tls.key, Path::new("0x1F"));
    assert_eq!(settings.tls.cert, Path::new("1e5"));
    assert_eq!(settings.tls.password.unwrap().expose_secret(), "0777");
    assert_eq!(settings.tls.ca.as_deref(), Some(Path::new("true")));
    assert_eq!(
        settings.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["007", "1_000", "on"]
    );
}

#[test]
fn an_identity_of_digits_stays_a_text_and_is_compared_in_lower_case() {
    let digits = "1234567890".repeat(7)[..64].to_owned();
    let text = format!("root: ' {digits} '\ntls: {{key: a, cert: b}}\nkeystore: {{fs: {{path: c}}}}");
    let loaded = load_with(&text, &Overrides::default()).unwrap();
    assert_eq!(loaded.settings.admin.identity.unwrap().as_str(), digits);
    let upper = format!("1e{}", "AB".repeat(31));
    let settings = settings(&minimal(&format!("policy: {{p: {{identities: [{upper}]}}}}")));
    assert_eq!(settings.policies[0].identities[0].as_str(), upper.to_lowercase());
}

#[test]
fn the_command_line_counts_before_the_file_is_checked() {
    let overrides = Overrides {
        addr: Some("127.0.0.1:1".to_owned()),
        root: Some(digest(9)),
        auth: Some(AuthMode::On),
        key: Some("o.key".into()),
        cert: Some("o.crt".into()),
    };
    let lacking = "address: nonsense\ntls: {auth: nonsense}\nkeystore: {fs: {path: c}}";
    assert_eq!(errors(lacking).len(), 5);
    let settings = load_with(lacking, &overrides).unwrap().settings;
    assert_eq!(settings.address.to_string(), "127.0.0.1:1");
    assert_eq!(settings.admin.identity.unwrap().as_str(), digest(9));
    assert_eq!(settings.tls.auth, AuthMode::On);
    assert_eq!(
        (settings.tls.key, settings.tls.cert),
        ("o.key".into(), "o.crt".into())
    );

    let bad = Overrides {
        addr: Some("nowhere".to_owned()),
        root: Some(" ".to_owned()),
        ..Overrides::default()
    };
    let errors = load_with(&minimal(""), &bad).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with("--addr: must be an IP address"),
        "{errors:?}"
    );
    assert!(errors[1].starts_with("--root: is empty"), "{errors:?}");
}

#[test]
fn an_admin_given_by_the_command_line_may_not_have_a_policy() {
    let text = minimal(&format!("policy:\n  p:\n    identities: [{}]", digest(1)));
    let overrides = Overrides {
        root: Some(digest(1)),
        ..Overrides::default()
    };
    let errors = load_with(&text, &overrides).unwrap_err();
    assert_eq!(
        errors,
        ["kes.yml:6: policy.p.identities: this identity is the admin's, who may do everything already"]
    );
}

#[test]
fn older_names_are_read_with_one_warning_each() {
    let text = "root: disabled\ntls: {key: a, cert: b}\npolicy:\n  p:\n    paths: [/v1/api]\n    allow: [/v1/status]\n\
                cache: {expiry: {all: 7s}}\nkeystore: {secretsmanager: {endpoint: e, region: r}}";
    assert_eq!(
        warnings(text),
        [
            "kes.yml:1: root: is deprecated since v0.17.3: write it as `admin.identity`",
            "kes.yml:5: policy.p.paths: is deprecated since v0.15.0: write it as `policy.p.allow`",
            "kes.yml:7: cache.expiry.all: is deprecated since v0.8.0: write it as `cache.expiry.any`",
            "kes.yml:8: keystore.secretsmanager: is deprecated: write it as `keystore.aws.secretsmanager`",
        ]
    );
    let settings = load_with(text, &Overrides::default()).unwrap().settings;
    assert_eq!(settings.cache.any, Duration::from_secs(7));
    assert_eq!(settings.keystore.kind(), "aws.secretsmanager");
    let rules: Vec<_> = settings.policies[0]
        .policy
        .allow
        .iter()
        .map(|rule| rule.as_str())
        .collect();
    assert_eq!(rules, ["/v1/api", "/v1/status"]);
}

#[test]
fn older_and_newer_names_together_must_agree() {
    let upper = digest(0xab).to_uppercase();
    let same = minimal(&format!(
        "root: {upper}\ncache: {{expiry: {{all: 60s, any: 1m}}}}"
    ))
    .replace("disabled", &digest(0xab));
    assert_eq!(warnings(&same).len(), 2);
    let different = minimal("root: other\ncache: {expiry: {all: 2m, any: 1m}}");
    assert_eq!(
        errors(&different),
        [
            "kes.yml:4: root: is not the same as `admin.identity` in line 1: remove it",
            "kes.yml:5: cache.expiry.all: is not the same as `cache.expiry.any` in line 5: remove it",
        ]
    );
    assert_eq!(warnings(&minimal("root: ''")).len(), 1);
}

#[test]
fn unknown_keys_are_warned_of_by_line_and_path() {
    let text = minimal(
        "adress: x\ncache:\n  expire: {any: 1m}\n  expiry: {anny: 1m}\nAPI: {}\napi:\n  /v1/status: {skipauth: true}\n  /v1/enclave/create: {skip_auth: true}\n\
         keys: [{name: a, size: 3}]\npolicy: {p: {alow: [x]}}\nlimits: {files: 3}\nlog: {level: 3}\nhealth: {adress: '[::1]:1', path: /}",
    );
    assert_eq!(
        warnings(&text)
            .iter()
            .map(|w| w.split(": ").take(2).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>(),
        [
            "kes.yml:4 adress",
            "kes.yml:6 cache.expire",
            "kes.yml:7 cache.expiry.anny",
            "kes.yml:8 API",
            "kes.yml:10 api./v1/status.skipauth",
            "kes.yml:11 api./v1/enclave/create",
            "kes.yml:12 keys.size",
            "kes.yml:13 policy.p.alow",
            "kes.yml:14 limits.files",
            "kes.yml:15 log.level",
            "kes.yml:16 health.adress",
            "kes.yml:16 health.path",
        ]
    );
    let settings = load_with(&text, &Overrides::default()).unwrap().settings;
    assert!(!settings.api.values().any(|route| route.skip_auth));
    assert_eq!(settings.api.len(), 1);
}

#[test]
fn an_older_name_in_many_places_is_warned_of_once() {
    let text = minimal("policy: {p: {paths: [/v1/api]}, q: {paths: [/v1/status]}}");
    assert_eq!(warnings(&text).len(), 1);
}
