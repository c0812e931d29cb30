//! Certificates and keys as OpenSSL makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kes_server::CertificateSource;
use kes_testkit::{Credentials, RawConnection, TestClient, TestServer, connect_tls};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use zeroize::Zeroizing;

const SELF: &str = "/v1/identity/self/describe";
const PASSWORD: &str = "correct-horse";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certs")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

fn credentials(name: &str, identity: &str) -> Credentials {
    Credentials::from_pem(
        &text(&format!("{name}.crt")),
        &text(&format!("{name}.key")),
        identity,
    )
}

/// What `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum` says.
const IDENTITIES: [(&str, &str); 4] = [
    (
        "v1-client",
        "658aa92fbcac12ee941e3ec491ffba1be5664fba9f9c1f79c2e5b442924fd98b",
    ),
    (
        "v1-rsa-client",
        "cac7b2a7f56680c59c115b6324267d7c6e09e049092cae0927e36b76b405d1cf",
    ),
    (
        "sec1",
        "36b3a79183140facae150c9733b4ec76cf15b34831e57ccb50392f9b01559aca",
    ),
    (
        "pkcs1",
        "a9aaefb6d2a2a9c0d8783456bb801a9966739b1a4521c749e091857b6f6c3bf0",
    ),
];

#[tokio::test]
async fn certificates_of_openssl_identify_by_their_key_in_every_tls_version() {
    let running = TestServer::default().start().await;
    for (name, identity) in IDENTITIES {
        let credentials = credentials(name, identity);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = TestClient::with_versions(running.address(), Some(&credentials), &[version]);
            let own = client.get(SELF).await.ok().json();
            assert_eq!(own["identity"], identity, "{name} {version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_have_the_key_of_its_certificate_is_nobody() {
    let running = TestServer::default().start().await;
    let thief = Credentials::self_signed("thief");
    for (name, identity) in IDENTITIES {
        let stolen = credentials(name, identity).chain();
        let own_key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&thief.key()).unwrap();
        let claim = SingleCertAndKey::from(CertifiedKey::new(stolen, own_key));
        let mut config = TestClient::trusting_config();
        config.client_auth_cert_resolver = Arc::new(claim);
        let Ok(stream) = connect_tls(running.address(), Arc::new(config)).await else {
            continue;
        };
        let mut stream = RawConnection::new(stream);
        // In TLS 1.3 the client has done its part before it hears of the refusal.
        _ = stream.try_write(format!("GET {SELF} HTTP/1.0\r\n\r\n")).await;
        assert!(stream.closed().await.is_empty(), "{name}");
    }
}

fn with_files(cert: &str, key: &str, password: Option<&str>) -> TestServer {
    let mut server = TestServer::default();
    server.settings.tls.certificate = CertificateSource::Files {
        cert: file(cert),
        key: file(key),
        password: password.map(|password| Zeroizing::new(password.to_owned())),
    };
    server
}

#[tokio::test]
async fn server_keys_load_in_every_form_that_openssl_writes() {
    for (cert, key, password) in [
        ("sec1.crt", "sec1.key", None),
        ("pkcs1.crt", "pkcs1.key", None),
        // A password that is not needed does no harm.
        ("sec1.crt", "sec1.key", Some(PASSWORD)),
        ("sec1.crt", "sec1-aes256.key", Some(PASSWORD)),
        ("sec1.crt", "sec1-des3.key", Some(PASSWORD)),
        ("sec1.crt", "sec1-pbes2.key", Some(PASSWORD)),
        ("pkcs1.crt", "pkcs1-aes128.key", Some(PASSWORD)),
    ] {
        let running = with_files(cert, key, password).start().await;
        let stream = running
            .app()
            .tls()
            .await
            .unwrap_or_else(|error| panic!("{key}: {error}"));
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(shown[0], credentials_chain(cert)[0], "{key}");
        running.app().get("/version").await.ok();
    }
}

fn credentials_chain(cert: &str) -> Vec<CertificateDer<'static>> {
    let chain = kes_crypto::pem::certificates(text(cert).as_bytes()).unwrap();
    chain.into_iter().map(CertificateDer::from).collect()
}

#[tokio::test]
async fn an_error_names_the_file_and_neither_password_nor_key() {
    const WRONG: &str = "wrong-battery-staple";
    let running = TestServer::default().start().await;
    for (cert, key, password, reason) in [
        ("sec1.crt", "sec1-aes256.key", Some(WRONG), "password"),
        ("sec1.crt", "sec1-des3.key", Some(WRONG), "password"),
        ("sec1.crt", "sec1-pbes2.key", Some(WRONG), "password"),
        ("pkcs1.crt", "pkcs1-aes128.key", Some(WRONG), "password"),
        ("sec1.crt", "sec1-aes256.key", None, "password"),
        ("sec1.crt", "sec1-pbes2.key", None, "password"),
        ("sec1.crt", "sec1-aes256.key", Some(""), "password"),
        (
            "pkcs1.crt",
            "sec1.key",
            None,
            "does not work with the certificate",
        ),
        ("sec1.crt", "sec1.crt", None, "key"),
        ("sec1.key", "sec1.key", None, "certificate"),
        ("sec1.crt", "README.md", None, "key"),
    ] {
        let settings = with_files(cert, key, password).settings;
        let error = running.server().reload(settings, None).unwrap_err();
        let mut told = format!("{error} {error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            told.push_str(&format!(" {error}"));
            cause = error.source();
        }
        let named = if reason == "certificate" { cert } else { key };
        assert!(told.contains(file(named).to_str().unwrap()), "{told}");
        assert!(told.to_lowercase().contains(reason), "{told}");
        assert!(!told.contains(WRONG) && !told.contains(PASSWORD), "{told}");
        let secret = text(key).lines().nth(4).unwrap_or_default().to_owned();
        assert!(secret.is_empty() || !told.contains(&secret), "{told}");
    }
    assert!(!format!("{:?}", with_files("a", "b", Some(WRONG)).settings).contains(WRONG));
}
