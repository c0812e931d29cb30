use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use kes_peers::Moto;
use serde_json::{Value, json};

/// Asks Secrets Manager with the signature of nobody.
fn secrets(moto: &Moto, action: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", moto.port())).unwrap();
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: secretsmanager.{action}\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-central-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=00\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
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
