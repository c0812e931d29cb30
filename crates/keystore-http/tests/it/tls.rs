//! Servers with TLS: whom the client believes, who believes the client, and what it says otherwise.

use std::path::PathBuf;
use std::sync::Arc;

use kes_keystore_http::{Failure, Http, HttpSettings, SendError, StatusCode, Url};
use kes_testkit::{Credentials, PATIENCE, TestCa, ThreadLog};
use kes_tls::{ClientIdentity, ServerTrust};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::rig::{Server, answer, get, settings};

/// Files of certificates and keys.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A client that trusts what is in this file.
    fn client(&self, ca: &str, identity: Option<&Credentials>) -> Http {
        let ca = self.write("ca.pem", ca);
        let identity = identity.map(|client| {
            let key = self.write("key.pem", &client.key_pem());
            let cert = self.write("cert.pem", &client.chain_pem());
            ClientIdentity::from_files(&key, &cert).unwrap()
        });
        Http::new(HttpSettings {
            trust: ServerTrust::of_key_store(Some(&ca)).unwrap(),
            identity,
            ..settings()
        })
        .unwrap()
    }
}

fn config(server: &Credentials, clients: Option<&TestCa>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(server.key()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = CertifiedKey::new(server.chain(), key);
    builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

async fn server(credentials: &Credentials) -> Server {
    Server::start_tls(config(credentials, None), |_| answer("200 OK", "{}")).await
}

fn url(server: &Server, host: &str) -> Url {
    format!("https://{host}:{}/v1/secret?list=true", server.address.port())
        .parse()
        .unwrap()
}

async fn refuses(http: &Http, url: Url) -> SendError {
    let error = http.send(get(url), PATIENCE).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Tls, "{error}");
    assert!(!error.may_have_arrived());
    error
}

#[tokio::test]
async fn a_server_is_believed_by_the_ca_in_the_file() {
    let (files, ca) = (Files::new(), TestCa::new("ca"));
    let server = server(&ca.issue("server")).await;
    let http = files.client(&ca.pem(), None);
    for host in ["localhost", "127.0.0.1"] {
        let answer = http.send(get(url(&server, host)), PATIENCE).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_unknown_issuer_is_told_with_the_file_that_lacks_it() {
    let (files, ca) = (Files::new(), TestCa::new("ca"));
    let server = server(&ca.issue("server")).await;
    let http = files.client(&TestCa::new("another").pem(), None);
    let error = refuses(&http, url(&server, "localhost")).await;
    let (port, dir) = (server.address.port(), files.0.path().display());
    assert_eq!(
        error.to_string(),
        format!(
            "localhost:{port}: the server's certificate was issued by none of '{dir}/ca.pem'; \
             add the certificate of its issuer to keystore.vault.tls.ca"
        )
    );

    let http = Http::new(HttpSettings {
        trust: ServerTrust::of_key_store(None).unwrap(),
        ..settings()
    })
    .unwrap();
    let error = refuses(&http, url(&server, "localhost")).await.to_string();
    assert!(
        error.contains("none of the certificates that this system trusts"),
        "{error}"
    );
    assert!(
        error.ends_with("set keystore.vault.tls.ca to a file with the certificate of its issuer"),
        "{error}"
    );
}

#[tokio::test]
async fn another_name_and_an_expired_certificate_are_told() {
    let (files, ca) = (Files::new(), TestCa::new("ca"));
    let http = files.client(&ca.pem(), None);

    let tls = config(&ca.issue("server"), None);
    let elsewhere = Server::start_at("127.0.0.2:0", Some(tls), |_| answer("200 OK", "")).await;
    let error = refuses(&http, url(&elsewhere, "127.0.0.2")).await.to_string();
    assert!(
        error.contains("the server's certificate is for another name: "),
        "{error}"
    );
    assert!(error.contains("localhost"), "{error}");
    assert!(error.contains("; use one of its names in the address"), "{error}");

    let late = server(&ca.issue_expired("server")).await;
    let error = refuses(&http, url(&late, "localhost")).await.to_string();
    assert!(
        error.contains("the server's certificate has expired: "),
        "{error}"
    );
    assert!(
        error.ends_with("; renew it, or set this machine's clock right"),
        "{error}"
    );
}

#[tokio::test]
async fn the_very_certificate_of_a_server_is_believed_with_one_warning() {
    let (log, _guard) = ThreadLog::capture();

    let (files, credentials) = (Files::new(), Credentials::self_signed_ca("vault"));
    let tls = config(&credentials, None);
    let server = Server::start_at("127.0.0.2:0", Some(tls), |_| answer("200 OK", "")).await;
    let http = files.client(&credentials.chain_pem(), None);
    for _ in 0..3 {
        http.send(get(url(&server, "127.0.0.2")), PATIENCE).await.unwrap();
    }
    let log = log.line("neither its names nor its issuer are checked");
    assert!(log.contains("WARN"), "{log}");
    assert!(log.contains("keystore.vault.tls.ca itself"), "{log}");
    assert!(log.contains("127.0.0.2"), "{log}");

    let http = files.client(&Credentials::self_signed_ca("vault").chain_pem(), None);
    refuses(&http, url(&server, "127.0.0.2")).await;
}

#[tokio::test]
async fn a_client_certificate_is_sent_to_who_asks() {
    let (files, ca, clients) = (Files::new(), TestCa::new("ca"), TestCa::new("clients"));
    let tls = config(&ca.issue("server"), Some(&clients));
    let server = Server::start_tls(tls, |_| answer("200 OK", "")).await;
    let http = files.client(&ca.pem(), Some(&clients.issue("client")));
    let answer = http.send(get(url(&server, "localhost")), PATIENCE).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);

    let none = files.client(&ca.pem(), None);
    let error = refuses(&none, url(&server, "localhost")).await.to_string();
    assert!(
        error.ends_with(
            "if it wants a client certificate, set keystore.vault.tls.cert and keystore.vault.tls.key"
        ),
        "{error}"
    );
    let stranger = files.client(&ca.pem(), Some(&ca.issue("client")));
    let error = refuses(&stranger, url(&server, "localhost")).await.to_string();
    assert!(error.contains("the server refuses the TLS connection"), "{error}");
    assert!(
        error.ends_with(
            "keystore.vault.tls.cert and keystore.vault.tls.key have to be what the server accepts"
        ),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mail = listener.local_addr().unwrap();
    let talking = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
    });
    let http = Files::new().client(&TestCa::new("ca").pem(), None);
    let target = format!("https://{mail}/").parse().unwrap();
    let error = refuses(&http, target).await.to_string();
    assert!(error.contains("the server does not speak TLS"), "{error}");
    assert!(error.contains("http://"), "{error}");
    talking.await.unwrap();
}
