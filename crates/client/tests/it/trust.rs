//! Which servers the client believes.

use std::io::Write as _;

use kes_client::{BadCredentials, BadTrust, Credentials, Error, ServerTrust};
use kes_testkit::{KeyKind, TestCa};

use crate::canned::{Canned, json};
use crate::rig::{client_that_trusts, credentials};

const VERSION: &str = r#"{"version":"1"}"#;

/// Asks a server with this certificate for its version, as a client that trusts `trusted`.
async fn ask(server: &kes_testkit::Credentials, trusted: &kes_testkit::Credentials) -> Result<String, Error> {
    ask_with_key_of(server, server, trusted).await
}

async fn ask_with_key_of(
    certificate: &kes_testkit::Credentials,
    key: &kes_testkit::Credentials,
    trusted: &kes_testkit::Credentials,
) -> Result<String, Error> {
    let server = Canned::start_as(certificate, key, |_| json(200, VERSION)).await;
    let trust = ServerTrust::none().and_certificate(trusted.chain().remove(0));
    let version = client_that_trusts(&[server.address], None, trust)
        .version()
        .await?;
    Ok(version.version)
}

#[tokio::test]
async fn nobody_is_believed_without_a_reason() {
    let [server, other] = ["kes", "kes"].map(kes_testkit::Credentials::self_signed);
    let error = ask(&server, &other).await.unwrap_err();
    assert!(matches!(error, Error::BadCertificate { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_is_believed_by_its_own_certificate() {
    let server = kes_testkit::Credentials::self_signed("kes");
    assert_eq!(ask(&server, &server).await.unwrap(), "1");
    for kind in KeyKind::ALL {
        let server = kes_testkit::Credentials::with_key(kind);
        assert_eq!(ask(&server, &server).await.unwrap(), "1", "{kind:?}");
    }
}

/// What `openssl req -new -x509 -subj /CN=localhost` makes: a CA's certificate that names no server.
fn of_openssl() -> kes_testkit::Credentials {
    use rcgen::PublicKeyData as _;

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![certificate.der().to_vec()];
    kes_testkit::Credentials::from_der(chain, key.serialize_der(), &key.subject_public_key_info())
}

#[tokio::test]
async fn a_ca_certificate_is_believed_as_the_server_s_own() {
    for server in [of_openssl(), kes_testkit::Credentials::self_signed_ca("kes")] {
        assert_eq!(ask(&server, &server).await.unwrap(), "1");
    }
    let error = ask(&of_openssl(), &of_openssl()).await.unwrap_err();
    assert!(matches!(error, Error::BadCertificate { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_alone_proves_nothing() {
    let (server, thief) = (of_openssl(), of_openssl());
    let error = ask_with_key_of(&server, &thief, &server).await.unwrap_err();
    assert!(
        matches!(error, Error::BadCertificate { .. } | Error::Transport { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn who_believes_anything_still_wants_the_private_key_proven() {
    let server = kes_testkit::Credentials::self_signed("kes");
    let thief = kes_testkit::Credentials::self_signed("kes");
    let canned = Canned::start_as(&server, &thief, |_| json(200, VERSION)).await;
    let kes = client_that_trusts(&[canned.address], None, ServerTrust::dangerous_anything());
    assert!(kes.version().await.is_err());
    let canned = Canned::start_as(&server, &server, |_| json(200, VERSION)).await;
    let kes = client_that_trusts(&[canned.address], None, ServerTrust::dangerous_anything());
    assert_eq!(kes.version().await.unwrap().version, "1");
}

#[tokio::test]
async fn an_expired_certificate_is_not_believed() {
    let server = kes_testkit::Credentials::expired("kes");
    let error = ask(&server, &server).await.unwrap_err();
    assert!(matches!(error, Error::BadCertificate { .. }), "{error:?}");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn authorities_come_from_a_file_or_a_directory() {
    let ca = TestCa::new("ca");
    let server = ca.issue("kes");
    let canned = Canned::start_as(&server, &server, |_| json(200, VERSION)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::File::create(&file)
        .unwrap()
        .write_all(ca.pem().as_bytes())
        .unwrap();
    std::fs::create_dir(dir.path().join("..data")).unwrap();
    for path in [dir.path(), &file] {
        let trust = ServerTrust::none().and_path(path).unwrap();
        let kes = client_that_trusts(&[canned.address], None, trust);
        assert_eq!(kes.version().await.unwrap().version, "1", "{}", path.display());
    }

    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        ServerTrust::none().and_path(empty.path()),
        Err(BadTrust::Empty(_))
    ));
    assert!(matches!(
        ServerTrust::none().and_path(&empty.path().join("x")),
        Err(BadTrust::Read { .. })
    ));
}

#[test]
fn a_key_and_a_certificate_must_belong_together() {
    let [one, other] = ["a", "b"].map(kes_testkit::Credentials::self_signed);
    assert!(matches!(
        Credentials::from_der(one.chain(), &other.key()),
        Err(BadCredentials::Mismatch)
    ));
    assert!(matches!(
        Credentials::from_der(Vec::new(), &one.key()),
        Err(BadCredentials::Certificate)
    ));
    assert_eq!(credentials(&one).identity(), one.identity().as_str());
    for kind in KeyKind::ALL {
        let of_kind = kes_testkit::Credentials::with_key(kind);
        assert_eq!(
            credentials(&of_kind).identity(),
            of_kind.identity().as_str(),
            "{kind:?}"
        );
    }
}

#[test]
fn credentials_come_from_files_or_from_memory() {
    let client = kes_testkit::Credentials::self_signed("client");
    let (key, certificate) = (client.key_pem(), client.chain_pem());
    let in_memory = Credentials::from_pem(key.as_bytes(), certificate.as_bytes()).unwrap();
    assert_eq!(in_memory.identity(), client.identity().as_str());

    let dir = tempfile::tempdir().unwrap();
    let [key_file, certificate_file] = ["client.key", "client.crt"].map(|name| dir.path().join(name));
    std::fs::write(&key_file, &key).unwrap();
    std::fs::write(&certificate_file, &certificate).unwrap();
    let from_files = Credentials::from_files(&key_file, &certificate_file).unwrap();
    assert_eq!(from_files.identity(), client.identity().as_str());

    let missing = dir.path().join("missing");
    for outcome in [
        Credentials::from_files(&missing, &certificate_file),
        Credentials::from_files(&key_file, &missing),
    ] {
        let Err(BadCredentials::Read { path, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(path, missing);
    }
    // In the wrong order.
    let outcome = Credentials::from_files(&certificate_file, &key_file);
    assert!(matches!(outcome, Err(BadCredentials::Pem { .. })), "{outcome:?}");
}

#[test]
fn an_encrypted_private_key_needs_its_password() {
    let client = kes_testkit::Credentials::self_signed("client");
    let certificate = client.chain_pem();
    let encrypted = kes_crypto::pem::encrypt_private_key(client.key().secret_der(), b"password").unwrap();
    let outcome = Credentials::from_pem(encrypted.as_bytes(), certificate.as_bytes());
    assert!(
        matches!(outcome, Err(BadCredentials::PasswordRequired)),
        "{outcome:?}"
    );
    let with = |password: &[u8]| {
        Credentials::from_encrypted_pem(encrypted.as_bytes(), certificate.as_bytes(), password)
    };
    assert!(matches!(with(b"wrong"), Err(BadCredentials::WrongPassword)));
    assert_eq!(with(b"password").unwrap().identity(), client.identity().as_str());
}

#[tokio::test]
async fn authorities_come_from_memory() {
    let ca = TestCa::new("ca");
    let server = ca.issue("kes");
    let canned = Canned::start_as(&server, &server, |_| json(200, VERSION)).await;
    let trust = ServerTrust::none().and_pem(ca.pem().as_bytes()).unwrap();
    let kes = client_that_trusts(&[canned.address], None, trust);
    assert_eq!(kes.version().await.unwrap().version, "1");
    let outcome = ServerTrust::none().and_pem(server.key_pem().as_bytes());
    assert!(matches!(outcome, Err(BadTrust::Pem { .. })), "{outcome:?}");
}
