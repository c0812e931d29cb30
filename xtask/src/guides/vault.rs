//! MinIO's KMS guide of 2020, with Vault: certificates without names, self-signed and marked as a CA; K/V version 1 with a policy that
//! gives no `update` and no `list`; the command names of that time.

use anyhow::{Context, Result, ensure};
use kes_peers::Vault;
use rustix::process::{Resource, geteuid, getrlimit};
use serde_json::{Value, json};

use super::Step;
use super::place::Place;

pub(super) const NAME: &str = "vault-2020";

pub(super) const STEPS: &[Step<Vault>] = &[
    ("3.2 and 3.3: the K/V engine and AppRole are enabled", engines),
    ("3.4: the policy", policy),
    ("3.5: the role and its ids", role),
    ("4.1: an identity for MinIO", identity),
    ("4.2: the configuration, and the server starts", server),
    (
        "4.3: a key that the policy allows, and one that it does not",
        keys,
    ),
    ("what the key is in Vault", entry),
    ("the policy gives no list, and the error says so", listing),
];

/// Chapter 2, and a Vault with its certificate.
pub(super) fn start(place: &mut Place) -> Result<Vault> {
    for name in ["vault", "kes"] {
        place.sh(&format!(
            "openssl ecparam -genkey -name prime256v1 | openssl ec -out {name}-tls.key
             openssl req -new -x509 -days 365 -key {name}-tls.key -out {name}-tls.crt \
               -subj \"/C=US/ST=state/L=location/O=organization/CN=localhost\""
        ))?;
    }
    Vault::start_tls(&place.path("vault-tls.crt"), &place.path("vault-tls.key"))
}

fn engines(_: &mut Place, vault: &Vault) -> Result<()> {
    // `vault secrets enable kv` mounts version 1.
    vault.root("POST", "sys/mounts/kv", json!({ "type": "kv" }))?;
    vault.root("POST", "sys/auth/approle", json!({ "type": "approle" }))?;
    Ok(())
}

fn policy(_: &mut Place, vault: &Vault) -> Result<()> {
    let text = "path \"kv/minio/*\" {\n  capabilities = [ \"create\", \"read\", \"delete\" ]\n}\n";
    vault.root(
        "PUT",
        "sys/policies/acl/minio-key-policy",
        json!({ "policy": text }),
    )?;
    Ok(())
}

fn role(place: &mut Place, vault: &Vault) -> Result<()> {
    let role = "auth/approle/role/kes-role";
    vault.root(
        "PUT",
        role,
        json!({ "token_num_uses": 0, "secret_id_num_uses": 0, "period": "5m" }),
    )?;
    vault.root("PUT", role, json!({ "policies": "minio-key-policy" }))?;
    let text = |answer: &Value, pointer: &str| {
        let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("Vault gives no {pointer}"))
    };
    let answer = vault.root("GET", &format!("{role}/role-id"), Value::Null)?;
    place.export("ROLE_ID", &text(&answer, "/data/role_id")?);
    let answer = vault.root("PUT", &format!("{role}/secret-id"), Value::Null)?;
    place.export("SECRET_ID", &text(&answer, "/data/secret_id")?);
    Ok(())
}

fn identity(place: &mut Place, _: &Vault) -> Result<()> {
    place.sh("kes tool identity new MinIO --key=minio.key --cert=minio.cert --time=8760h")?;
    let printed = place.sh("kes tool identity of minio.cert")?;
    let identity = printed.split_whitespace().last().unwrap_or_default();
    ensure!(
        identity.len() == 64 && identity.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "no identity: {printed}"
    );
    place.export("MINIO_IDENTITY", identity);
    Ok(())
}

fn server(place: &mut Place, vault: &Vault) -> Result<()> {
    configure(place, vault, "")?;
    // The guide gives the executable the right to lock memory, which takes root.
    let mlock = match getrlimit(Resource::Memlock).current {
        Some(_) if !geteuid().is_root() => {
            println!("guides: {NAME}: without --mlock, which this user may not use");
            ""
        }
        _ => "--mlock",
    };
    place.serve(&format!(
        "kes server --config=kes-config.toml {mlock} --root=disabled --mtls-auth=ignore"
    ))
}

/// The guide's configuration, with what it says is to be filled in. MinIO may do what `more` says, too.
fn configure(place: &mut Place, vault: &Vault, more: &str) -> Result<()> {
    let endpoint = vault.endpoint();
    place.write(
        "kes-config.toml",
        &format!(
            r#"# The address:port of the kes server - i.e. on the local machine.
address = "127.0.0.1:7373"

[tls]
key  = "./kes-tls.key"
cert = "./kes-tls.crt" 

[policy.minio]
paths = [
          "/v1/key/create/minio-*",
          "/v1/key/generate/minio-*",
          "/v1/key/decrypt/minio-*"{more}
        ]
identities = [ "${{MINIO_IDENTITY}}" ]

[cache.expiry]
all    = "5m" 
unused = "20s" 

[keystore.vault]
address   = "{endpoint}"  # The Vault endpoint - i.e. https://127.0.0.1:8200
name      = "minio"                   # The domain resp. prefix at Vault's K/V backend 

[keystore.vault.approle]
id     = "${{ROLE_ID}}"    # Your AppRole Role ID 
secret = "${{SECRET_ID}}"    # Your AppRole Secret ID
retry  = "15s" # Duration until the server tries to re-authenticate after connection loss.

[keystore.vault.tls]
ca = "./vault-tls.crt" # Since we use self-signed certificates

[keystore.vault.status]
ping = "10s"

"#
        ),
    )
}

fn keys(place: &mut Place, _: &Vault) -> Result<()> {
    place.export("KES_CLIENT_TLS_KEY_FILE", "minio.key");
    place.export("KES_CLIENT_TLS_CERT_FILE", "minio.cert");
    place.sh("kes key create minio-key-1 -k")?;
    let refusal = place.sh_fails("kes key create my-key-1 -k")?;
    ensure!(refusal.contains("insufficient permissions"), "{refusal}");
    // What MinIO does with it.
    place.sh("kes key dek minio-key-1 -k")?;
    Ok(())
}

fn entry(_: &mut Place, vault: &Vault) -> Result<()> {
    let entry = vault.root("GET", "kv/minio/minio-key-1", Value::Null)?;
    let data = entry.pointer("/data").and_then(Value::as_object);
    let names: Vec<_> = data
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(names == ["minio-key-1"], "the entry has {names:?}");
    Ok(())
}

fn listing(place: &mut Place, vault: &Vault) -> Result<()> {
    configure(place, vault, ",\n          \"/v1/key/list/*\"")?;
    place.serve("kes server --config=kes-config.toml --root=disabled --mtls-auth=ignore")?;
    place.sh_fails("kes key ls -k")?;
    let log = place.log();
    ensure!(
        log.contains(r#"the policy needs \"list\" on kv/minio/"#),
        "the log does not name what is missing: {log}"
    );
    Ok(())
}
