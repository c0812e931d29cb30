//! Policies that are indented into another one, as documentation shows them by mistake.

use kes_config::PolicyAssignment;

use super::{errors, load, minimal, warnings};

fn policies(text: &str) -> Vec<PolicyAssignment> {
    load(text)
        .unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"))
        .settings
        .policies
}

fn summary(text: &str) -> Vec<String> {
    policies(text)
        .iter()
        .map(|p| {
            format!(
                "{} +{:?} -{:?} {:?}",
                p.name, p.policy.allow, p.policy.deny, p.identities
            )
        })
        .collect()
}

#[test]
fn a_policy_that_lost_a_step_of_indentation_is_a_policy() {
    let text = minimal(
        "policy:\n  one:\n    allow: [/v1/api]\n    identities: [x]\n\n    two:\n    deny: [/v1/status]\n    allow: [/v1/metrics]\n    identities: [y]\n\n    three:\n    allow: [/v1/ready]\n  four:\n    allow: [/version]\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/v1/api"] -[] ["x"]"#,
            r#"two +["/v1/metrics"] -["/v1/status"] ["y"]"#,
            r#"three +["/v1/ready"] -[] []"#,
            r#"four +["/version"] -[] []"#
        ]
    );
    let warnings = warnings(&text);
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].starts_with("kes.yml:9: policy.two: is taken as a policy of its own"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("kes.yml:14: policy.three: "),
        "{warnings:?}"
    );
}

#[test]
fn a_policy_that_is_indented_too_far_is_a_policy() {
    let text = minimal(
        "policy:\n  one:\n    allow: [/v1/api]\n    two:\n      allow: [/v1/status]\n    deny: [/v1/metrics]\n    three: {}\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/v1/api"] -["/v1/metrics"] []"#,
            r#"two +["/v1/status"] -[] []"#,
            "three +[] -[] []"
        ]
    );
    assert_eq!(warnings(&text).len(), 2);
}

#[test]
fn a_key_without_a_value_takes_no_rules_from_its_policy() {
    for (fields, lines) in [
        (
            "allow: [/v1/api]\n    identities: [x]\n    note:\n    deny: [/v1/status]\n",
            &[8][..],
        ),
        ("two:\n    allow: [/v1/api]\n", &[6]),
        (
            "allow: [/v1/api]\n    note: ~\n    two: {deny: [/v1/status]}\n    size: 3\n    other:\n    deny: [/v1/metrics]\n",
            &[10],
        ),
        // The first could own `deny`; only the second repeats something.
        (
            "allow: [/v1/api]\n    note:\n    deny: [/v1/status]\n    two:\n    allow: [/v1/metrics]\n",
            &[7],
        ),
        // What an earlier policy has says nothing about this one.
        (
            "allow: [/v1/api]\n    deny: [/v1/status]\n    two:\n    allow: [/v1/metrics]\n    note:\n    deny: [/v1/ready]\n",
            &[10],
        ),
        (
            "note:\n    allow: [/v1/api]\n    other:\n    deny: [/v1/status]\n",
            &[6, 8],
        ),
    ] {
        let errors = errors(&minimal(&format!("policy:\n  one:\n    {fields}")));
        assert_eq!(errors.len(), lines.len(), "{fields}{errors:?}");
        for (error, line) in errors.iter().zip(lines) {
            assert!(
                error.starts_with(&format!("kes.yml:{line}: policy.one.")),
                "{fields}{error}"
            );
            assert!(error.contains("has no value; if `"), "{fields}{error}");
        }
    }
}

#[test]
fn the_repeated_field_may_come_later() {
    let text = minimal(
        "policy:\n  one:\n    allow: [/v1/api]\n    two:\n    deny: [/v1/status]\n    size: 3\n    allow: [/v1/metrics]\n    identities: [x]\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/v1/api"] -[] []"#,
            r#"two +["/v1/metrics"] -["/v1/status"] ["x"]"#
        ]
    );
}

