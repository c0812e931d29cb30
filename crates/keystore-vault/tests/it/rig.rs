//! One real Vault for all tests of this program, and in it a place of its own for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore as _, Patience, StoreError};
use kes_keystore_vault::{Config, KvVersion, Login, LoginNamespace, Tls, Transit, VaultStore};
use kes_peers::Vault;
pub(crate) use kes_testkit::trouble::chain as told;
use kes_types::{Clock, SystemClock};
use serde_json::{Value, json};

/// The Vault. It is never sealed: a test that seals starts its own.
pub(crate) fn vault() -> &'static Vault {
    static VAULT: LazyLock<Vault> = LazyLock::new(|| {
        let vault = Vault::start().expect("the Vault of the tests");
        prepare(&vault);
        vault
    });
    &VAULT
}

/// Mounts what all tests share.
pub(crate) fn prepare(vault: &Vault) {
    vault
        .root("POST", "sys/auth/approle", json!({ "type": "approle" }))
        .unwrap();
    vault
        .root("POST", "sys/mounts/transit", json!({ "type": "transit" }))
        .unwrap();
}

/// A K/V engine, and a role that may use it.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) engine: String,
    pub(crate) version: KvVersion,
    pub(crate) prefix: Option<String>,
    pub(crate) transit: Option<Transit>,
    pub(crate) role: String,
}

impl Place<'static> {
    /// An engine of this version, and a role with no more than the documented permissions.
    pub(crate) fn new(version: KvVersion) -> Self {
        Self::of(vault(), version)
    }
}

impl<'a> Place<'a> {
    /// The same in a Vault of the test's own.
    pub(crate) fn of(vault: &'a Vault, version: KvVersion) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Self {
            vault,
            engine: format!("team-{number}/kv"),
            version,
            prefix: None,
            transit: None,
            role: format!("kes-{number}"),
        };
        let kv = match version {
            KvVersion::V1 => "1",
            KvVersion::V2 => "2",
        };
        let mount = format!("sys/mounts/{}", place.engine);
        place.root(
            "POST",
            &mount,
            json!({ "type": "kv", "options": { "version": kv } }),
        );
        if version == KvVersion::V2 {
            place.wait_for_upgrade();
        }
        place.permit(&place.rules());
        place.root(
            "POST",
            &format!("auth/approle/role/{}", place.role),
            json!({ "token_policies": place.role, "token_ttl": "10m" }),
        );
        place
    }

    /// A version 2 engine takes a moment after it was mounted, and says so.
    fn wait_for_upgrade(&self) {
        let path = format!("{}/config", self.engine);
        let ready = || {
            matches!(
                self.vault.call("GET", &path, Vault::ROOT, None, None),
                Ok((200, _))
            )
        };
        let began = std::time::Instant::now();
        while !ready() {
            assert!(
                began.elapsed() < kes_testkit::PATIENCE,
                "{} does not become ready",
                self.engine
            );
        }
    }

    /// Below this folder.
    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Encrypted by a transit key of its own.
    pub(crate) fn with_transit(mut self) -> Self {
        let key = self.role.clone();
        self.root("POST", &format!("transit/keys/{key}"), Value::Null);
        let transit = rule(&format!("transit/encrypt/{key}"), &["update"])
            + &rule(&format!("transit/decrypt/{key}"), &["update"]);
        self.permit(&(self.rules() + &transit));
        self.transit = Some(Transit {
            engine: "transit".into(),
            key,
        });
        self
    }

    /// What the documents have a role permitted for its entries.
    fn rules(&self) -> String {
        let engine = &self.engine;
        match self.version {
            KvVersion::V1 => rule(&format!("{engine}/*"), &["create", "read", "delete", "list"]),
            KvVersion::V2 => {
                rule(&format!("{engine}/data/*"), &["create", "read"])
                    + &rule(&format!("{engine}/metadata/*"), &["list", "delete"])
            }
        }
    }

    /// Gives the role these permissions, and no others.
    pub(crate) fn permit(&self, policy: &str) {
        self.root(
            "PUT",
            &format!("sys/policies/acl/{}", self.role),
            json!({ "policy": policy }),
        );
    }

    /// Asks Vault as root.
    pub(crate) fn root(&self, method: &str, path: &str, body: Value) -> Value {
        self.vault.root(method, path, body).unwrap()
    }

    /// Asks Vault as root for what may be absent.
    pub(crate) fn look(&self, path: &str) -> (u16, Value) {
        self.vault.call("GET", path, Vault::ROOT, None, None).unwrap()
    }

    /// The path of an entry.
    pub(crate) fn entry(&self, name: &str) -> String {
        let folder = self
            .prefix
            .as_ref()
            .map(|prefix| format!("{prefix}/"))
            .unwrap_or_default();
        match self.version {
            KvVersion::V1 => format!("{}/{folder}{name}", self.engine),
            KvVersion::V2 => format!("{}/data/{folder}{name}", self.engine),
        }
    }

    /// Stores members of an entry by hand.
    pub(crate) fn lay(&self, name: &str, members: Value) {
        let body = match self.version {
            KvVersion::V1 => members,
            KvVersion::V2 => json!({ "data": members }),
        };
        self.root("PUT", &self.entry(name), body);
    }

    /// The members of an entry, as they are stored.
    pub(crate) fn members(&self, name: &str) -> Value {
        let (status, answer) = self.look(&self.entry(name));
        assert_eq!(status, 200, "{answer}");
        match self.version {
            KvVersion::V1 => answer["data"].clone(),
            KvVersion::V2 => answer["data"]["data"].clone(),
        }
    }

    /// The role's id and a secret id.
    pub(crate) fn credentials(&self) -> (String, String) {
        let role = format!("auth/approle/role/{}", self.role);
        let id = self.root("GET", &format!("{role}/role-id"), Value::Null);
        let secret = self.root("POST", &format!("{role}/secret-id"), Value::Null);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"]))
    }

    /// How to connect.
    pub(crate) fn config(&self) -> Config {
        let (id, secret) = self.credentials();
        Config {
            engine: self.engine.clone(),
            version: self.version,
            prefix: self.prefix.clone(),
            transit: self.transit.clone(),
            ..config(self.vault.endpoint(), &id, &secret)
        }
    }

    /// Another server that uses this place.
    pub(crate) async fn store(&self) -> VaultStore {
        connect(self.config()).await
    }

    /// Another server that uses this place through a proxy.
    pub(crate) async fn through(&self, endpoint: String) -> VaultStore {
        connect(Config {
            endpoint,
            ..self.config()
        })
        .await
    }
}

