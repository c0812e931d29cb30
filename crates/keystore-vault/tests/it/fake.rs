//! A fake of what the real Vault of the tests does not have: namespaces, and the ways of `OpenBao`. It is written from the
//! documentation, so it shows what is sent, and what becomes of documented answers, and proves nothing about servers.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_vault::{Config, KvVersion, Login, LoginNamespace, VaultStore};
use kes_testkit::{Answer, Fault, FaultProxy, ProxiedRequest};
use kes_types::SystemClock;
use serde_json::{Value, json};

use crate::rig::{assert_says, config, connect, name, secret, told};

/// A K/V version 2 engine in one namespace, and logins in another.
struct Fake {
    proxy: FaultProxy,
}

/// What a fake holds itself to.
#[derive(Clone, Debug)]
struct Rules {
    namespace: Option<&'static str>,
    login_namespace: Option<&'static str>,
}

impl Fake {
    fn start(rules: Rules) -> Self {
        // Nobody is behind it: it answers all by itself.
        let proxy = FaultProxy::start("http://127.0.0.1:1");
        let entries = Mutex::new(BTreeMap::new());
        proxy.set(move |request| {
            let (status, body) = answer(&rules, &mut entries.lock().unwrap(), request);
            Fault::Says(Answer::of(status, "application/json", body.to_string()))
        });
        Self { proxy }
    }

    fn config(&self) -> Config {
        Config {
            version: KvVersion::V2,
            ..config(&self.proxy.endpoint(), "role", "secret-id")
        }
    }
}

fn answer(rules: &Rules, entries: &mut BTreeMap<String, Value>, request: &ProxiedRequest) -> (u16, Value) {
    let says = |status: u16, text: &str| (status, json!({ "errors": [text] }));
    let namespace = request.header("x-vault-namespace");
    let path = request.path().strip_prefix("/v1/").unwrap();
    if request.header("x-vault-request") != Some("true") {
        return says(400, "missing header");
    }
    if path == "sys/health" {
        // As OpenBao does.
        return match namespace {
            Some(_) => says(400, "unsupported path"),
            None => (
                299,
                json!({ "initialized": true, "sealed": false, "standby": true }),
            ),
        };
    }
    let expected = if path.starts_with("auth/") {
        rules.login_namespace
    } else {
        rules.namespace
    };
    if namespace != expected {
        return says(404, "namespace not found");
    }
    if path.ends_with("/login") {
        return match request.header("x-vault-token") {
            Some(_) => says(400, "no token is needed"),
            None => (
                200,
                json!({ "auth": { "client_token": "s.token", "lease_duration": 3600, "renewable": true } }),
            ),
        };
    }
    if request.header("x-vault-token") != Some("s.token") {
        return says(403, "permission denied");
    }
    if path == "auth/token/lookup-self" {
        return (200, json!({ "data": {} }));
    }
    if path.starts_with("sys/internal/ui/mounts/") {
        return says(404, "unsupported path");
    }
    if let Some(key) = path.strip_prefix("kv/data/") {
        return match (request.method.as_str(), entries.get(key)) {
            ("PUT", Some(_)) => says(400, "check-and-set parameter did not match the current version"),
            ("PUT", None) => {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                assert_eq!(body["options"], json!({ "cas": 0 }));
                entries.insert(key.to_owned(), body["data"].clone());
                (200, json!({ "data": { "version": 1 } }))
            }
            (_, Some(data)) => (
                200,
                json!({ "data": { "data": data, "metadata": { "version": 1, "destroyed": false } } }),
            ),
            (_, None) => (404, json!({ "errors": [] })),
        };
    }
    if request.target == "/v1/kv/metadata?list=true" {
        let names: Vec<_> = entries.keys().collect();
        return if names.is_empty() {
            (404, json!({ "errors": [] }))
        } else {
            (200, json!({ "data": { "keys": names } }))
        };
    }
    match path.strip_prefix("kv/metadata/") {
        Some(key) if request.method == "DELETE" => {
            entries.remove(key);
            (204, Value::Null)
        }
        _ => says(404, "no handler for route"),
    }
}

