//! How a connection comes about, and what is said when it does not.

use std::fs;
use std::path::PathBuf;

use kes_crypto::SecretBytes;
use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_aws::{Config, ConnectError, Credentials};
use kes_peers::Moto;
use kes_testkit::TestCa;

use crate::fake::{Fake, not_found, refusal};
use crate::rig::{NOBODY, Place, SHORT, chain, config_at, connect, credentials, name, secret};

async fn refused(config: Config) -> (ConnectError, String) {
    let error = connect(config).await.expect_err("this is no connection");
    let text = chain(&error);
    (error, text)
}

#[tokio::test]
async fn an_endpoint_may_end_with_a_slash_and_is_what_the_store_is_called() {
    let place = Place::fresh();
    let store = connect(config_at(&format!("{}/", place.endpoint()), place.region))
        .await
        .unwrap();
    assert_eq!(
        store.to_string(),
        format!("AWS Secrets Manager: {}", place.endpoint())
    );
    store.create(&name("key"), &secret("value")).await.unwrap();
}

#[tokio::test]
async fn half_of_the_credentials_is_refused() {
    for (access_key, secret_key, missing) in [
        ("AKIDEXAMPLE", "", "secretkey"),
        ("", "the-secret-access-key", "accesskey"),
        ("  ", "the-secret-access-key", "accesskey"),
    ] {
        let config = Config {
            credentials: Some(credentials(access_key, secret_key)),
            ..config_at("http://127.0.0.1:1", "us-east-2")
        };
        let (error, text) = refused(config).await;
        assert!(matches!(error, ConnectError::HalfCredentials { .. }), "{error:?}");
        assert!(text.contains(&format!("no {missing}")), "{text}");
        assert!(!text.contains("the-secret-access-key"), "{text}");
    }
    let config = Config {
        credentials: Some(Credentials {
            access_key: secret("AKIDEXAMPLE"),
            secret_key: SecretBytes::copy_of(b"two\nlines"),
            session_token: None,
        }),
        ..config_at("http://127.0.0.1:1", "us-east-2")
    };
    let (error, text) = refused(config).await;
    assert!(matches!(error, ConnectError::BadCredentials { .. }), "{error:?}");
    assert!(text.contains("secretkey") && !text.contains("lines"), "{text}");
}

#[tokio::test]
async fn an_empty_session_token_is_none() {
    let fake = Fake::of_everything(|_| not_found()).await;
    let mut config = fake.config();
    config.credentials.as_mut().unwrap().session_token = Some(secret(""));
    connect(config).await.unwrap();
    assert_eq!(fake.everything_asked()[0].header("x-amz-security-token"), "");
}

#[tokio::test]
async fn a_region_is_needed() {
    let (error, text) = refused(config_at("http://127.0.0.1:1", " ")).await;
    assert!(matches!(error, ConnectError::NoRegion), "{error:?}");
    assert!(text.contains("keystore.aws.secretsmanager.region"), "{text}");
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused() {
    let (error, text) = refused(config_at("ftp://example.com", "us-east-2")).await;
    assert!(matches!(error, ConnectError::BadEndpoint(_)), "{error:?}");
    assert!(text.contains("ftp://example.com"), "{text}");
}

#[tokio::test]
async fn a_placeholder_is_an_endpoint_that_nobody_finds() {
    let mut config = config_at("secretsmanager.REGION.amazonaws", "REGION");
    config.patience = SHORT;
    let (error, text) = refused(config).await;
    let ConnectError::Refused { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, StoreError::Unreachable { .. }), "{source:?}");
    assert!(
        text.contains("AWS Secrets Manager: https://secretsmanager.REGION.amazonaws"),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let mut config = config_at(&format!("http://{NOBODY}"), "us-east-2");
    config.patience = SHORT;
    let (_, text) = refused(config).await;
    assert!(text.contains(NOBODY), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn refused_credentials_are_found_out_when_connecting() {
    let fake = Fake::of_everything(|_| {
        refusal(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    })
    .await;
    let (error, text) = refused(fake.config()).await;
    let ConnectError::Refused { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, StoreError::AuthFailed { .. }), "{source:?}");
    assert!(text.contains("UnrecognizedClientException"), "{text}");
    assert_eq!(fake.everything_asked().len(), 1);
}

#[tokio::test]
async fn a_configured_ca_is_the_only_one_that_is_believed() {
    let files = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| -> PathBuf {
        let path = files.path().join(file);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = TestCa::new("ca");
    let server = ca.issue("localhost");
    let moto = Moto::start_tls(
        &write("server.pem", &server.chain_pem()),
        &write("server.key", &server.key_pem()),
    )
    .unwrap();
    let endpoint = format!("localhost:{}", moto.port());
    let with_ca = |ca: Option<PathBuf>| Config {
        ca,
        patience: SHORT,
        ..config_at(&endpoint, "us-east-2")
    };

    let store = connect(with_ca(Some(write("ca.pem", &ca.pem())))).await.unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    assert_eq!(
        store.get(&name("key")).await.unwrap().value.expose_secret(),
        b"value"
    );

    for unknown in [None, Some(write("other.pem", &TestCa::new("other").pem()))] {
        let (error, text) = refused(with_ca(unknown)).await;
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
        assert!(text.contains("certificate"), "{text}");
    }
    for unusable in [files.path().join("absent.pem"), write("empty.pem", "")] {
        let (error, text) = refused(with_ca(Some(unusable.clone()))).await;
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(text.contains(&unusable.display().to_string()), "{text}");
    }
}

#[tokio::test]
async fn no_credential_is_shown_by_what_is_printed() {
    let fake = Fake::of_everything(|_| not_found()).await;
    let mut config = fake.config();
    config.credentials.as_mut().unwrap().session_token = Some(secret("the-token"));
    let shown = format!("{config:?}");
    let store = connect(config).await.unwrap();
    let shown = format!("{shown} {store:?} {store}");
    for unwanted in ["AKIDEXAMPLE", "the-secret-access-key", "the-token"] {
        assert!(!shown.contains(unwanted), "{shown}");
    }
}
