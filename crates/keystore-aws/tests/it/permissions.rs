//! What a user of AWS has to be allowed, on a moto that checks signatures and policies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroUsize;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_aws::{Config, ConnectError};
use kes_peers::Moto;
use serde_json::json;

use crate::rig::{SHORT, chain, config_at, connect, credentials, name, secret};

/// A user with a policy, made before moto begins to check.
struct User {
    access_key: String,
    secret_key: String,
}

/// Asks IAM, whose requests are forms and whose answers are XML.
fn iam(moto: &Moto, form: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", moto.port())).unwrap();
    let scope = "a/20260101/us-east-1/iam/aws4_request";
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 OK"), "{form}: {answer}");
    answer
}

impl User {
    /// Takes three calls.
    fn new(moto: &Moto, user: &str, actions: &[&str]) -> Self {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        });
        let policy: String = policy
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        iam(
            moto,
            &format!("Action=CreateUser&Version=2010-05-08&UserName={user}"),
        );
        iam(
            moto,
            &format!(
                "Action=PutUserPolicy&Version=2010-05-08&UserName={user}&PolicyName=kes&PolicyDocument={policy}"
            ),
        );
        let key = iam(
            moto,
            &format!("Action=CreateAccessKey&Version=2010-05-08&UserName={user}"),
        );
        let element = |tag: &str| {
            let (_, rest) = key.split_once(&format!("<{tag}>")).unwrap();
            rest.split('<').next().unwrap().to_owned()
        };
        Self {
            access_key: element("AccessKeyId"),
            secret_key: element("SecretAccessKey"),
        }
    }

    fn config(&self, moto: &Moto) -> Config {
        Config {
            credentials: Some(credentials(&self.access_key, &self.secret_key)),
            patience: SHORT,
            ..config_at(&moto.endpoint(), "us-east-2")
        }
    }
}

const LEAST: [&str; 4] = [
    "secretsmanager:CreateSecret",
    "secretsmanager:DeleteSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:ListSecrets",
];

#[tokio::test]
async fn four_permissions_suffice_and_whatever_else_is_wrong_is_said() {
    let moto = Moto::enforcing_auth(6).unwrap();
    let least = User::new(&moto, "kes", &LEAST);
    let reader = User::new(&moto, "reader", &["secretsmanager:GetSecretValue"]);

    let store = connect(least.config(&moto)).await.unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    assert_eq!(
        store.get(&name("key")).await.unwrap().value.expose_secret(),
        b"value"
    );
    let taken = store.create(&name("key"), &secret("value")).await;
    assert!(matches!(taken, Err(StoreError::Exists)), "{taken:?}");
    let page = store.list("", None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!(page.names, [name("key")]);
    store.ping().await.unwrap();

    // Who may only read can connect, and learns what is missing for the rest.
    let reading = connect(reader.config(&moto)).await.unwrap();
    assert_eq!(
        reading.get(&name("key")).await.unwrap().value.expose_secret(),
        b"value"
    );
    let failures = [
        (
            "secretsmanager:CreateSecret",
            reading
                .create(&name("other"), &secret("value"))
                .await
                .unwrap_err(),
        ),
        (
            "secretsmanager:DeleteSecret",
            reading.delete(&name("key")).await.unwrap_err(),
        ),
        (
            "secretsmanager:ListSecrets",
            reading
                .list("", None, NonZeroUsize::MIN)
                .await
                .map(drop)
                .unwrap_err(),
        ),
    ];
    for (permission, error) in failures {
        let StoreError::Denied { hint, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(hint.contains(permission), "{hint}");
    }

    let wrong = User {
        secret_key: "another-secret-access-key".to_owned(),
        ..reader
    };
    let unknown = User {
        access_key: "AKIAUNKNOWN000000000".to_owned(),
        secret_key: "another-secret-access-key".to_owned(),
    };
    for (user, expected) in [
        (wrong, "SignatureDoesNotMatch"),
        (unknown, "InvalidClientTokenId"),
    ] {
        let error = connect(user.config(&moto)).await.unwrap_err();
        let text = chain(&error);
        let ConnectError::Refused { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(source, StoreError::AuthFailed { .. }), "{source:?}");
        assert!(
            text.contains(expected) && !text.contains("another-secret"),
            "{text}"
        );
    }

    store.delete(&name("key")).await.unwrap();
    let gone = store.get(&name("key")).await;
    assert!(matches!(gone, Err(StoreError::NotFound)), "{gone:?}");
}
