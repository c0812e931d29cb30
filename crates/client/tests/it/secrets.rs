//! Nothing secret is shown, whatever is printed.

use kes_client::{Client, Credentials, Endpoint, Sealed, Secret, ServerTrust};
use kes_crypto::ApiKey;
use kes_testkit::TestServer;

use crate::canned::{Canned, json};
use crate::rig::{admin, client};

/// A text that is part of all secrets here, in its forms: as it is, in base64, as numbers.
const MARK: &str = "sesame-open";
const FORMS: [&str; 3] = [MARK, "c2VzYW1lLW9wZW4", "115, 101, 115, 97, 109, 101"];

#[track_caller]
fn shows_nothing(shown: &str) {
    for form in FORMS {
        assert!(!shown.contains(form), "{shown}");
    }
}

/// An error with all its causes, in both forms.
fn all_of(error: &dyn std::error::Error) -> String {
    let mut shown = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        shown += &format!(" {error} {error:?}");
        cause = error.source();
    }
    shown
}

#[test]
fn credentials_and_clients_show_the_identity_only() {
    let key = ApiKey::generate().unwrap();
    let text = key.to_secret_text();
    let credentials = Credentials::from_api_key(&text).unwrap();
    let builder = Client::builder(Endpoint::parse_list("a,b").unwrap())
        .credentials(credentials.clone())
        .trust(ServerTrust::none());
    let mut shown = format!("{credentials:?} {builder:?}");
    shown += &format!("{:?}", builder.build().unwrap());
    assert!(shown.contains(key.identity().as_str()), "{shown}");
    let secret = text.trim_start_matches("kes:v1:");
    assert!(!shown.contains(secret), "{shown}");
    let seed = format!("{:?}", key.seed());
    assert!(!shown.contains(seed.trim_matches(['[', ']'])), "{shown}");

    let tls = kes_testkit::Credentials::self_signed("client");
    let credentials = Credentials::from_pem(tls.key_pem().as_bytes(), tls.chain_pem().as_bytes()).unwrap();
    let shown = format!("{credentials:?}");
    assert_eq!(shown, format!("Credentials({})", tls.identity()));
}

#[test]
fn bad_credentials_are_not_quoted() {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n");
    let tls = kes_testkit::Credentials::self_signed("client");
    for outcome in [
        Credentials::from_api_key(&format!("kes:v1:{MARK}")),
        Credentials::from_api_key(MARK),
        Credentials::from_pem(pem.as_bytes(), tls.chain_pem().as_bytes()),
        Credentials::from_pem(MARK.as_bytes(), tls.chain_pem().as_bytes()),
        Credentials::from_pem(tls.key_pem().as_bytes(), pem.as_bytes()),
        Credentials::from_encrypted_pem(pem.as_bytes(), MARK.as_bytes(), MARK.as_bytes()),
    ] {
        shows_nothing(&all_of(&outcome.unwrap_err()));
    }
    shows_nothing(&all_of(&ServerTrust::none().and_pem(pem.as_bytes()).unwrap_err()));
}

#[tokio::test]
async fn results_show_sizes() {
    let server = TestServer::default().start().await;
    let kes = admin(server.address());
    kes.create_key("my-key").await.unwrap();
    let sealed = kes
        .encrypt("my-key", MARK.as_bytes(), MARK.as_bytes())
        .await
        .unwrap();
    let opened = kes.decrypt("my-key", &sealed, MARK.as_bytes()).await.unwrap();
    assert_eq!(format!("{opened:?}"), "Secret(11 bytes)");
    let bulk = [Sealed {
        ciphertext: &sealed,
        context: MARK.as_bytes(),
    }];
    shows_nothing(&format!("{bulk:?}"));
    shows_nothing(&format!("{:?}", kes.decrypt_bulk("my-key", &bulk).await.unwrap()));
    let data_key = kes.generate("my-key", MARK.as_bytes()).await.unwrap();
    let shown = format!("{data_key:?}");
    assert!(shown.contains("Secret(32 bytes)"), "{shown}");
    shows_nothing(&format!("{:?}", Secret::copy_of(MARK.as_bytes())));
    // A context that does not fit is not repeated either.
    shows_nothing(&all_of(
        &kes.decrypt("my-key", MARK.as_bytes(), MARK.as_bytes())
            .await
            .unwrap_err(),
    ));
}

#[tokio::test]
async fn answers_that_are_no_answers_are_not_quoted() {
    for body in [
        r#"{"plaintext":"sesame-open","ciphertext":"YQ=="}"#,
        r#"{"plaintext":{"sesame-open":1}}"#,
        r#"["sesame-open"]"#,
        r#"{"sesame-open"#,
        r#""sesame-open""#,
    ] {
        let server = Canned::start(move |_| json(200, body)).await;
        let kes = client(&[server.address], None);
        shows_nothing(&all_of(&kes.generate("a", b"").await.unwrap_err()));
        shows_nothing(&all_of(&kes.decrypt("a", b"", b"").await.unwrap_err()));
        shows_nothing(&all_of(&kes.hmac("a", b"").await.unwrap_err()));
        shows_nothing(&all_of(&kes.describe_key("a").await.unwrap_err()));
    }
}
