use kes_peers::Vault;
use serde_json::{Value, json};

use crate::{certificate, curl};

#[test]
fn a_second_write_with_cas_0_is_refused() {
    let vault = Vault::start().unwrap();
    vault
        .root(
            "POST",
            "sys/mounts/kv",
            json!({ "type": "kv", "options": { "version": "2" } }),
        )
        .unwrap();
    let body = json!({ "options": { "cas": 0 }, "data": { "value": "x" } });
    assert_eq!(
        vault.root("POST", "kv/data/key", body.clone()).unwrap()["data"]["version"],
        1
    );
    let (status, answer) = vault
        .call("POST", "kv/data/key", Vault::ROOT, None, Some(&body))
        .unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        answer["errors"][0],
        "check-and-set parameter did not match the current version"
    );
}

#[test]
fn an_absent_entry_of_version_1_is_404_without_errors() {
    let vault = Vault::start().unwrap();
    vault
        .root("POST", "sys/mounts/kv", json!({ "type": "kv" }))
        .unwrap();
    let (status, answer) = vault.call("GET", "kv/key", Vault::ROOT, None, None).unwrap();
    assert_eq!((status, answer), (404, json!({ "errors": [] })));
    let (status, answer) = vault
        .call("PUT", "kv/key", Vault::ROOT, None, Some(&json!({ "a": "b" })))
        .unwrap();
    assert_eq!((status, answer), (204, Value::Null));
}

#[test]
fn a_sealed_vault_refuses_everything_and_has_its_data_afterwards() {
    let vault = Vault::start().unwrap();
    vault
        .root("POST", "sys/mounts/kv", json!({ "type": "kv" }))
        .unwrap();
    vault.root("PUT", "kv/key", json!({ "a": "b" })).unwrap();
    vault.seal().unwrap();
    assert_eq!(vault.call("GET", "sys/health", "", None, None).unwrap().0, 503);
    let (status, answer) = vault.call("GET", "kv/key", Vault::ROOT, None, None).unwrap();
    assert_eq!((status, &answer["errors"][0]), (503, &json!("Vault is sealed")));
    vault.unseal().unwrap();
    assert_eq!(
        vault.root("GET", "kv/key", Value::Null).unwrap()["data"]["a"],
        "b"
    );
}

#[test]
fn an_app_role_gets_a_token_with_its_policy_and_lease() {
    let vault = Vault::start().unwrap();
    vault
        .root("POST", "sys/mounts/kv", json!({ "type": "kv" }))
        .unwrap();
    vault
        .root("POST", "sys/auth/approle", json!({ "type": "approle" }))
        .unwrap();
    let policy = r#"path "kv/*" { capabilities = ["create"] }"#;
    vault
        .root("PUT", "sys/policies/acl/kes", json!({ "policy": policy }))
        .unwrap();
    let role = json!({ "token_policies": "kes", "token_ttl": "40s" });
    vault.root("POST", "auth/approle/role/kes", role).unwrap();
    let id = vault
        .root("GET", "auth/approle/role/kes/role-id", Value::Null)
        .unwrap();
    let secret = vault
        .root("POST", "auth/approle/role/kes/secret-id", Value::Null)
        .unwrap();
    let login = json!({ "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"] });
    let (status, answer) = vault
        .call("PUT", "auth/approle/login", "", None, Some(&login))
        .unwrap();
    assert_eq!((status, &answer["auth"]["lease_duration"]), (200, &json!(40)));
    let token = answer["auth"]["client_token"].as_str().unwrap();
    let value = json!({ "a": "b" });
    assert_eq!(
        vault.call("PUT", "kv/key", token, None, Some(&value)).unwrap().0,
        204
    );
    // There is one already, and the policy does not say "update".
    assert_eq!(
        vault.call("PUT", "kv/key", token, None, Some(&value)).unwrap().0,
        403
    );
}

#[test]
fn transit_keeps_versions_of_a_key() {
    let vault = Vault::start().unwrap();
    vault
        .root("POST", "sys/mounts/transit", json!({ "type": "transit" }))
        .unwrap();
    vault.root("POST", "transit/keys/k", Value::Null).unwrap();
    let plain = json!({ "plaintext": "aGk=" });
    let first = vault.root("POST", "transit/encrypt/k", plain.clone()).unwrap();
    vault.root("POST", "transit/keys/k/rotate", Value::Null).unwrap();
    let second = vault.root("POST", "transit/encrypt/k", plain).unwrap();
    let first = first["data"]["ciphertext"].as_str().unwrap();
    assert!(first.starts_with("vault:v1:"), "{first}");
    assert!(
        second["data"]["ciphertext"]
            .as_str()
            .unwrap()
            .starts_with("vault:v2:"),
        "{second}"
    );
    let opened = vault
        .root("POST", "transit/decrypt/k", json!({ "ciphertext": first }))
        .unwrap();
    assert_eq!(opened["data"]["plaintext"], "aGk=");
}

#[test]
fn a_client_certificate_logs_in_over_tls() {
    let folder = certificate();
    let (pem, key) = (folder.path().join("pem"), folder.path().join("key"));
    let vault = Vault::start_tls(&pem, &key).unwrap();
    vault
        .root("POST", "sys/auth/cert", json!({ "type": "cert" }))
        .unwrap();
    let certificate = std::fs::read_to_string(&pem).unwrap();
    vault
        .root(
            "POST",
            "auth/cert/certs/kes",
            json!({ "certificate": certificate }),
        )
        .unwrap();
    let login = |more: &[&str]| {
        let url = format!("{}/v1/auth/cert/login", vault.endpoint());
        let said = curl(folder.path(), &url, &[&["-X", "PUT"], more].concat());
        serde_json::from_str::<Value>(&said).unwrap()
    };
    assert!(login(&["--cert", "pem", "--key", "key"])["auth"]["client_token"].is_string());
    assert_eq!(login(&[])["errors"][0], "client certificate must be supplied");
}
