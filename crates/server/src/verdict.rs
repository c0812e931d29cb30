//! What a server would answer, for those who ask in advance: the same routes, and the same decision, without a server.

use std::collections::{BTreeMap, HashSet};

use http::Method;
use kes_types::{Identity, Operation, PolicyName, Verb};

use crate::policy::{self, Access, DuplicateIdentity, Grounds, Refusal, Role};
use crate::route::Routes;
use crate::settings::{PolicySettings, RouteSettings};

/// Who may do what, as a server with these settings decides it.
#[derive(Clone, Debug)]
pub struct Authorization {
    access: Access,
    routes: Routes,
    proxies: HashSet<Identity>,
}

/// What an [`Authorization`] is made from.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationSettings {
    /// Who may do everything, if anybody.
    pub admin: Option<Identity>,
    /// The policies.
    pub policies: Vec<PolicySettings>,
    /// What differs from the defaults of a route.
    pub routes: BTreeMap<Verb, RouteSettings>,
    /// TLS proxies, which speak for clients and may do nothing themselves.
    pub proxies: HashSet<Identity>,
    /// Whether the key store is one that the server keeps itself, and has the routes for that.
    pub has_maintenance: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking<'a> {
    /// Somebody without a client certificate.
    Nobody,
    /// Whoever has the private key of this identity.
    Identity(&'a Identity),
    /// Somebody with this policy.
    Policy(&'a PolicyName),
}

/// There is no such policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy '{0}'")]
pub struct UnknownPolicy(PolicyName);

/// What a request is answered before anything is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is let through; what it then meets is another matter.
    Permitted {
        /// What the request means.
        operation: Operation<'static>,
        /// Why.
        grounds: Grounds<'a>,
    },
    /// It is refused: with 403, or with 400 if nobody knows who asks.
    Refused {
        /// What the request means.
        operation: Operation<'static>,
        /// Why.
        refusal: Refusal<'a>,
    },
    /// The client is a TLS proxy, and a request of its own that forwards nobody's certificate is refused with 400.
    ForwardsNobody {
        /// What the request means.
        operation: Operation<'static>,
    },
    /// The connection fails: every client needs a certificate, since the configuration opens no path.
    NoConnection,
    /// There is no such path: 404.
    NoRoute,
    /// The path takes another method: 405.
    WrongMethod {
        /// The method that it takes.
        takes: &'static str,
    },
}

impl Verdict<'_> {
    /// The status of the answer, where it is decided here: whoever is let through gets another, and without a connection there
    /// is none.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Permitted { .. } | Self::NoConnection => None,
            Self::Refused {
                refusal: Refusal::NoCertificate,
                ..
            }
            | Self::ForwardsNobody { .. } => Some(400),
            Self::Refused { .. } => Some(403),
            Self::NoRoute => Some(404),
            Self::WrongMethod { .. } => Some(405),
        }
    }
}

impl Authorization {
    /// Who may do what with these settings.
    ///
    /// # Errors
    /// When an identity has two roles.
    pub fn new(settings: AuthorizationSettings) -> Result<Self, DuplicateIdentity> {
        let AuthorizationSettings {
            admin,
            policies,
            routes,
            proxies,
            has_maintenance,
        } = settings;
        Ok(Self {
            access: Access::new(admin, &policies)?,
            routes: Routes::new(&routes, has_maintenance),
            proxies,
        })
    }

    /// What `who` is answered to a request with this method for this path, which may be percent-encoded and has no query.
    ///
    /// # Errors
    /// When there is no such policy.
    pub fn judge(&self, who: Asking<'_>, method: &Method, path: &str) -> Result<Verdict<'_>, UnknownPolicy> {
        let role = match who {
            Asking::Nobody => None,
            Asking::Identity(identity) => Some(self.access.role(identity)),
            Asking::Policy(name) => {
                let found = self.access.named_policy(name.as_str());
                let (name, policy) = found.ok_or_else(|| UnknownPolicy(name.clone()))?;
                Some(Role::User(name, policy))
            }
        };
        if role.is_none() && !self.routes.any_opened() {
            return Ok(Verdict::NoConnection);
        }
        let matched = match self.routes.find(method, path) {
            Ok(matched) => matched,
            Err(error) => {
                return Ok(error
                    .allow
                    .map_or(Verdict::NoRoute, |takes| Verdict::WrongMethod { takes }));
            }
        };
        let (operation, _) = matched.operation();
        let is_proxy = matches!(who, Asking::Identity(identity) if self.proxies.contains(identity));
        let decided = policy::decide(matched.auth, role.filter(|_| !is_proxy), &operation);
        let operation = Operation::new(operation.verb, operation.resource.into_owned());
        Ok(match decided {
            Ok(grounds) => Verdict::Permitted { operation, grounds },
            Err(_) if is_proxy => Verdict::ForwardsNobody { operation },
            Err(refusal) => Verdict::Refused { operation, refusal },
        })
    }
}

#[cfg(test)]
mod tests {
    use kes_types::{Policy, Rule};

