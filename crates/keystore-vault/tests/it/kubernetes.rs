//! Login by a service account, which Vault has a real Kubernetes API server examine.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kes_keystore::KeyStore as _;
use kes_keystore_vault::{Config, Jwt, Login, LoginNamespace, VaultStore};
use kes_peers::Kubernetes;
use kes_testkit::{Fault, FaultProxy};
use kes_types::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};

use crate::mounts::{Mounts, is_login, revoke_tokens, root};
use crate::rig::{connect, connect_at, create_key, name, secret, vault};

/// A Kubernetes, and a method of Vault that asks it.
struct Cluster {
    kubernetes: Kubernetes,
    mounts: Mounts,
    method: String,
}

impl Cluster {
    fn start() -> Self {
        let kubernetes = Kubernetes::start().expect("a Kubernetes API server");
        kubernetes
            .service_account("kes", "system:auth-delegator")
            .expect("an account");
        kubernetes
            .service_account("other", "system:auth-delegator")
            .expect("an account");
        let mounts = Mounts::new(vault());
        let method = format!("kubernetes-of-{}", mounts.kv);
        root(
            vault(),
            "POST",
            &format!("sys/auth/{method}"),
            json!({ "type": "kubernetes" }),
        );
        let ca = fs::read_to_string(kubernetes.ca()).expect("the CA");
        let config = json!({
            "kubernetes_host": kubernetes.endpoint(),
            "kubernetes_ca_cert": ca,
            "disable_local_ca_jwt": true,
        });
        root(vault(), "POST", &format!("auth/{method}/config"), config);
        let role = json!({
            "bound_service_account_names": "kes",
            "bound_service_account_namespaces": "default",
            "token_policies": mounts.kv,
            "token_ttl": "1h",
        });
        root(vault(), "POST", &format!("auth/{method}/role/kes"), role);
        Self {
            kubernetes,
            mounts,
            method,
        }
    }

    fn token(&self, account: &str) -> String {
        self.kubernetes.token(account).expect("a token")
    }

    fn config(&self, endpoint: &str, role: &str, jwt: Jwt) -> Config {
        let login = Login::Kubernetes {
            engine: self.method.clone(),
            namespace: LoginNamespace::Inherit,
            role: role.to_owned(),
            jwt,
        };
        self.mounts.config(endpoint, login)
    }

    async fn refusal(&self, role: &str, jwt: Jwt, clock: Arc<dyn Clock>) -> String {
        let refused = VaultStore::connect(self.config(vault().endpoint(), role, jwt), clock).await;
        format!("{:#}", anyhow::Error::from(refused.expect_err("no connection")))
    }
}

/// One API server serves all that is to be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_logs_in_with_the_token_that_is_in_the_file_by_then() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let first = cluster.token("kes");
    fs::write(&file, format!("\n {first}\n\n")).expect("a file");

    let proxy = FaultProxy::start(vault().endpoint());
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let log = Arc::clone(&sent);
    proxy.set(move |request| {
        if is_login(request) {
            let body = serde_json::from_slice(&request.body).expect("JSON");
            log.lock().expect("a lock").push(body);
        }
        Fault::Pass
    });
    let clock = Arc::new(ManualClock::default());
    let config = cluster.config(&proxy.endpoint(), "kes", Jwt::File(file.clone()));
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    create_key(&store).await;

    let second = cluster.token("kes");
    fs::write(&file, &second).expect("a file");
    revoke_tokens(vault(), &cluster.method);
    clock.advance(Duration::from_secs(6));
    store.get(&name("key")).await.expect("a key");
    let login = |jwt: &str| json!({ "role": "kes", "jwt": jwt });
    assert_eq!(*sent.lock().expect("a lock"), [login(&first), login(&second)]);

    literal_tokens_work(&cluster).await;
    refusals_say_what_to_do(&cluster).await;
}

async fn literal_tokens_work(cluster: &Cluster) {
    let jwt = Jwt::Token(secret(&cluster.token("kes")));
    let config = cluster.config(vault().endpoint(), "kes", jwt);
    let store = connect(config).await;
    store.ping().await.expect("logged in");
}

async fn refusals_say_what_to_do(cluster: &Cluster) {
    let genuine = cluster.token("kes");
    let (signed, signature) = genuine.rsplit_once('.').expect("a signature");
    let tampered = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let system: Arc<dyn Clock> = Arc::new(SystemClock);
    let later: Arc<dyn Clock> = Arc::new(ManualClock::new(SystemClock.now() + Duration::from_secs(3_600)));
    for (role, jwt, clock, expected) in [
        ("kes", tampered.clone(), &system, "the token must be genuine"),
        (
            "kes",
            tampered,
            &later,
            "the token of keystore.vault.kubernetes.jwt expired at",
        ),
        (
            "kes",
            cluster.token("other"),
            &system,
            "system:serviceaccount:default:other",
        ),
        (
            "nobody",
            genuine.clone(),
            &system,
            "there is no role nobody at auth/kubernetes-of-",
        ),
        (
            "kes",
            "junk".to_owned(),
            &system,
            "is not one of a service account",
        ),
    ] {
        let said = cluster
            .refusal(role, Jwt::Token(secret(&jwt)), Arc::clone(clock))
            .await;
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(
            jwt.len() < 10 || jwt.split('.').all(|part| !said.contains(part)),
            "{said}"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let absent = folder.path().join("absent");
    let said = cluster.refusal("kes", Jwt::File(absent.clone()), system).await;
    let expected = format!(
        "the file {} of keystore.vault.kubernetes.jwt cannot be read",
        absent.display()
    );
    assert!(said.contains(&expected), "{said}");
}
