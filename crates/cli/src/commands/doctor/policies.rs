//! Policies that do not do what somebody may think. Patterns that match no request are among the configuration's own warnings.

use kes_config::PolicyAssignment;
use kes_types::{Identity, Rule};

use super::finding::Findings;
use super::subject::Subject;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    match (&settings.admin.identity, settings.policies.is_empty()) {
        (None, true) => {
            findings
                .warn(
                    "nobody may do anything: the admin is disabled, and there are no policies",
                    "set admin.identity, or add a policy; `kes identity of` has the identity of a certificate or an API key",
                )
                .at(subject, "admin.identity");
        }
        (None, false) => {
            findings
                .note(
                    format!(
                        "the admin is disabled: '{}' is no identity that a certificate can have",
                        shortened(&settings.admin.text)
                    ),
                    "fine, if it is meant; what is the admin's alone (`kes store`, bringing keys back) then is nobody's",
                )
                .at(subject, "admin.identity");
        }
        (Some(_), _) => {}
    }
    for assignment in &settings.policies {
        policy(subject, assignment, findings);
    }
    if findings.is_fine() && !settings.policies.is_empty() {
        let count = settings.policies.len();
        findings.ok(match count {
            1 => "each rule of the policy has an effect".to_owned(),
            _ => format!("each rule of the {count} policies has an effect"),
        });
    }
}

/// What may be a secret that was put into the wrong place is not repeated whole.
fn shortened(text: &str) -> String {
    text.chars().take(12).collect()
}

fn policy(subject: &Subject, assignment: &PolicyAssignment, findings: &mut Findings) {
    let PolicyAssignment {
        name,
        policy,
        identities,
    } = assignment;
    let key = format!("policy.{name}");
    if identities.is_empty() {
        findings
            .warn(
                format!("nobody has the policy '{name}'"),
                "add the identities of its clients, or remove it",
            )
            .at(subject, &key);
    }
    for (index, identity) in identities.iter().enumerate() {
        if !identity.is_digest() {
            findings
                .warn(
                    format!(
                        "no certificate can have the identity '{identity}', which is no hash of a public key"
                    ),
                    "write what `kes identity of CERTIFICATE` prints: 64 hexadecimal digits",
                )
                .at(subject, &format!("{key}.identities[{index}]"));
        }
    }
    if policy.allow.is_empty() {
        findings
            .warn(
                format!("the policy '{name}' allows nothing"),
                "add rules to its `allow`",
            )
            .at(subject, &key);
    }
    for (index, rule) in policy.allow.iter().enumerate() {
        let place = format!("{key}.allow[{index}]");
        if let Some(deny) = policy.deny.iter().find(|deny| deny.covers(rule)) {
            findings
                .warn(
                    format!(
                        "'{}' never allows anything: '{}' denies all of it",
                        rule.as_str(),
                        deny.as_str()
                    ),
                    "remove one of the two rules, or make the one that denies narrower",
                )
                .at(subject, &place);
        } else if let Some(broader) = broader(&policy.allow, index, rule) {
            findings
                .note(
                    format!("'{}' adds nothing to '{}'", rule.as_str(), broader.as_str()),
                    "remove it, or the broader rule if that is too much",
                )
                .at(subject, &place);
        }
        if rule.as_str() == "*" || rule.as_str() == "/v1/*" {
            findings
                .note(
                    format!(
                        "'{}' allows everything but what is the admin's alone, the deletion of keys too",
                        rule.as_str()
                    ),
                    "name the paths that the clients use",
                )
                .at(subject, &place);
        }
    }
    for (index, rule) in policy.deny.iter().enumerate() {
        if let Some(broader) = broader(&policy.deny, index, rule) {
            findings
                .note(
                    format!("'{}' adds nothing to '{}'", rule.as_str(), broader.as_str()),
                    "remove it",
                )
                .at(subject, &format!("{key}.deny[{index}]"));
        }
    }
}

/// Another rule of the list that matches all that this one does. Of two that are the same, the first stays.
fn broader<'a>(rules: &'a [Rule], own: usize, rule: &Rule) -> Option<&'a Rule> {
    rules.iter().enumerate().find_map(|(index, other)| {
        let is_broader = index != own && other.covers(rule) && (index < own || !rule.covers(other));
        is_broader.then_some(other)
    })
}

/// The identities that the configuration knows, with the keys they stand under.
pub(super) fn identities(subject: &Subject) -> Vec<(Identity, String)> {
    let Some(settings) = &subject.settings else {
        return Vec::new();
    };
    let admin = settings.admin.identity.clone();
    let admin = admin
        .into_iter()
        .map(|identity| (identity, "admin.identity".to_owned()));
    let proxies = settings.tls.proxy.iter().flat_map(|proxy| {
        let identities = proxy.identities.iter().enumerate();
        identities.map(|(index, identity)| (identity.clone(), format!("tls.proxy.identities[{index}]")))
    });
    let users = settings.policies.iter().flat_map(|assignment| {
        let identities = assignment.identities.iter().enumerate();
        identities.map(move |(index, identity)| {
            let key = format!("policy.{}.identities[{index}]", assignment.name);
            (identity.clone(), key)
        })
    });
    admin.chain(proxies).chain(users).collect()
}