    use super::*;

    fn authorization(opened: bool) -> Authorization {
        let rule = |text| Rule::parse(text).unwrap();
        let identity = |text| Identity::parse(text).unwrap();
        let settings = RouteSettings {
            skip_auth: true,
            timeout: None,
        };
        Authorization::new(AuthorizationSettings {
            admin: Some(identity("root")),
            policies: vec![PolicySettings {
                name: PolicyName::parse("app").unwrap(),
                policy: Policy {
                    allow: vec![rule("/v1/key/*")],
                    deny: vec![rule("/v1/key/decrypt/internal*")],
                },
                identities: vec![identity("user")],
            }],
            routes: opened.then_some((Verb::Ready, settings)).into_iter().collect(),
            proxies: [identity("proxy")].into(),
            has_maintenance: false,
        })
        .unwrap()
    }

    fn status(authorization: &Authorization, who: Asking<'_>, method: &str, path: &str) -> Option<u16> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        authorization.judge(who, &method, path).unwrap().status()
    }

    #[test]
    fn a_verdict_has_the_status_of_the_answer() {
        let authorization = authorization(true);
        let identities = ["root", "user", "stranger", "proxy"].map(|name| Identity::parse(name).unwrap());
        let [root, user, stranger, proxy] = identities.each_ref().map(Asking::Identity);
        let name = PolicyName::parse("app").unwrap();
        let app = Asking::Policy(&name);
        for (who, method, path, expected) in [
            (root, "DELETE", "/v1/key/delete/a", None),
            (user, "DELETE", "/v1/key/delete/a", None),
            (app, "PUT", "/v1/key/decrypt/a", None),
            (app, "PUT", "/v1/key/decrypt/internal-1", Some(403)),
            (app, "PUT", "/v1/key/bulk/decrypt/internal-1", Some(403)),
            (app, "PUT", "/v1/key/decrypt/%69nternal-1", Some(403)),
            (app, "GET", "/v1/key/list", None),
            (user, "GET", "/v1/status", Some(403)),
            (stranger, "GET", "/v1/identity/self/describe", None),
            (stranger, "GET", "/v1/status", Some(403)),
            (Asking::Nobody, "GET", "/v1/ready", None),
            (Asking::Nobody, "GET", "/v1/status", Some(400)),
            (proxy, "GET", "/v1/status", Some(400)),
            (proxy, "GET", "/version", None),
            (root, "GET", "/v1/key/nothing/a", Some(404)),
            (root, "GET", "/v1/key/delete/a", Some(405)),
            // Only where the server keeps the keys itself.
            (root, "GET", "/v1/store/info", Some(404)),
        ] {
            let found = status(&authorization, who, method, path);
            assert_eq!(found, expected, "{who:?} {method} {path}");
        }
    }

    #[test]
    fn without_an_open_path_nobody_connects_without_a_certificate() {
        let verdict = |opened| {
            let authorization = authorization(opened);
            let verdict = authorization.judge(Asking::Nobody, &Method::GET, "/version");
            verdict.unwrap() == Verdict::NoConnection
        };
        assert!(verdict(false));
        assert!(!verdict(true));
    }

    #[test]
    fn an_unknown_policy_is_no_verdict() {
        let name = PolicyName::parse("other").unwrap();
        let authorization = authorization(false);
        let error = authorization.judge(Asking::Policy(&name), &Method::GET, "/version");
        assert_eq!(error.unwrap_err().to_string(), "there is no policy 'other'");
    }
}
