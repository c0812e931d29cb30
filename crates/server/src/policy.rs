//! What an identity may do, as one snapshot of the configuration says.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kes_types::{Identity, Monotonic, Operation, Policy, PolicyName, Rule, Verb};

use crate::route::Auth;
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
        self.named_policy(name).map(|(_, policy)| policy)
    }

    pub(crate) fn named_policy(&self, name: &str) -> Option<(&PolicyName, &Policy)> {
        let mut policies = self.policies.iter();
        let (name, policy) = policies.find(|(known, _)| known.as_str() == name)?;
        Some((name, policy))
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

/// Why an operation is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds<'a> {
    /// Nobody is asked who they are.
    Open,
    /// Whoever has a certificate may.
    Certificate,
    /// The caller is the admin.
    Admin,
    /// A rule of the caller's policy allows it.
    Allowed {
        /// The policy.
        policy: &'a PolicyName,
        /// The first rule that does.
        rule: &'a Rule,
    },
}

/// Why an operation is refused. Its `Display` is for the log and for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// The caller has no certificate that says who they are.
    NoCertificate,
    /// It is the admin's alone.
    NotTheAdmin,
    /// The caller has no policy.
    NoPolicy,
    /// A rule of the caller's policy denies it.
    Denied {
        /// The policy.
        policy: &'a PolicyName,
        /// The first rule that does.
        rule: &'a Rule,
    },
    /// No rule of the caller's policy allows it.
    NotAllowed {
        /// The policy.
        policy: &'a PolicyName,
    },
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("a client certificate is required"),
            Self::NotTheAdmin => f.write_str("only the admin may do this, whatever policies say"),
            Self::NoPolicy => f.write_str("the identity has no policy"),
            Self::Denied { policy, rule } => {
                write!(f, "policy '{policy}' denies it by '{}'", rule.as_str())
            }
            Self::NotAllowed { policy } => write!(f, "no rule of policy '{policy}' allows it"),
        }
    }
}

/// Whether whoever has `role` may run `operation` on a route that wants to know `auth`. Without a role, nobody knows who it is.
pub(crate) fn decide<'a>(
    auth: Auth,
    role: Option<Role<'a>>,
    operation: &Operation<'_>,
) -> Result<Grounds<'a>, Refusal<'a>> {
    if auth == Auth::Open {
        return Ok(Grounds::Open);
    }
    let role = role.ok_or(Refusal::NoCertificate)?;
    match auth {
        Auth::Open | Auth::Identity => Ok(Grounds::Certificate),
        Auth::Admin => role.may_maintain(),
        Auth::Policy => role.may(operation),
    }
}

impl<'a> Role<'a> {
    /// Whether what is the admin's alone is allowed.
    fn may_maintain(self) -> Result<Grounds<'a>, Refusal<'a>> {
        match self {
            Self::Admin => Ok(Grounds::Admin),
            Self::User(..) | Self::Unknown => Err(Refusal::NotTheAdmin),
        }
    }

    /// Whether `operation` is allowed.
    fn may(self, operation: &Operation<'_>) -> Result<Grounds<'a>, Refusal<'a>> {
        let (name, policy) = match self {
            Self::Admin => return Ok(Grounds::Admin),
            Self::Unknown => return Err(Refusal::NoPolicy),
            Self::User(name, policy) => (name, policy),
        };
        let path = operation.canonical_path();
        let denied_as_single = || policy.denied_by(&operation.repeats()?.canonical_path());
        if let Some(rule) = policy.denied_by(&path).or_else(denied_as_single) {
            return Err(Refusal::Denied { policy: name, rule });
        }
        match policy.allowed_by(&path) {
            Some(rule) => Ok(Grounds::Allowed { policy: name, rule }),
            None => Err(Refusal::NotAllowed { policy: name }),
        }
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
        let app = PolicyName::parse("app").unwrap();
        assert_eq!(
            access.role(&identity("root")).may(&delete("a")),
            Ok(Grounds::Admin)
        );
        assert!(access.role(&identity("app")).may(&STATUS).is_ok());
        assert_eq!(
            access.role(&identity("app")).may(&delete("a")),
            Err(Refusal::NotAllowed { policy: &app })
        );
        assert_eq!(
            access.role(&identity("other")).may(&STATUS),
            Err(Refusal::NoPolicy)
        );
        assert_eq!(access.identities(), ["app", "root"]);
    }

    #[test]
    fn who_is_unknown_may_call_what_is_open_and_nothing_else() {
        assert_eq!(decide(Auth::Open, None, &STATUS), Ok(Grounds::Open));
        for auth in [Auth::Identity, Auth::Policy, Auth::Admin] {
            assert_eq!(
                decide(auth, None, &STATUS),
                Err(Refusal::NoCertificate),
                "{auth:?}"
            );
        }
        let stranger = decide(Auth::Identity, Some(Role::Unknown), &STATUS);
        assert_eq!(stranger, Ok(Grounds::Certificate));
    }

    #[test]
    fn no_policy_allows_what_is_the_admins_alone() {
        let settings = [policy("app", &["*", "/v1/store/info"], &[], &["app"])];
        let access = Access::new(Some(identity("root")), &settings).unwrap();
        let may = |name| decide(Auth::Admin, Some(access.role(&identity(name))), &STATUS);
        assert_eq!(may("root"), Ok(Grounds::Admin));
        for other in ["app", "stranger"] {
            assert_eq!(may(other), Err(Refusal::NotTheAdmin));
        }
    }

    #[test]
    fn a_denial_names_the_rule() {
        let settings = [policy("app", &["*"], &["/v1/key/*/internal"], &["app"])];
        let access = Access::new(None, &settings).unwrap();
        let refusal = access
            .role(&identity("app"))
            .may(&Operation::new(Verb::CreateKey, "internal"))
            .unwrap_err()
            .to_string();
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
            assert!(access.role(&identity("app")).may(&bulk).is_err(), "{deny}");
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
