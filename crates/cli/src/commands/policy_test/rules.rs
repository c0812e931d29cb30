//! Where the policies come from: a configuration, a part of one, or a server that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use kes_client::{Client, Error, PolicyInfo};
use kes_config::{Diagnostic, KeyStoreSettings, LoadError, Overrides};
use kes_server::{Authorization, AuthorizationSettings, PolicySettings, RouteSettings};
use kes_types::{Identity, Policy, PolicyName, Rule, Verb};

use super::{Question, Who};
use crate::args::Connection;
use crate::commands::init::configuration_at;
use crate::connection::{block_on_explained, client, explain};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The policies, and where their rules stand.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) authorization: Authorization,
    /// The file or the server.
    pub(super) name: String,
    /// The rules by policy and text, with where they stand.
    places: BTreeMap<(String, &'static str, String), String>,
}

impl Rules {
    /// Where the rule stands, such as `kes.yml:12`.
    pub(super) fn place(&self, policy: &PolicyName, kind: &'static str, rule: &Rule) -> Option<&str> {
        let key = (policy.as_str().to_owned(), kind, rule.as_str().to_owned());
        self.places.get(&key).map(String::as_str)
    }

    /// Those of a configuration, all of which must be right.
    pub(super) fn of_configuration(path: &Path, context: &Context<'_>) -> Outcome<Self> {
        let path = &configuration_at(path);
        let variable = |name: &str| context.environment.raw(name).map(str::to_owned);
        let loaded = kes_config::load(path, &Overrides::default(), &variable);
        let loaded = loaded.map_err(|error| refused(error, context))?;
        warn(&loaded.warnings, context);
        let settings = loaded.settings;
        let access = kes_config::Access {
            admin: settings.admin.identity,
            proxies: settings.tls.proxy.map_or_else(Vec::new, |proxy| proxy.identities),
            api: settings.api,
            policies: settings.policies,
            is_embedded: matches!(settings.keystore, KeyStoreSettings::Embedded(_)),
        };
        Self::of_access(path, access, context)
    }

    /// Those of a file, whatever the rest of it says or lacks.
    pub(super) fn of_policy_file(path: &Path, context: &Context<'_>) -> Outcome<Self> {
        let variable = |name: &str| context.environment.raw(name).map(str::to_owned);
        let (access, warnings) =
            kes_config::load_access(path, &variable).map_err(|error| refused(error, context))?;
        warn(&warnings, context);
        Self::of_access(path, access, context)
    }

    fn of_access(path: &Path, access: kes_config::Access, context: &Context<'_>) -> Outcome<Self> {
        let variable = |name: &str| context.environment.raw(name).map(str::to_owned);
        let lines = kes_config::Lines::of_file(path, &variable);
        let mut places = BTreeMap::new();
        for assignment in &access.policies {
            let lists = [
                ("allow", &assignment.policy.allow),
                ("deny", &assignment.policy.deny),
            ];
            for (kind, rules) in lists {
                for (index, rule) in rules.iter().enumerate() {
                    let name = &assignment.name;
                    let Some(line) = lines.of(&format!("policy.{name}.{kind}[{index}]")) else {
                        continue;
                    };
                    let key = (name.as_str().to_owned(), kind, rule.as_str().to_owned());
                    // Of two that are the same, the first decides.
                    places
                        .entry(key)
                        .or_insert_with(|| format!("{}:{line}", path.display()));
                }
            }
        }
        let authorization =
            Authorization::new(authorization_settings(access)).map_err(anyhow::Error::from)?;
        Ok(Self {
            authorization,
            name: path.display().to_string(),
            places,
        })
    }

    /// Those that a server has for whoever asks in `questions`.
    pub(super) fn of_server(
        connection: &Connection,
        questions: &[Question],
        context: &Context<'_>,
    ) -> Outcome<Self> {
        let client = client(connection, context)?;
        let settings = block_on_explained(learn(&client, questions))?;
        let authorization = Authorization::new(settings).map_err(anyhow::Error::from)?;
        let name = client.endpoints().first().map(ToString::to_string);
        Ok(Self {
            authorization,
            name: name.unwrap_or_default(),
            places: BTreeMap::new(),
        })
    }
}

/// The settings of a configuration in terms of the server.
fn authorization_settings(access: kes_config::Access) -> AuthorizationSettings {
    let kes_config::Access {
        admin,
        proxies,
        api,
        policies,
        is_embedded,
    } = access;
    let policies = policies.into_iter().map(|assignment| PolicySettings {
        name: assignment.name,
        policy: assignment.policy,
        identities: assignment.identities,
    });
    let routes = api.into_iter().map(|(verb, route)| {
        let kes_config::ApiOverride { skip_auth, timeout } = route;
        (verb, RouteSettings { skip_auth, timeout })
    });
    AuthorizationSettings {
        admin,
        policies: policies.collect(),
        routes: routes.collect(),
        proxies: proxies.into_iter().collect(),
        has_maintenance: is_embedded,
    }
}

fn refused(error: LoadError, context: &Context<'_>) -> Failure {
    warn(&error.warnings, context);
    Failure::Errors(error.errors.iter().map(ToString::to_string).collect())
}

fn warn(warnings: &[Diagnostic], context: &Context<'_>) {
    warnings
        .iter()
        .for_each(|warning| context.warn(&warning.to_string()));
}

/// What a server says of those who ask. Which paths it has opened it does not tell.
async fn learn(client: &Client, questions: &[Question]) -> anyhow::Result<AuthorizationSettings> {
    let mut settings = AuthorizationSettings {
        has_maintenance: match client.api().await {
            Ok(routes) => routes.iter().any(|route| route.path == Verb::StoreInfo.path()),
            // Not everybody may ask this. Then the paths of other key stores are taken to be there.
            Err(_) => true,
        },
        ..AuthorizationSettings::default()
    };
    let mut holders: BTreeMap<PolicyName, Vec<Identity>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for question in questions {
        match &question.who {
            Who::Nobody => {}
            Who::Policy(name) => {
                holders.entry(name.clone()).or_default();
            }
            Who::Identity(identity) if !known.insert(identity.clone()) => {}
            Who::Identity(identity) => match client.describe_identity(identity.as_str()).await {
                Ok(info) if info.admin => settings.admin = Some(identity.clone()),
                Ok(info) => {
                    if let Some(policy) = info.policy.filter(|policy| !policy.name.is_empty()) {
                        let name = PolicyName::parse(&policy.name)?;
                        holders.entry(name).or_default().push(identity.clone());
                    }
                }
                Err(Error::Api { status: 404, .. }) => {}
                Err(error) => {
                    return Err(explain(error))
                        .with_context(|| format!("asking about the identity {identity}"));
                }
            },
        }
    }
    for (name, identities) in holders {
        let read = client.read_policy(name.as_str()).await;
        let read = read
            .map_err(explain)
            .with_context(|| format!("reading the policy '{name}'"))?;
        settings.policies.push(PolicySettings {
            policy: policy(&read)?,
            name,
            identities,
        });
    }
    Ok(settings)
}

fn policy(read: &PolicyInfo) -> anyhow::Result<Policy> {
    let rules = |rules: &BTreeSet<String>| {
        rules
            .iter()
            .map(|rule| Rule::parse(rule))
            .collect::<Result<_, _>>()
    };
    Ok(Policy {
        allow: rules(&read.allow)?,
        deny: rules(&read.deny)?,
    })
}
