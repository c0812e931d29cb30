//! The services, each on this machine, as the server and as a bare store use them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kes_crypto::SecretBytes;
use kes_keystore::{KeyStore, Patience};
use kes_keystore_aws::{AwsStore, Credentials};
use kes_keystore_vault::{KvVersion, Login, LoginNamespace, Tls, VaultStore};
use kes_peers::{Moto, Vault};
use kes_types::SystemClock;
use serde_json::{Value, json};

use crate::setup::Site;

/// A service that runs.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// Connected to it from this process.
    pub(super) store: Arc<dyn KeyStore>,
    /// What connects the server to it.
    pub(super) settings: String,
    _peer: Peer,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held as long as it is measured")]
enum Peer {
    Vault(Vault),
    Moto(Moto),
}

/// Makes a service.
type Start = fn(&Site) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<Service>> + '_>>;

/// All of them, in the order of the table.
pub(super) const ALL: &[Start] = &[
    |site| Box::pin(vault(site, false)),
    |site| Box::pin(vault(site, true)),
    |site| Box::pin(aws(site)),
];

async fn vault(site: &Site, is_tls: bool) -> anyhow::Result<Service> {
    let vault = if is_tls {
        Vault::start_tls(&site.path("server.pem"), &site.path("server.key"))
    } else {
        Vault::start()
    };
    let vault = vault.context("starting Vault")?;
    let policy = "path \"kv/data/kes/*\" { capabilities = [\"create\", \"read\"] }
path \"kv/metadata/kes/*\" { capabilities = [\"list\", \"delete\"] }";
    for (path, body) in [
        (
            "sys/mounts/kv",
            json!({ "type": "kv", "options": { "version": "2" } }),
        ),
        ("sys/policies/acl/kes", json!({ "policy": policy })),
        ("sys/auth/approle", json!({ "type": "approle" })),
        (
            "auth/approle/role/kes",
            json!({ "token_policies": "kes", "token_period": "5m" }),
        ),
    ] {
        vault.root("POST", path, body)?;
    }
    let text = |answer: Value, pointer: &str| {
        let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("Vault gives no {pointer}"))
    };
    let id = vault.root("GET", "auth/approle/role/kes/role-id", Value::Null)?;
    let id = text(id, "/data/role_id")?;
    let secret = vault.root("POST", "auth/approle/role/kes/secret-id", Value::Null)?;
    let secret = text(secret, "/data/secret_id")?;

    let endpoint = vault.endpoint().to_owned();
    let ca: Option<PathBuf> = is_tls.then(|| site.path("ca.pem"));
    let tls = ca
        .as_ref()
        .map(|ca| format!("tls: {{ ca: {ca:?} }}"))
        .unwrap_or_default();
    let settings = format!(
        "keystore:
  vault:
    endpoint: \"{endpoint}\"
    version: v2
    prefix: kes
    approle: {{ id: \"{id}\", secret: \"{secret}\" }}
    {tls}
"
    );
    let config = kes_keystore_vault::Config {
        endpoint,
        engine: "kv".to_owned(),
        version: KvVersion::V2,
        namespace: None,
        prefix: Some("kes".to_owned()),
        transit: None,
        login: Login::AppRole {
            engine: "approle".to_owned(),
            namespace: LoginNamespace::Inherit,
            id: SecretBytes::copy_of(id.as_bytes()),
            secret: SecretBytes::copy_of(secret.as_bytes()),
        },
        tls: Tls { ca, client: None },
        ping: Duration::from_secs(15),
        patience: Patience::default(),
    };
    let store = VaultStore::connect(config, Arc::new(SystemClock)).await?;
    Ok(Service {
        name: if is_tls {
            "Vault, K/V version 2, TLS"
        } else {
            "Vault, K/V version 2, plain HTTP"
        },
        store: Arc::new(store),
        settings,
        _peer: Peer::Vault(vault),
    })
}

async fn aws(_: &Site) -> anyhow::Result<Service> {
    let moto = Moto::start().context("starting moto")?;
    let endpoint = moto.endpoint();
    let settings = format!(
        "keystore:
  aws:
    secretsmanager:
      endpoint: \"{endpoint}\"
      region: eu-central-1
      credentials: {{ accesskey: {ACCESS_KEY}, secretkey: {SECRET_KEY} }}
"
    );
    let config = kes_keystore_aws::Config {
        endpoint: Some(endpoint),
        region: "eu-central-1".to_owned(),
        kmskey: None,
        credentials: Some(Credentials {
            access_key: SecretBytes::copy_of(ACCESS_KEY.as_bytes()),
            secret_key: SecretBytes::copy_of(SECRET_KEY.as_bytes()),
            session_token: None,
        }),
        ca: None,
        patience: Patience::default(),
    };
    let store = AwsStore::connect(config, Arc::new(SystemClock)).await?;
    Ok(Service {
        name: "AWS Secrets Manager (moto), plain HTTP",
        store: Arc::new(store),
        settings,
        _peer: Peer::Moto(moto),
    })
}

/// Any credentials will do.
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "of-an-example";