/// A configuration with what most tests do not care about.
pub(crate) fn config(endpoint: &str, id: &str, secret: &str) -> Config {
    Config {
        endpoint: endpoint.to_owned(),
        engine: "kv".into(),
        version: KvVersion::V1,
        namespace: None,
        prefix: None,
        transit: None,
        login: Login::AppRole {
            engine: "approle".into(),
            namespace: LoginNamespace::Inherit,
            id: SecretBytes::copy_of(id.as_bytes()),
            secret: SecretBytes::copy_of(secret.as_bytes()),
        },
        tls: Tls {
            ca: None,
            client: None,
        },
        ping: Duration::from_secs(3600),
        patience: QUICK,
    }
}

/// As patient as in production, but with waits that no test notices.
pub(crate) const QUICK: Patience = Patience {
    attempt: Duration::from_secs(20),
    operation: Duration::from_secs(40),
    retries: 2,
    first_wait: Duration::from_millis(5),
    longest_wait: Duration::from_millis(20),
};

pub(crate) async fn connect(config: Config) -> VaultStore {
    connect_at(config, Arc::new(SystemClock)).await
}

/// With a clock of the test's own.
pub(crate) async fn connect_at(config: Config, clock: Arc<dyn Clock>) -> VaultStore {
    VaultStore::connect(config, clock).await.unwrap()
}

/// Creates the entry `key`.
pub(crate) async fn create_key(store: &VaultStore) {
    store.create(&name("key"), &secret("value")).await.unwrap();
}

/// A rule of a policy.
pub(crate) fn rule(path: &str, capabilities: &[&str]) -> String {
    format!("path \"{path}\" {{ capabilities = {capabilities:?} }}\n")
}

pub(crate) fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

/// Checks that a failure says all of this, in one line.
pub(crate) fn assert_says<T: std::fmt::Debug>(result: Result<T, StoreError>, parts: &[&str]) {
    let text = told(&result.unwrap_err());
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}
