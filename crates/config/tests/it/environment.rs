//! Values that are variables of the environment.

use std::path::Path;
use std::time::Duration;

use super::{environment, errors, minimal, settings};

#[test]
fn a_variable_stands_for_a_whole_value() {
    let settings = settings(
        "admin: {identity: '${ADMIN}'}\naddress: ${PORT}\ntls:\n  key: '  ${ FOLDER }  '\n  cert: ${TEMPLATE}\n  ca: ${YAML}\n\
         cache:\n  expiry: {any: \"${FIVE_MINUTES}\", unused: '${FIVE_MINUTES}'}\napi: {/v1/ready: {skip_auth: '${TRUE}'}}\n\
         policy: {p: {identities: [x]}}\nkeystore: {fs: {path: '${FOLDER}'}}\n",
    );
    assert_eq!(
        settings.admin.identity.unwrap().as_str(),
        environment("ADMIN").unwrap().to_lowercase()
    );
    assert_eq!(settings.address.to_string(), ":1234");
    assert_eq!(settings.tls.key, Path::new("/keys"));
    assert_eq!(settings.cache.unused, Duration::from_secs(300));
    assert!(settings.api.values().all(|route| route.skip_auth));
    // A value is not expanded again and never read as YAML.
    assert_eq!(settings.tls.cert, Path::new("${FOLDER}"));
    assert_eq!(settings.tls.ca.as_deref(), Some(Path::new("[a, b]")));
}

#[test]
fn what_only_contains_a_variable_is_literal() {
    for text in ["x${FOLDER}", "$FOLDER", "${FOLDER}x", "$ {FOLDER}", "{FOLDER}"] {
        let settings = settings(&minimal("").replace("a.key", &format!("'{text}'")));
        assert_eq!(settings.tls.key, Path::new(text));
    }
}

#[test]
fn what_looks_like_a_variable_and_is_none_is_refused() {
    for text in [
        "${FOLDER}${FOLDER}",
        "${}",
        "${ }",
        "${NAME:-default}",
        "${A B}",
        "${ä}",
    ] {
        let errors = errors(&minimal("").replace("a.key", &format!("'{text}'")));
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].starts_with("kes.yml:2: tls.key: what stands between `${` and `}`"),
            "{errors:?}"
        );
    }
}

#[test]
fn an_unset_variable_is_named_with_its_line() {
    let unset = minimal(
        "keys:\n- name: ${UNSET_KEY}\ncache: {expiry: {any: '${UNSET_TIME}'}}\nlog: {error: '${UNSET_LEVEL}'}",
    );
    assert_eq!(
        errors(&unset),
        [
            "kes.yml:5: keys.name: the environment variable UNSET_KEY is not set",
            "kes.yml:6: cache.expiry.any: the environment variable UNSET_TIME is not set",
            "kes.yml:7: log.error: the environment variable UNSET_LEVEL is not set",
        ]
    );
}

#[test]
fn an_empty_variable_is_absent_where_that_is_allowed() {
    let empty = settings(&minimal(
        "address: ${EMPTY}\ncache: {expiry: {any: '${EMPTY}', offline: '${EMPTY}'}, entries: '${EMPTY}'}\n\
         log: {error: '${EMPTY}', audit: '${EMPTY}'}\napi: {/v1/ready: {skip_auth: '${EMPTY}', timeout: '${EMPTY}'}}\n\
         limits: {connections: '${EMPTY}', body_memory: '${EMPTY}'}",
    ));
    let plain = settings(&minimal("api: {/v1/ready: {}}"));
    assert_eq!(empty, plain);
    assert_eq!(
        errors(
            &minimal("")
                .replace("a.key", "'${EMPTY}'")
                .replace("/keys", "'${EMPTY}'")
                .replace("disabled", "'${EMPTY}'")
        ),
        [
            "kes.yml:1: admin.identity: the environment variable EMPTY is set, but empty",
            "kes.yml:2: tls.key: the environment variable EMPTY is set, but empty",
            "kes.yml:3: keystore.fs.path: the environment variable EMPTY is set, but empty",
        ]
    );
}

#[test]
fn keys_and_patterns_are_no_place_for_variables() {
    let text = minimal("policy:\n  p:\n    allow: ['${FOLDER}']\napi: {'${FOLDER}': {}}");
    let warnings = super::warnings(&text);
    assert!(
        warnings[0].starts_with("kes.yml:6: policy.p.allow: this pattern never matches"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("kes.yml:7: api.…: is not a path of the API"),
        "{warnings:?}"
    );
}