/// Each operation once, and what must be refused.
async fn works(store: &VaultStore) {
    let all = NonZeroUsize::new(5).unwrap();
    assert_eq!(store.list("", None, all).await.unwrap().names, []);
    store.create(&name("x"), &secret("value")).await.unwrap();
    let again = store.create(&name("x"), &secret("value")).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(
        store.get(&name("x")).await.unwrap().value.expose_secret(),
        b"value"
    );
    assert_eq!(store.list("", None, all).await.unwrap().names, [name("x")]);
    store.delete(&name("x")).await.unwrap();
    let read = store.get(&name("x")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_namespace_is_sent_with_everything_but_the_health() {
    let fake = Fake::start(Rules {
        namespace: Some("team/a"),
        login_namespace: Some("team/a"),
    });
    let store = connect(Config {
        namespace: Some("team/a".into()),
        ..fake.config()
    })
    .await;
    works(&store).await;
}

#[tokio::test]
async fn without_a_namespace_none_is_sent() {
    for namespace in [None, Some(String::new())] {
        let fake = Fake::start(Rules {
            namespace: None,
            login_namespace: None,
        });
        works(
            &connect(Config {
                namespace,
                ..fake.config()
            })
            .await,
        )
        .await;
    }
}

#[tokio::test]
async fn a_login_may_be_in_another_namespace_or_in_none() {
    for (login, sent) in [
        (LoginNamespace::Root, None),
        (LoginNamespace::Named("people".into()), Some("people")),
    ] {
        let fake = Fake::start(Rules {
            namespace: Some("team"),
            login_namespace: sent,
        });
        let store = connect(Config {
            namespace: Some("team".into()),
            login: Login::AppRole {
                engine: "approle".into(),
                namespace: login,
                id: secret("role"),
                secret: secret("secret-id"),
            },
            ..fake.config()
        })
        .await;
        works(&store).await;
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_told() {
    let fake = Fake::start(Rules {
        namespace: Some("team"),
        login_namespace: None,
    });
    let store = connect(Config {
        namespace: Some("teem".into()),
        login: Login::AppRole {
            engine: "approle".into(),
            namespace: LoginNamespace::Root,
            id: secret("role"),
            secret: secret("secret-id"),
        },
        ..fake.config()
    })
    .await;
    let says = [
        "namespace not found",
        "namespace teem",
        "keystore.vault.namespace",
    ];
    assert_says(store.get(&name("x")).await, &says);
    assert_says(store.list("", None, NonZeroUsize::MIN).await, &says);
    assert_says(store.create(&name("x"), &secret("value")).await, &says);
}

/// `OpenBao`'s text for a bad secret id.
#[tokio::test]
async fn a_refused_login_is_told_whatever_the_server_calls_it() {
    for text in ["invalid role or secret ID", "invalid secret id", "another text"] {
        let fake = Fake::start(Rules {
            namespace: None,
            login_namespace: None,
        });
        let refused = Answer::of(400, "application/json", json!({ "errors": [text] }).to_string());
        fake.proxy.always(Fault::Says(refused));
        let failed = VaultStore::connect(fake.config(), Arc::new(SystemClock))
            .await
            .unwrap_err();
        let said = told(&failed);
        assert!(said.contains(text) && said.contains("approle"), "{said}");
        assert!(!said.contains("secret-id-value"), "{said}");
    }
}

/// What Vault's own clients read from the environment must not lead elsewhere.
#[test]
fn the_environment_of_vaults_own_client_changes_nothing() {
    let tests = std::env::current_exe().unwrap();
    let child = std::process::Command::new(tests)
        .args(["--exact", "fake::without_a_namespace_none_is_sent"])
        .env("VAULT_ADDR", "http://127.0.0.1:1")
        .env("VAULT_NAMESPACE", "another")
        .env("VAULT_TOKEN", "another")
        .env("VAULT_MAX_RETRIES", "0")
        .env("VAULT_RATE_LIMIT", "1")
        .env("VAULT_PROXY_ADDR", "http://127.0.0.1:1")
        .env("VAULT_CACERT", "/nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}
