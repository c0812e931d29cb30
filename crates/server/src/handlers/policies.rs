//! Policies and identities, as the configuration has them.

use kes_types::wire::{Empty, IdentityDescription, PolicyDescription, RuleSet};
use kes_types::{Identity, Policy, PolicyName, Rule};

use super::{Permitted, Reply};
use crate::error::{ApiError, IDENTITY_NOT_FOUND, NO_CERTIFICATE, POLICY_NOT_FOUND};
use crate::policy::Role;

pub(super) fn describe(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    let (name, _) = find(request)?;
    Reply::json(&description(request, name))
}

pub(super) fn read(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    let (name, policy) = find(request)?;
    let (allow, deny) = (rules(&policy.allow), rules(&policy.deny));
    Reply::json(&PolicyDescription {
        allow,
        deny,
        ..description(request, name)
    })
}

pub(super) fn describe_identity(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    let identity = Identity::parse(request.resource)?;
    let created_at = request.snapshot.loaded_at;
    match request.snapshot.access.role(&identity) {
        Role::Unknown => Err(ApiError::new(http::StatusCode::NOT_FOUND, IDENTITY_NOT_FOUND)),
        Role::Admin => Reply::json(&IdentityDescription {
            admin: true,
            ..identity_description(created_at)
        }),
        Role::User(policy, _) => Reply::json(&IdentityDescription {
            policy: policy.to_string(),
            created_by: admin(request),
            ..identity_description(created_at)
        }),
    }
}

pub(super) fn describe_self(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    let principal = request
        .caller
        .principal()
        .ok_or_else(|| ApiError::bad_request(NO_CERTIFICATE))?;
    let empty = IdentityDescription {
        identity: principal.identity.to_string(),
        ..identity_description(request.snapshot.loaded_at)
    };
    match request.snapshot.access.role(&principal.identity) {
        // Somebody whom the configuration does not know is nobody's user, but may ask who they are.
        Role::Unknown => Reply::json(&empty),
        Role::Admin => Reply::json(&IdentityDescription { admin: true, ..empty }),
        Role::User(name, policy) => Reply::json(&IdentityDescription {
            policy: name.to_string(),
            created_by: admin(request),
            allow: rules(&policy.allow),
            deny: rules(&policy.deny),
            ..empty
        }),
    }
}

fn find<'a>(request: &Permitted<'a>) -> Result<(PolicyName, &'a Policy), ApiError> {
    let name = PolicyName::parse(request.resource)?;
    match request.snapshot.access.policy(name.as_str()) {
        Some(policy) => Ok((name, policy)),
        None => Err(ApiError::new(http::StatusCode::NOT_FOUND, POLICY_NOT_FOUND)),
    }
}

fn description(request: &Permitted<'_>, name: PolicyName) -> PolicyDescription {
    PolicyDescription {
        name: name.to_string(),
        created_at: request.snapshot.loaded_at,
        created_by: admin(request),
        allow: RuleSet::new(),
        deny: RuleSet::new(),
    }
}

const fn identity_description(created_at: kes_types::Timestamp) -> IdentityDescription {
    IdentityDescription {
        identity: String::new(),
        admin: false,
        policy: String::new(),
        created_at,
        created_by: String::new(),
        allow: RuleSet::new(),
        deny: RuleSet::new(),
    }
}

fn admin(request: &Permitted<'_>) -> String {
    request
        .snapshot
        .access
        .admin()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn rules(rules: &[Rule]) -> RuleSet {
    rules
        .iter()
        .map(|rule| (rule.as_str().to_owned(), Empty {}))
        .collect()
}
