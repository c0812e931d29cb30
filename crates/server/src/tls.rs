//! TLS: the server's certificate, and what is asked of clients.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kes_crypto::pem::{self, PemError};
use kes_tls::{BadTrust, FileCertificate, public_key, verify_tls12_signature_with_raw_key};
use kes_types::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tracing::warn;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::settings::{CertificateSource, ClientAuth, TlsSettings};

/// Why the server's TLS cannot be set up. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or directory cannot be read.
    #[error("cannot read {what} '{}'", .path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{what} '{}' is not usable", .path.display())]
    Content {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// The CA certificates cannot be had.
    #[error(transparent)]
    Ca(#[from] BadTrust),
    /// A certificate in a CA file cannot be trusted.
    #[error("the CA certificates '{}' are not usable", .path.display())]
    NotACertificate {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: Error,
    },
    /// The certificate and the key do not fit, or the key is of a kind that TLS cannot use.
    #[error("the private key '{key}' does not work with the certificate '{cert}'")]
    Mismatch {
        /// Where the key comes from.
        key: String,
        /// Where the certificate comes from.
        cert: String,
        /// What went wrong.
        source: Error,
    },
    /// There is no CA certificate to verify clients against.
    #[error("there is no CA certificate to verify client certificates against: set tls.ca")]
    NoRoots,
    /// TLS itself refuses the settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] Error),
}

/// TLS as it is set up, ready for handshakes.
#[derive(Debug)]
pub struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Verifies a certificate that a TLS proxy forwards, where clients are verified.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the server's certificate expires.
    pub(crate) expires: Timestamp,
}

/// Reads certificate, key and CA files and sets up TLS. Clients need no certificate where `optional`.
///
/// # Errors
/// Says which file is not usable and why.
pub fn load(settings: &TlsSettings, optional: bool, now: Timestamp) -> Result<Tls, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (certificate, expires) = certified_key(&settings.certificate, &provider, now)?;
    let (verifier, forwarded): (Arc<dyn ClientCertVerifier>, _) = match settings.client_auth {
        ClientAuth::AnyCertificate => (Arc::new(AnyCertificate::new(&provider, !optional)), None),
        ClientAuth::Verified => {
            let roots = Arc::new(roots(settings.ca.as_deref())?);
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
            if optional {
                builder = builder.allow_unauthenticated();
            }
            let verifier = builder.build().map_err(|error| match error {
                rustls::server::VerifierBuilderError::NoRootAnchors => TlsError::NoRoots,
                other => TlsError::Setup(Error::General(other.to_string())),
            })?;
            (Arc::clone(&verifier), Some(verifier))
        }
    };
    let config = server_config(provider, verifier, certificate).map_err(TlsError::Setup)?;
    Ok(Tls {
        config: Arc::new(config),
        verifier: forwarded,
        expires,
    })
}

/// The TLS settings of a server with this verifier and certificate: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, tickets.
///
/// # Errors
/// When the provider lacks what they need.
pub fn server_config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    certificate: CertifiedKey,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certificate)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets hold the client's certificates, so a resumed session is who it was, and no server memory is needed. A new
    // configuration has a new ticket key: sessions that were verified against older CAs are not resumed.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn certified_key(
    source: &CertificateSource,
    provider: &CryptoProvider,
    now: Timestamp,
) -> Result<(CertifiedKey, Timestamp), TlsError> {
    const CERT: &str = "the TLS certificate";
    const KEY: &str = "the TLS private key";
    let (chain, key, cert_name, key_name) = match source {
        CertificateSource::Files { cert, key, password } => {
            let content = |what, path: &Path| {
                let path = path.to_owned();
                move |source| TlsError::Content { what, path, source }
            };
            let chain = pem::certificates(&read(CERT, cert)?).map_err(content(CERT, cert))?;
            let text = Zeroizing::new(read(KEY, key)?);
            let password = password.as_ref().map(|password| password.as_bytes());
            let parsed = pem::private_key(&text, password).map_err(content(KEY, key))?;
            (
                chain,
                parsed,
                cert.display().to_string(),
                key.display().to_string(),
            )
        }
        CertificateSource::Memory { cert, key } => {
            let content = |what| {
                move |source| TlsError::Content {
                    what,
                    path: "<memory>".into(),
                    source,
                }
            };
            let chain = pem::certificates(cert.as_bytes()).map_err(content(CERT))?;
            let parsed = pem::private_key(key.as_bytes(), None).map_err(content(KEY))?;
            (chain, parsed, "<memory>".to_owned(), "<memory>".to_owned())
        }
    };
    let mismatch = |source| TlsError::Mismatch {
        key: key_name.clone(),
        cert: cert_name.clone(),
        source,
    };
    let signer = provider
        .key_provider
        .load_private_key(kes_tls::private_key(&key))
        .map_err(mismatch)?;
    let expires = inspect(
        chain.first().map(Vec::as_slice).unwrap_or_default(),
        &cert_name,
        now,
    );
    let certified = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), signer);
    match certified.keys_match() {
        // A version 1 certificate, which the check cannot read, has to prove itself in the first handshake.
        Ok(()) | Err(Error::InvalidCertificate(CertificateError::Other(_))) => {}
        Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(mismatch(error)),
    }
    Ok((certified, expires))
}

/// Warns of what clients will not like about the server's certificate; answers when it expires.
fn inspect(leaf: &[u8], name: &str, now: Timestamp) -> Timestamp {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Timestamp::UNIX_EPOCH;
    };
    let has_names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .is_some_and(|names| {
            names
                .value
                .general_names
                .iter()
                .any(|n| matches!(n, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
        });
    if !has_names {
        warn!(
            certificate = name,
            "the TLS certificate names no host (no DNS or IP subject alternative name): most clients will refuse it"
        );
    }
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    );
    if now > to {
        warn!(certificate = name, "the TLS certificate expired at {to}");
    } else if now < from {
        warn!(
            certificate = name,
            "the TLS certificate is not valid before {from}"
        );
    }
    to
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The system's CA certificates and those of `ca`, a file or a directory of files.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(kes_tls::system_certificates());
    let Some(ca) = ca else { return Ok(roots) };
    for FileCertificate { path, certificate } in kes_tls::certificates_at(ca)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::NotACertificate { path, source })?;
    }
    Ok(roots)
}

/// Accepts any client certificate whose private key the client proves to have: issuer, validity and names do not matter,
/// since the public key is the credential.
///
/// The signature is checked with the public key alone, so certificates work that X.509 path validation refuses, such as
/// version 1 ones.
#[derive(Debug)]
pub struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    mandatory: bool,
}

impl AnyCertificate {
    /// A verifier that insists on a certificate if `mandatory`.
    #[must_use]
    pub fn new(provider: &CryptoProvider, mandatory: bool) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
            mandatory,
        }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        public_key(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(certificate)?;
        verify_tls12_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &public_key(certificate)?, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
