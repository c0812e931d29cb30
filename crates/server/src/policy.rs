//! What an identity may do, as one snapshot of the configuration says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kes_types::{Identity, Monotonic, Operation, Policy, PolicyName, Verb};

use crate::settings::PolicySettings;

/// An identity that is listed where it must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity '{identity}' of the policy '{policy}' is {conflict}")]
pub struct DuplicateIdentity {
    identity: Identity,
    policy: PolicyName,
    conflict: String,
}

/// The policies of a snapshot and who has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    admin: Option<Identity>,
    policies: Vec<(PolicyName, Policy)>,
    /// Index into `policies`.
    assigned: HashMap<Identity, usize>,
}

/// What a snapshot knows about an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    Admin,
    User(&'a PolicyName, &'a Policy),
    Unknown,
}

impl Access {
    pub(crate) fn new(
        admin: Option<Identity>,
        settings: &[PolicySettings],
    ) -> Result<Self, DuplicateIdentity> {
        let mut access = Self {
            admin,
            ..Self::default()
        };
        for PolicySettings {
            name,
            policy,
            identities,
        } in settings
        {
            let index = access.policies.len();
            access.policies.push((name.clone(), policy.clone()));
            for identity in identities {
                let duplicate = |conflict: String| DuplicateIdentity {
                    identity: identity.clone(),
                    policy: name.clone(),
                    conflict,
                };
                if access.admin.as_ref() == Some(identity) {
                    return Err(duplicate("the admin, to whom policies do not apply".to_owned()));
                }
                if let Some(earlier) = access.assigned.insert(identity.clone(), index) {
                    let earlier = access.policies.get(earlier).map_or("", |(name, _)| name.as_str());
                    return Err(duplicate(format!("assigned to the policy '{earlier}' already")));
                }
            }
        }
        Ok(access)
    }

    pub(crate) const fn admin(&self) -> Option<&Identity> {
        self.admin.as_ref()
    }

    pub(crate) fn role(&self, identity: &Identity) -> Role<'_> {
        if self.admin.as_ref() == Some(identity) {
            return Role::Admin;
        }
        match self
            .assigned
            .get(identity)
            .and_then(|&index| self.policies.get(index))
        {
            Some((name, policy)) => Role::User(name, policy),
            None => Role::Unknown,
        }
    }

    pub(crate) fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies
            .iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, policy)| policy)
    }

    /// The names of the policies, in byte order.
    pub(crate) fn policy_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.policies.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// All identities, the admin included, in byte order.
    pub(crate) fn identities(&self) -> Vec<&str> {
        let mut identities: Vec<_> = self
            .assigned
            .keys()
            .chain(&self.admin)
            .map(Identity::as_str)
            .collect();
        identities.sort_unstable();
        identities
    }
}

impl Role<'_> {
    /// Why what is the admin's alone is not allowed, or `None` if it is.
    pub(crate) fn refusal_of_maintenance(&self) -> Option<String> {
        match self {
            Self::Admin => None,
            Self::User(..) | Self::Unknown => {
                Some("only the admin may do this, whatever policies say".to_owned())
            }
        }
    }

    /// Why `operation` is not allowed, or `None` if it is.
    pub(crate) fn refusal(&self, operation: &Operation<'_>) -> Option<String> {
        let (name, policy) = match self {
            Self::Admin => return None,
            Self::Unknown => return Some("the identity has no policy".to_owned()),
            Self::User(name, policy) => (name, policy),
        };
        let path = operation.canonical_path();
        let denied_as_single = || policy.denied_by(&operation.repeats()?.canonical_path());
        if let Some(rule) = policy.denied_by(&path).or_else(denied_as_single) {
            return Some(format!("policy '{name}' denies it by '{}'", rule.as_str()));
        }
        policy
            .allowed_by(&path)
            .is_none()
            .then(|| format!("no rule of policy '{name}' allows it"))
    }
}

/// Keeps denials from flooding the log: one line a minute for an identity and a route, with the count in between. Without
/// an identity, it counts what is refused to everybody, such as for overload.
#[derive(Debug, Default)]
pub(crate) struct DenialLog {
    recent: Mutex<HashMap<(Option<Identity>, Verb), Logged>>,
}

/// When a denial was last logged, and how often it happened since.
type Logged = (Monotonic, u64);

impl DenialLog {
    const PERIOD: Duration = Duration::from_secs(60);
    /// Pairs that are remembered; past it they are forgotten, and at worst logged more often.
    const CAPACITY: usize = 1024;

