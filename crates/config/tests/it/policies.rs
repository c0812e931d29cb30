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
        "policy:\n  one:\n    allow: [/a]\n    identities: [x]\n\n    two:\n    deny: [/b]\n    allow: [/c]\n    identities: [y]\n\n    three:\n    allow: [/d]\n  four:\n    allow: [/e]\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/a"] -[] ["x"]"#,
            r#"two +["/c"] -["/b"] ["y"]"#,
            r#"three +["/d"] -[] []"#,
            r#"four +["/e"] -[] []"#
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
        "policy:\n  one:\n    allow: [/a]\n    two:\n      allow: [/b]\n    deny: [/c]\n    three: {}\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/a"] -["/c"] []"#,
            r#"two +["/b"] -[] []"#,
            "three +[] -[] []"
        ]
    );
    assert_eq!(warnings(&text).len(), 2);
}

#[test]
fn a_key_without_a_value_takes_no_rules_from_its_policy() {
    for (fields, lines) in [
        (
            "allow: [/a]\n    identities: [x]\n    note:\n    deny: [/b]\n",
            &[8][..],
        ),
        ("two:\n    allow: [/a]\n", &[6]),
        (
            "allow: [/a]\n    note: ~\n    two: {deny: [/b]}\n    size: 3\n    other:\n    deny: [/c]\n",
            &[10],
        ),
        // The first could own `deny`; only the second repeats something.
        (
            "allow: [/a]\n    note:\n    deny: [/b]\n    two:\n    allow: [/c]\n",
            &[7],
        ),
        // What an earlier policy has says nothing about this one.
        (
            "allow: [/a]\n    deny: [/b]\n    two:\n    allow: [/c]\n    note:\n    deny: [/d]\n",
            &[10],
        ),
        ("note:\n    allow: [/a]\n    other:\n    deny: [/b]\n", &[6, 8]),
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
        "policy:\n  one:\n    allow: [/a]\n    two:\n    deny: [/b]\n    size: 3\n    allow: [/c]\n    identities: [x]\n",
    );
    assert_eq!(
        summary(&text),
        [r#"one +["/a"] -[] []"#, r#"two +["/c"] -["/b"] ["x"]"#]
    );
}

#[test]
fn what_does_not_look_like_a_policy_is_an_unknown_key() {
    for field in [
        "two:",
        "two: text",
        "two: [a]",
        "two: {allow: [/b], size: 3}",
        "two: ~",
        "a b: {allow: [/b]}",
    ] {
        let text = minimal(&format!("policy:\n  one:\n    allow: [/a]\n    {field}\n"));
        assert_eq!(summary(&text), [r#"one +["/a"] -[] []"#], "{field}");
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
            "policy:\n  one:\n    allow: [/a]\n    one:\n    allow: [/b]\n",
            7,
            5,
        ),
        (
            "policy:\n  one:\n    allow: [/a]\n    two:\n    allow: [/b]\n  two:\n    allow: [/c]\n",
            7,
            9,
        ),
        (
            "policy:\n  one:\n    allow: [/a]\n    two:\n    allow: [/b]\n    two:\n    allow: [/c]\n",
            9,
            7,
        ),
        (
            "policy:\n  one:\n    two: {allow: [/b]}\n    two: {allow: [/c]}\n",
            7,
            6,
        ),
        (
            "policy:\n  one:\n    allow: [/a]\n    two: {allow: [/b]}\n    two:\n    allow: [/c]\n",
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
        "policy:\n  one:\n    allow: [/a]\n    allow: [/b]\n",
        "policy:\n  one:\n    allow: [/a]\n    two: {deny: [/c]}\n    allow: [/b]\n",
        "policy:\n  one:\n    allow: [/a]\n    two:\n    allow: [/a]\n    allow: [/b]\n",
        "policy:\n  one:\n    two: {allow: [/a], allow: [/b]}\n",
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
fn anchors_and_merges_make_policies() {
    let text = minimal(
        "policy:\n  one: &base\n    allow: &rules [/a, /b]\n    deny: [/c]\n  two:\n    <<: *base\n    deny: []\n  three:\n    allow: *rules\n",
    );
    assert_eq!(
        summary(&text),
        [
            r#"one +["/a", "/b"] -["/c"] []"#,
            r#"two +["/a", "/b"] -[] []"#,
            r#"three +["/a", "/b"] -[] []"#
        ]
    );
}
