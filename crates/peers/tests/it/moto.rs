use kes_peers::Moto;
use serde_json::{Value, json};

use crate::{certificate, curl};

/// Asks Secrets Manager with the signature of nobody.
fn secrets(moto: &Moto, action: &str, body: &Value) -> (u16, Value) {
    let target = format!("secretsmanager.{action}");
    moto.call("secretsmanager", "eu-central-1", &target, body)
        .unwrap()
}

#[test]
fn a_second_create_is_refused_and_a_reset_forgets_the_first() {
    let moto = Moto::start().unwrap();
    let create = |token: &str| {
        let body = json!({ "Name": "key", "SecretString": "x", "ClientRequestToken": token });
        secrets(&moto, "CreateSecret", &body)
    };
    assert_eq!(create("00000000-0000-0000-0000-000000000001").0, 200);
    assert_eq!(create("00000000-0000-0000-0000-000000000001").0, 200);
    let (status, answer) = create("00000000-0000-0000-0000-000000000002");
    assert_eq!(
        (status, &answer["__type"]),
        (400, &json!("ResourceExistsException"))
    );
    moto.reset().unwrap();
    let (status, answer) = secrets(&moto, "GetSecretValue", &json!({ "SecretId": "key" }));
    assert_eq!(
        (status, &answer["__type"]),
        (404, &json!("ResourceNotFoundException"))
    );
}

#[test]
fn a_server_that_checks_signatures_refuses_a_stranger() {
    let moto = Moto::enforcing_auth(0).unwrap();
    let (status, answer) = secrets(&moto, "ListSecrets", &json!({}));
    assert_eq!(status, 403);
    assert!(answer.to_string().contains("InvalidClientTokenId"), "{answer}");
}

#[test]
fn moto_speaks_tls() {
    let folder = certificate();
    let moto = Moto::start_tls(&folder.path().join("pem"), &folder.path().join("key")).unwrap();
    let said = curl(
        folder.path(),
        &format!("{}/moto-api/data.json", moto.endpoint()),
        &[],
    );
    assert!(said.starts_with('{'), "{said}");
}
