//! Handshakes with servers of every kind, in memory.

use std::io;
use std::sync::Arc;

use kes_testkit::{Credentials, KeyKind, TestCa, soon};
use kes_tls::{ClientIdentity, ClientTls, ServerTrust, client_tls};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// TLS 1.2 and 1.3, each alone.
static EACH_VERSION: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// A server in memory.
struct Server {
    certificate: Arc<Credentials>,
    key: Arc<Credentials>,
    clients: Option<TestCa>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Server {
    fn new(credentials: Credentials) -> Self {
        let credentials = Arc::new(credentials);
        Self {
            certificate: Arc::clone(&credentials),
            key: credentials,
            clients: None,
            versions: rustls::ALL_VERSIONS,
        }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(self.key.key()).unwrap();
        let key = CertifiedKey::new(self.certificate.chain(), key);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match &self.clients {
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
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
    }

    /// A client that wants `name` shakes hands and sends one byte; the answer is whom the server saw.
    async fn meet(
        &self,
        tls: &ClientTls,
        name: &str,
    ) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
        let (here, there) = tokio::io::duplex(64 << 10);
        let acceptor = TlsAcceptor::from(Arc::new(self.config()));
        let server = async move {
            let mut stream = acceptor.accept(there).await?;
            let seen = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let seen = seen.map(|seen| seen.clone().into_owned());
            stream.write_all(b"!").await?;
            stream.flush().await?;
            Ok::<_, io::Error>(seen)
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = async {
            let connector = TlsConnector::from(Arc::new(tls.config.clone()));
            let mut stream = connector.connect(name, here).await?;
            stream.read_u8().await
        };
        let (seen, met) = soon("the handshake", async { tokio::join!(server, client) }).await;
        match met {
            Ok(_) => Ok(seen.unwrap()),
            Err(error) => {
                let error = error.into_inner().expect("a TLS error");
                Err(*error.downcast().expect("a TLS error"))
            }
        }
    }
}

/// The trust of a key store with this certificate in its `ca`.
fn believing(pem: &str) -> ClientTls {
    as_client(pem, None)
}

fn as_client(pem: &str, identity: Option<&ClientIdentity>) -> ClientTls {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    client_tls(ServerTrust::of_key_store(Some(&path)).unwrap(), identity).unwrap()
}

fn identity(client: &Credentials) -> ClientIdentity {
    let dir = tempfile::tempdir().unwrap();
    let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
    std::fs::write(&key, client.key_pem()).unwrap();
    std::fs::write(&cert, client.chain_pem()).unwrap();
    ClientIdentity::from_files(&key, &cert).unwrap()
}

/// What `openssl req -x509 -subj /CN=vault` makes: a CA's certificate that names no server.
fn of_openssl() -> Credentials {
    use rcgen::PublicKeyData as _;

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![certificate.der().to_vec()];
    Credentials::from_der(chain, key.serialize_der(), &key.subject_public_key_info())
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_its_name() {
    let ca = TestCa::new("ca");
    let server = Server::new(ca.issue("server"));
    let tls = believing(&ca.pem());
    server.meet(&tls, "localhost").await.unwrap();
    server.meet(&tls, "127.0.0.1").await.unwrap();
    assert!(!tls.pin.happened());

    let error = server.meet(&tls, "example.net").await.unwrap_err();
    let rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) = error else {
        panic!("{error:?}");
    };
    let another = believing(&TestCa::new("ca").pem());
    let error = server.meet(&another, "localhost").await.unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");

    let late = Server::new(ca.issue_expired("server"));
    let error = late.meet(&tls, "localhost").await.unwrap_err();
    let rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. }) = error else {
        panic!("{error:?}");
    };
}

#[tokio::test]
async fn the_very_certificate_is_believed_by_any_name() {
    for credentials in [
        of_openssl as fn() -> Credentials,
        || Credentials::self_signed("server"),
        || Credentials::self_signed_ca("server"),
        || Credentials::with_key(KeyKind::Rsa),
        || Credentials::with_key(KeyKind::Ed25519),
    ] {
        for versions in EACH_VERSION {
            let server = Server {
                versions,
                ..Server::new(credentials())
            };
            let tls = believing(&server.certificate.chain_pem());
            server.meet(&tls, "example.net").await.unwrap();
            assert!(tls.pin.happened());
        }
    }
}

#[tokio::test]
async fn only_the_very_certificate_is_believed_by_any_name() {
    let server = Server::new(of_openssl());
    let tls = believing(&of_openssl().chain_pem());
    let error = server.meet(&tls, "localhost").await.unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");

    let expired = Server::new(Credentials::expired("server"));
    let tls = believing(&expired.certificate.chain_pem());
    let error = expired.meet(&tls, "localhost").await.unwrap_err();
    let rustls::Error::InvalidCertificate(CertificateError::Expired) = error else {
        panic!("{error:?}");
    };

    let thief = Server {
        key: Arc::new(of_openssl()),
        ..Server::new(of_openssl())
    };
    let tls = believing(&thief.certificate.chain_pem());
    assert!(thief.meet(&tls, "localhost").await.is_err());
}

#[tokio::test]
async fn a_client_of_kes_wants_the_names_of_the_very_certificate() {
    let server = Server::new(Credentials::self_signed_ca("server"));
    let certificate = server.certificate.chain().remove(0);
    let trust = ServerTrust::none().and_certificate(certificate);
    let tls = client_tls(trust, None).unwrap();
    server.meet(&tls, "localhost").await.unwrap();
    assert!(server.meet(&tls, "example.net").await.is_err());
}

#[tokio::test]
async fn a_server_sees_the_certificate_of_its_client() {
    let (ca, clients) = (TestCa::new("ca"), TestCa::new("clients"));
    let client = clients.issue("client");
    for versions in EACH_VERSION {
        let server = Server {
            clients: Some(TestCa::new("others")),
            versions,
            ..Server::new(ca.issue("server"))
        };
        let stranger = as_client(&ca.pem(), Some(&identity(&client)));
        let error = server.meet(&stranger, "localhost").await.unwrap_err();
        assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error:?}");
    }
    let server = Server {
        clients: Some(clients),
        ..Server::new(ca.issue("server"))
    };
    let tls = as_client(&ca.pem(), Some(&identity(&client)));
    let seen = server.meet(&tls, "localhost").await.unwrap();
    assert_eq!(seen.as_ref(), client.chain().first());
    let error = server.meet(&believing(&ca.pem()), "localhost").await.unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error:?}");
}