    /// Whether to log this denial, and then how many were left out before it.
    pub(crate) fn admit(&self, identity: Option<&Identity>, verb: Verb, now: Monotonic) -> Option<u64> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (identity.cloned(), verb);
        if let Some((since, left_out)) = recent.get_mut(&key) {
            if now.since(*since) < Self::PERIOD {
                *left_out += 1;
                return None;
            }
            *since = now;
            return Some(std::mem::take(left_out));
        }
        if recent.len() >= Self::CAPACITY {
            recent.retain(|_, (since, _)| now.since(*since) < Self::PERIOD);
            if recent.len() >= Self::CAPACITY {
                recent.clear();
            }
        }
        recent.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use kes_types::Rule;

    use super::*;

    fn delete(name: &str) -> Operation<'_> {
        Operation::new(Verb::DeleteKey, name)
    }

    const STATUS: Operation<'_> = Operation {
        verb: Verb::Status,
        resource: std::borrow::Cow::Borrowed(""),
    };

    fn identity(text: &str) -> Identity {
        Identity::parse(text).unwrap()
    }

    fn policy(name: &str, allow: &[&str], deny: &[&str], identities: &[&str]) -> PolicySettings {
        let rules = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
        PolicySettings {
            name: PolicyName::parse(name).unwrap(),
            policy: Policy {
                allow: rules(allow),
                deny: rules(deny),
            },
            identities: identities.iter().map(|text| identity(text)).collect(),
        }
    }

    #[test]
    fn the_admin_may_do_everything_and_strangers_nothing() {
        let access = Access::new(
            Some(identity("root")),
            &[policy("app", &["/v1/status"], &[], &["app"])],
        )
        .unwrap();
        assert_eq!(access.role(&identity("root")).refusal(&delete("a")), None);
        assert_eq!(access.role(&identity("app")).refusal(&STATUS), None);
        assert!(
            access
                .role(&identity("app"))
                .refusal(&delete("a"))
                .unwrap()
                .contains("no rule")
        );
        assert!(access.role(&identity("other")).refusal(&STATUS).is_some());
        assert_eq!(access.identities(), ["app", "root"]);
    }

    #[test]
    fn no_policy_allows_what_is_the_admins_alone() {
        let settings = [policy("app", &["*", "/v1/store/info"], &[], &["app"])];
        let access = Access::new(Some(identity("root")), &settings).unwrap();
        assert_eq!(access.role(&identity("root")).refusal_of_maintenance(), None);
        for other in ["app", "stranger"] {
            assert!(access.role(&identity(other)).refusal_of_maintenance().is_some());
        }
    }

    #[test]
    fn a_denial_names_the_rule() {
        let settings = [policy("app", &["*"], &["/v1/key/*/internal"], &["app"])];
        let access = Access::new(None, &settings).unwrap();
        let refusal = access
            .role(&identity("app"))
            .refusal(&Operation::new(Verb::CreateKey, "internal"))
            .unwrap();
        assert!(
            refusal.contains("/v1/key/*/internal") && refusal.contains("'app'"),
            "{refusal}"
        );
    }

    #[test]
    fn what_forbids_to_decrypt_forbids_to_decrypt_in_bulk() {
        for deny in [
            "/v1/key/decrypt/internal",
            "/v1/key/*/internal*",
            "/v1/key/decrypt/*",
        ] {
            let access = Access::new(None, &[policy("app", &["/v1/key/*"], &[deny], &["app"])]).unwrap();
            let bulk = Operation::new(Verb::BulkDecryptKey, "internal");
            assert!(access.role(&identity("app")).refusal(&bulk).is_some(), "{deny}");
        }
    }

    #[test]
    fn an_identity_has_one_policy_and_is_not_the_admin() {
        let twice = [policy("a", &[], &[], &["x"]), policy("b", &[], &[], &["x"])];
        assert!(
            Access::new(None, &twice)
                .unwrap_err()
                .to_string()
                .contains("policy 'a' already")
        );
        let admin = [policy("a", &[], &[], &["x"])];
        assert!(
            Access::new(Some(identity("x")), &admin)
                .unwrap_err()
                .to_string()
                .contains("the admin")
        );
    }

    #[test]
    fn denials_are_logged_once_a_minute_with_their_count() {
        let log = DenialLog::default();
        let (someone, at) = (identity("x"), |s| Monotonic(Duration::from_secs(s)));
        assert_eq!(log.admit(Some(&someone), Verb::Status, at(0)), Some(0));
        assert_eq!(log.admit(Some(&someone), Verb::Status, at(1)), None);
        assert_eq!(log.admit(Some(&someone), Verb::Status, at(59)), None);
        assert_eq!(log.admit(Some(&someone), Verb::Ready, at(59)), Some(0));
        assert_eq!(log.admit(None, Verb::Status, at(59)), Some(0));
        assert_eq!(log.admit(Some(&someone), Verb::Status, at(60)), Some(2));
    }
}