#[test]
fn what_does_not_look_like_a_policy_is_an_unknown_key() {
    for field in [
        "two:",
        "two: text",
        "two: [a]",
        "two: {allow: [/v1/status], size: 3}",
        "two: ~",
        "a b: {allow: [/v1/status]}",
    ] {
        let text = minimal(&format!("policy:\n  one:\n    allow: [/v1/api]\n    {field}\n"));
        assert_eq!(summary(&text), [r#"one +["/v1/api"] -[] []"#], "{field}");
        let warnings = warnings(&text);
        assert!(
            warnings.len() == 1 && warnings[0].contains("is not a known key"),
            "{field}: {warnings:?}"
        );
    }
}

#[test]
fn a_name_that_exists_is_never_merged() {
    for (text, line, first) in [
        (
            "policy:\n  one:\n    allow: [/v1/api]\n    one:\n    allow: [/v1/status]\n",
            7,
            5,
        ),
        (
            "policy:\n  one:\n    allow: [/v1/api]\n    two:\n    allow: [/v1/status]\n  two:\n    allow: [/v1/metrics]\n",
            7,
            9,
        ),
        (
            "policy:\n  one:\n    allow: [/v1/api]\n    two:\n    allow: [/v1/status]\n    two:\n    allow: [/v1/metrics]\n",
            9,
            7,
        ),
        (
            "policy:\n  one:\n    two: {allow: [/v1/status]}\n    two: {allow: [/v1/metrics]}\n",
            7,
            6,
        ),
        (
            "policy:\n  one:\n    allow: [/v1/api]\n    two: {allow: [/v1/status]}\n    two:\n    allow: [/v1/metrics]\n",
            8,
            7,
        ),
    ] {
        let errors = errors(&minimal(text));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with(&format!("kes.yml:{line}: policy.")),
            "{errors:?}"
        );
        assert!(
            errors[0].contains(&format!("line {first} has a policy of this name")),
            "{errors:?}"
        );
    }
}

#[test]
fn a_duplicate_within_one_policy_stays_an_error() {
    for text in [
        "policy:\n  one:\n    allow: [/v1/api]\n    allow: [/v1/status]\n",
        "policy:\n  one:\n    allow: [/v1/api]\n    two: {deny: [/v1/metrics]}\n    allow: [/v1/status]\n",
        "policy:\n  one:\n    allow: [/v1/api]\n    two:\n    allow: [/v1/api]\n    allow: [/v1/status]\n",
        "policy:\n  one:\n    two: {allow: [/v1/api], allow: [/v1/status]}\n",
    ] {
        let errors = errors(&minimal(text));
        assert!(
            errors.len() == 1 && errors[0].contains("stands here and in line"),
            "{text}{errors:?}"
        );
    }
}

#[test]
fn only_policies_are_recovered() {
    let text = minimal("cache:\n  expiry:\n    any: 1m\n    other:\n    any: 2m\n");
    assert!(errors(&text)[0].starts_with("kes.yml:8: cache.expiry.any: stands here and in line 6"));
}

#[test]
fn rules_that_never_match_are_warned_of_and_kept() {
    let text = minimal("policy:\n  p:\n    allow:\n    - v1/status\n    - ''\n    - '*'\n");
    let policies = policies(&text);
    assert_eq!(policies[0].policy.allow.len(), 3);
    let warnings = warnings(&text);
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].starts_with("kes.yml:7: policy.p.allow: this pattern never matches"),
        "{warnings:?}"
    );
}

#[test]
fn rules_that_match_no_request_are_warned_of() {
    let text = minimal(
        "policy:\n  p:\n    allow:\n    - /v1/status/\n    - /v1/key/create/*\n    - /v1/keys/create/*\n    deny:\n    - /v1/key/delete/\n    - /v1/key/bulk/decrypt\n",
    );
    assert_eq!(
        warnings(&text),
        [
            "kes.yml:7: policy.p.allow: this pattern matches no request: there is no such path in the API",
            "kes.yml:9: policy.p.allow: this pattern matches no request: there is no such path in the API",
            "kes.yml:11: policy.p.deny: this pattern matches no request: a name follows this path; end it with `/*` to mean all names",
        ]
    );
    let policies = policies(&text);
    assert_eq!(
        (policies[0].policy.allow.len(), policies[0].policy.deny.len()),
        (3, 1 + 1)
    );
}

#[test]
fn anchors_and_merges_make_policies() {
    let text = minimal(
        "policy:\n  one: &base\n    allow: &rules [/v1/api, /v1/status]\n    deny: [/v1/metrics]\n  two:\n    <<: *base\n    deny: []\n  three:\n    allow: *rules\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/v1/api", "/v1/status"] -["/v1/metrics"] []"#,
            r#"two +["/v1/api", "/v1/status"] -[] []"#,
            r#"three +["/v1/api", "/v1/status"] -[] []"#
        ]
    );
}
