//! Where KES keeps its keys, and the service that this takes.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kes_peers::{Moto, Vault};
use serde_json::{Value, json};

/// Where KES keeps its keys, and how it comes to be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// A folder. The configuration is written by hand, as for all stores but the embedded one.
    Fs,
    /// The embedded store of `kes server --init`, which makes its configuration itself and prints what its users need.
    Embedded,
    /// AWS Secrets Manager, with a key of AWS KMS.
    Aws,
    /// Vault, K/V version 2, by `AppRole`.
    Vault,
}

/// What is added to the name of a scenario.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fs => "",
            Self::Embedded => " embedded",
            Self::Aws => " aws",
            Self::Vault => " vault",
        })
    }
}

/// A place for keys that is ready, shared by the KES servers of a scenario.
#[derive(Debug)]
pub(super) struct Place {
    /// The section `keystore` of their configurations.
    pub(super) yaml: String,
    service: Service,
}

/// What holds the keys.
#[derive(Debug)]
enum Service {
    /// Nothing but KES itself.
    None,
    Aws {
        moto: Moto,
        kms_key: String,
    },
    Vault(Vault),
}

impl Place {
    /// A folder below `path`.
    pub(super) fn folder(path: &Path) -> Self {
        Self {
            yaml: format!("keystore:\n  fs:\n    path: {}/keys\n", path.display()),
            service: Service::None,
        }
    }

    /// What `kes server --init` chooses.
    pub(super) const fn chosen_by_kes() -> Self {
        Self {
            yaml: String::new(),
            service: Service::None,
        }
    }

    /// AWS, with a KMS key for the secrets.
    pub(super) fn aws() -> Result<Self> {
        let moto = Moto::start()?;
        let key = aws(&moto, "kms", "TrentService.CreateKey", &json!({}))?;
        let kms_key = text(&key, "/KeyMetadata/Arn")?;
        let yaml = format!(
            "keystore:\n  aws:\n    secretsmanager:\n      endpoint: {endpoint}\n      region: {REGION}\n      kmskey: {kms_key}\n      \
             credentials:\n        accesskey: an-access-key\n        secretkey: a-secret-key\n",
            endpoint = moto.endpoint()
        );
        Ok(Self {
            yaml,
            service: Service::Aws { moto, kms_key },
        })
    }

    /// Vault, with the least that KES needs. Its tokens are renewed and replaced while a scenario runs.
    pub(super) fn vault() -> Result<Self> {
        let vault = Vault::start()?;
        vault.root(
            "POST",
            "sys/mounts/kv",
            json!({"type": "kv", "options": {"version": "2"}}),
        )?;
        vault.root("POST", "sys/auth/approle", json!({"type": "approle"}))?;
        vault.root("PUT", "sys/policies/acl/kes", json!({ "policy": POLICY }))?;
        vault.root(
            "POST",
            "auth/approle/role/kes",
            json!({"token_policies": "kes", "token_ttl": "10s", "token_max_ttl": "30s"}),
        )?;
        let id = vault.root("GET", "auth/approle/role/kes/role-id", Value::Null)?;
        let secret = vault.root("POST", "auth/approle/role/kes/secret-id", json!({}))?;
        let yaml = format!(
            "keystore:\n  vault:\n    endpoint: {endpoint}\n    engine: kv\n    version: v2\n    prefix: minio\n    approle:\n      \
             id: {id}\n      secret: {secret}\n",
            endpoint = vault.endpoint(),
            id = text(&id, "/data/role_id")?,
            secret = text(&secret, "/data/secret_id")?,
        );
        Ok(Self {
            yaml,
            service: Service::Vault(vault),
        })
    }

    /// Fails unless the service has the key `name` where, and as, operators are told.
    pub(super) fn check_key(&self, name: &str) -> Result<()> {
        match &self.service {
            Service::None => {}
            Service::Aws { moto, kms_key } => {
                let secret = aws(
                    moto,
                    "secretsmanager",
                    "secretsmanager.DescribeSecret",
                    &json!({ "SecretId": name }),
                )?;
                ensure!(
                    text(&secret, "/KmsKeyId")? == *kms_key,
                    "the secret is encrypted with another key: {secret}"
                );
            }
            Service::Vault(vault) => {
                let entry = vault.root("GET", &format!("kv/data/minio/{name}"), Value::Null)?;
                text(&entry, &format!("/data/data/{name}"))?;
            }
        }
        Ok(())
    }
}

fn aws(moto: &Moto, service: &str, target: &str, body: &Value) -> Result<Value> {
    let (status, answer) = moto.call(service, REGION, target, body)?;
    ensure!(status == 200, "{target}: status {status}: {answer}");
    Ok(answer)
}

fn text(answer: &Value, pointer: &str) -> Result<String> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("there is no {pointer} in the answer"))?
        .to_owned())
}

const REGION: &str = "us-east-2";

/// What the documentation asks for. Without `update`, so that no key is ever overwritten.
const POLICY: &str = r#"
path "kv/data/minio/*" { capabilities = ["create", "read"] }
path "kv/metadata/minio/*" { capabilities = ["list", "delete"] }
"#;
