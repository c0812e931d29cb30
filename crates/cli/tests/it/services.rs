//! The services that keys are stored in, one for all tests: a test has a region of AWS or a mount of Vault to itself.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use kes_peers::{Moto, Vault};
use serde_json::{Value, json};

pub(crate) fn moto() -> &'static Moto {
    static MOTO: LazyLock<Moto> = LazyLock::new(|| Moto::start().unwrap());
    &MOTO
}

pub(crate) fn vault() -> &'static Vault {
    static VAULT: LazyLock<Vault> = LazyLock::new(|| {
        let vault = Vault::start().unwrap();
        vault
            .root("POST", "sys/auth/approle", json!({"type": "approle"}))
            .unwrap();
        vault
            .root("POST", "sys/mounts/transit", json!({"type": "transit"}))
            .unwrap();
        vault
    });
    &VAULT
}

/// A region of AWS that nobody else uses.
pub(crate) struct Region(pub(crate) &'static str);

impl Region {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        const ALL: [&str; 16] = [
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
            "ca-central-1",
            "sa-east-1",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "eu-central-1",
            "eu-north-1",
            "ap-south-1",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-northeast-1",
            "ap-northeast-2",
        ];
        Self(ALL[NEXT.fetch_add(1, Ordering::Relaxed)])
    }

    /// The section `keystore` of a configuration, on one line.
    pub(crate) fn keystore(&self) -> String {
        format!(
            "keystore: {{aws: {{secretsmanager: {{endpoint: '{}', region: {}, credentials: {{accesskey: an-access-key, secretkey: a-secret-key}}}}}}}}\n",
            moto().endpoint(),
            self.0
        )
    }

    /// Asks Secrets Manager.
    pub(crate) fn call(&self, action: &str, body: &Value) -> (u16, Value) {
        let target = format!("secretsmanager.{action}");
        moto().call("secretsmanager", self.0, &target, body).unwrap()
    }

    /// Stores a value as the reference does.
    pub(crate) fn put(&self, name: &str, value: &[u8]) {
        let value = std::str::from_utf8(value).unwrap();
        let (status, answer) = self.call("CreateSecret", &json!({"Name": name, "SecretString": value}));
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        let (status, answer) = self.call("GetSecretValue", &json!({ "SecretId": name }));
        assert_eq!(status, 200, "{answer}");
        answer["SecretString"].as_str().unwrap().into()
    }
}

/// A K/V engine of Vault that nobody else uses, and an `AppRole` that may do with it what the documentation asks for.
pub(crate) struct Mount {
    pub(crate) name: String,
    version: u8,
    id: String,
    pub(crate) secret: String,
}

impl Mount {
    pub(crate) fn new(version: u8) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kv-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mount = format!("sys/mounts/{name}");
        let options = json!({"type": "kv", "options": {"version": version.to_string()}});
        vault().root("POST", &mount, options).unwrap();
        let policy = match version {
            1 => {
                format!("path \"{name}/*\" {{ capabilities = [\"create\", \"read\", \"delete\", \"list\"] }}")
            }
            _ => format!(
                "path \"{name}/data/*\" {{ capabilities = [\"create\", \"read\"] }}\n\
                 path \"{name}/metadata/*\" {{ capabilities = [\"list\", \"delete\"] }}"
            ),
        };
        let policy = format!(
            "{policy}\npath \"transit/encrypt/{name}\" {{ capabilities = [\"update\"] }}\n\
             path \"transit/decrypt/{name}\" {{ capabilities = [\"update\"] }}"
        );
        let root = |method, path: &str, body| vault().root(method, path, body).unwrap();
        root(
            "PUT",
            &format!("sys/policies/acl/{name}"),
            json!({ "policy": policy }),
        );
        let role = format!("auth/approle/role/{name}");
        root("POST", &role, json!({"token_policies": name, "token_ttl": "1h"}));
        let id = root("GET", &format!("{role}/role-id"), Value::Null);
        let mut mount = Self {
            id: id["data"]["role_id"].as_str().unwrap().to_owned(),
            secret: String::new(),
            name,
            version,
        };
        mount.secret = mount.new_secret();
        mount
    }

    /// Permits this from now on, and nothing else.
    pub(crate) fn permit(&self, capabilities: &[&str]) {
        let Self { name, version, .. } = self;
        let capabilities = serde_json::to_string(capabilities).unwrap();
        let paths: &[&str] = match version {
            1 => &["*"],
            _ => &["data/*", "metadata/*"],
        };
        let rules = paths
            .iter()
            .map(|path| format!("path \"{name}/{path}\" {{ capabilities = {capabilities} }}\n"));
        let policy = rules.collect::<String>();
        let path = format!("sys/policies/acl/{name}");
        vault().root("PUT", &path, json!({ "policy": policy })).unwrap();
    }

    /// Another secret id.
    pub(crate) fn new_secret(&self) -> String {
        let path = format!("auth/approle/role/{}/secret-id", self.name);
        let answer = vault().root("POST", &path, json!({})).unwrap();
        answer["data"]["secret_id"].as_str().unwrap().to_owned()
    }

    /// Ends a secret id.
    pub(crate) fn destroy_secret(&self, secret: &str) {
        let path = format!("auth/approle/role/{}/secret-id/destroy", self.name);
        vault()
            .root("POST", &path, json!({ "secret_id": secret }))
            .unwrap();
    }

    /// A token that may do the same.
    pub(crate) fn token(&self) -> String {
        let body = json!({"policies": [self.name], "ttl": "1h"});
        let answer = vault().root("POST", "auth/token/create", body).unwrap();
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// The section `keystore` of a configuration, on one line, with more settings in it.
    pub(crate) fn keystore(&self, more: &str) -> String {
        let login = format!("approle: {{id: {}, secret: {}}}", self.id, self.secret);
        self.keystore_by(&login, more)
    }

    /// The same with another way to log in.
    pub(crate) fn keystore_by(&self, login: &str, more: &str) -> String {
        let Self { name, version, .. } = self;
        let endpoint = vault().endpoint();
        format!(
            "keystore: {{vault: {{endpoint: '{endpoint}', engine: {name}, version: v{version}, {login}{more}}}}}\n"
        )
    }

    /// Stores a value as the reference does.
    pub(crate) fn put(&self, name: &str, value: &[u8]) {
        let value = std::str::from_utf8(value).unwrap();
        let (path, body) = match self.version {
            1 => (format!("{}/{name}", self.name), json!({ name: value })),
            _ => (
                format!("{}/data/{name}", self.name),
                json!({"options": {"cas": 0}, "data": {name: value}}),
            ),
        };
        vault().root("PUT", &path, body).unwrap();
    }

    /// The names of what is stored in a mount of version 2.
    pub(crate) fn names(&self) -> Vec<String> {
        let path = format!("{}/metadata?list=true", self.name);
        let answer = vault().root("GET", &path, Value::Null).unwrap();
        let names = answer["data"]["keys"].as_array().unwrap();
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        let (path, pointer) = match self.version {
            1 => (format!("{}/{name}", self.name), "/data"),
            _ => (format!("{}/data/{name}?version=1", self.name), "/data/data"),
        };
        let answer = vault().root("GET", &path, Value::Null).unwrap();
        answer.pointer(pointer).unwrap()[name].as_str().unwrap().into()
    }
}

/// An address that nobody listens on.
pub(crate) const NOBODY: &str = "127.0.0.1:1";
