//! For tests of logins and tokens: a login method that a test has for itself, so that it can end every token of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kes_keystore::Patience;
use kes_keystore_vault::{Config, KvVersion, Login, LoginNamespace, Tls};
use kes_peers::Vault;
use kes_testkit::ProxiedRequest;
use serde_json::{Value, json};

use crate::rig::secret;

/// A K/V engine, version 2, and an `AppRole` method, that nobody else uses.
#[derive(Debug)]
pub(crate) struct Mounts {
    vault: &'static Vault,
    /// The engine, and the policy that allows what a key store needs there.
    pub(crate) kv: String,
    /// The method.
    pub(crate) approle: String,
}

/// An `AppRole`'s identity.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Mounts {
    pub(crate) fn new(vault: &'static Vault) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (kv, approle) = (
            format!("session-kv-{number}"),
            format!("session-approle-{number}"),
        );
        let engine = json!({ "type": "kv", "options": { "version": "2" } });
        root(vault, "POST", &format!("sys/mounts/{kv}"), engine);
        root(
            vault,
            "POST",
            &format!("sys/auth/{approle}"),
            json!({ "type": "approle" }),
        );
        let policy = format!(
            r#"path "{kv}/data/*" {{ capabilities = ["create", "read"] }}
               path "{kv}/metadata/*" {{ capabilities = ["list", "delete"] }}"#
        );
        root(
            vault,
            "PUT",
            &format!("sys/policies/acl/{kv}"),
            json!({ "policy": policy }),
        );
        Self { vault, kv, approle }
    }

    /// A role whose tokens may do what a key store needs, with these settings.
    pub(crate) fn role(&self, settings: Value) -> Role {
        let role = format!("auth/{}/role/kes", self.approle);
        let settings = with(settings, "token_policies", &self.kv);
        root(self.vault, "POST", &role, settings);
        let (status, id) = self
            .vault
            .call("GET", &format!("{role}/role-id"), Vault::ROOT, None, None)
            .expect("an answer");
        assert_eq!(status, 200, "{id}");
        let secret = root(self.vault, "POST", &format!("{role}/secret-id"), json!({}));
        Role {
            id: text(&id, "/data/role_id"),
            secret: text(&secret, "/data/secret_id"),
        }
    }

    /// A login as this role.
    pub(crate) fn login(&self, role: &Role) -> Login {
        Login::AppRole {
            engine: self.approle.clone(),
            namespace: LoginNamespace::Inherit,
            id: secret(&role.id),
            secret: secret(&role.secret),
        }
    }

    /// Settings for a store in this engine.
    pub(crate) fn config(&self, endpoint: &str, login: Login) -> Config {
        Config {
            endpoint: endpoint.to_owned(),
            engine: self.kv.clone(),
            version: KvVersion::V2,
            namespace: None,
            prefix: None,
            transit: None,
            login,
            tls: Tls {
                ca: None,
                client: None,
            },
            ping: Duration::from_secs(15),
            patience: Patience::default(),
        }
    }

    /// Makes all tokens of the method worthless.
    pub(crate) fn revoke_tokens(&self) {
        revoke_tokens(self.vault, &self.approle);
    }
}

/// Makes all tokens of a method worthless.
pub(crate) fn revoke_tokens(vault: &Vault, method: &str) {
    let path = format!("sys/leases/revoke-prefix/auth/{method}");
    root(vault, "PUT", &path, json!({ "sync": true }));
}

/// What Vault answers root.
pub(crate) fn root(vault: &Vault, method: &str, path: &str, body: Value) -> Value {
    vault.root(method, path, body).expect("root may")
}

/// These settings and one more.
pub(crate) fn with(mut settings: Value, name: &str, value: &str) -> Value {
    let all = settings.as_object_mut().expect("settings");
    all.insert(name.to_owned(), json!(value));
    settings
}

/// The text at `pointer`.
pub(crate) fn text(answer: &Value, pointer: &str) -> String {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("{pointer} in {answer}")).to_owned()
}

pub(crate) fn is_login(request: &ProxiedRequest) -> bool {
    request.path().starts_with("/v1/auth/") && request.path().ends_with("/login")
}

pub(crate) fn is_renewal(request: &ProxiedRequest) -> bool {
    request.path() == "/v1/auth/token/renew-self"
}
