//! Answers that servers of different years spell differently.

use std::collections::{BTreeMap, BTreeSet};

use kes_types::Timestamp;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use time::macros::datetime;

/// What a server knows about a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyInfo {
    /// Its name.
    pub name: String,
    /// When it was created or loaded, where the server says so.
    #[serde(deserialize_with = "known_time")]
    pub created_at: Option<Timestamp>,
    /// The identity that created it; empty when unknown.
    pub created_by: String,
    /// The rules of which one must match. Only when the policy was read.
    #[serde(deserialize_with = "rules")]
    pub allow: BTreeSet<String>,
    /// The rules of which none may match. Only when the policy was read.
    #[serde(deserialize_with = "rules")]
    pub deny: BTreeSet<String>,
}

/// What a server knows about an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "IdentityReply")]
pub struct IdentityInfo {
    /// The identity; empty when the server does not repeat it.
    pub identity: String,
    /// Whether it is the admin.
    pub admin: bool,
    /// When it was created or loaded, where the server says so.
    pub created_at: Option<Timestamp>,
    /// The identity that created it; empty when unknown.
    pub created_by: String,
    /// Its policy, with its rules when a client asked about itself.
    pub policy: Option<PolicyInfo>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IdentityReply {
    identity: String,
    admin: bool,
    #[serde(deserialize_with = "known_time")]
    created_at: Option<Timestamp>,
    created_by: String,
    policy: Option<PolicyReply>,
    #[serde(deserialize_with = "rules")]
    allow: BTreeSet<String>,
    #[serde(deserialize_with = "rules")]
    deny: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PolicyReply {
    Name(String),
    Whole(PolicyInfo),
}

impl From<IdentityReply> for IdentityInfo {
    fn from(reply: IdentityReply) -> Self {
        let IdentityReply {
            identity,
            admin,
            created_at,
            created_by,
            policy,
            allow,
            deny,
        } = reply;
        let policy = match policy {
            Some(PolicyReply::Whole(policy)) => Some(policy),
            Some(PolicyReply::Name(name)) if name.is_empty() => None,
            Some(PolicyReply::Name(name)) => Some(PolicyInfo {
                name,
                allow,
                deny,
                ..PolicyInfo::default()
            }),
            None => None,
        };
        Self {
            identity,
            admin,
            created_at,
            created_by,
            policy,
        }
    }
}

/// A time, unless it is the one by which Go programs say that they know none.
fn known_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let time = time::serde::rfc3339::option::deserialize(deserializer)?;
    Ok(time.filter(|time| *time != datetime!(0001-01-01 00:00 UTC)))
}

/// Rules as the names of an object, or as an array of strings.
fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Rules {
        Map(BTreeMap<String, IgnoredAny>),
        List(BTreeSet<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Rules::Map(map)) => map.into_keys().collect(),
        Some(Rules::List(list)) => list,
        None => BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(policy: &PolicyInfo) -> (Vec<&str>, Vec<&str>) {
        (
            policy.allow.iter().map(String::as_str).collect(),
            policy.deny.iter().map(String::as_str).collect(),
        )
    }

    #[test]
    fn a_client_reads_about_itself_in_both_shapes() {
        let flat = r#"{"identity":"ab","created_at":"2024-05-01T00:00:00Z","created_by":"cd","policy":"p",
            "allow":{"/v1/key/create/*":{}},"deny":{"/v1/key/create/x":{}}}"#;
        let nested = r#"{"identity":"ab","created_at":"2024-05-01T00:00:00Z","created_by":"cd",
            "policy":{"name":"p","allow":{"/v1/key/create/*":{}},"deny":{"/v1/key/create/x":{}}}}"#;
        let flat: IdentityInfo = serde_json::from_str(flat).unwrap();
        assert_eq!(flat, serde_json::from_str(nested).unwrap());
        let policy = flat.policy.unwrap();
        assert_eq!(policy.name, "p");
        assert_eq!(
            rules_of(&policy),
            (vec!["/v1/key/create/*"], vec!["/v1/key/create/x"])
        );
    }

    #[test]
    fn the_admin_has_no_policy() {
        let admin: IdentityInfo = serde_json::from_str(
            r#"{"identity":"ab","admin":true,"created_at":"2024-05-01T00:00:00Z","policy":""}"#,
        )
        .unwrap();
        assert!(admin.admin && admin.policy.is_none());
    }

    #[test]
    fn a_time_that_is_not_known_is_none() {
        for (json, known) in [
            (r#"{"created_at":"2024-05-01T00:00:00Z"}"#, true),
            (r#"{"created_at":"0001-01-01T00:00:00Z"}"#, false),
            (r#"{"created_at":null}"#, false),
            ("{}", false),
        ] {
            let policy: PolicyInfo = serde_json::from_str(json).unwrap();
            assert_eq!(policy.created_at.is_some(), known, "{json}");
            let identity: IdentityInfo = serde_json::from_str(json).unwrap();
            assert_eq!(identity.created_at.is_some(), known, "{json}");
        }
    }

    #[test]
    fn rules_are_read_as_an_object_and_as_an_array() {
        let array = r#"{"name":"p","allow":["/b","/a"],"deny":null}"#;
        let object = r#"{"name":"p","allow":{"/a":{},"/b":{}}}"#;
        let array: PolicyInfo = serde_json::from_str(array).unwrap();
        assert_eq!(array, serde_json::from_str(object).unwrap());
        assert_eq!(rules_of(&array).0, ["/a", "/b"]);
    }
}
