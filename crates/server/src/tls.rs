//! TLS: the server's certificate, and what is asked of clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest;
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
use zeroize::Zeroizing;

use crate::certificate::Leaf;
use crate::settings::{CertificateSource, ClientAuth, TlsSettings};

const CERT: &str = "the TLS certificate";
const KEY: &str = "the TLS private key";

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
    /// Clients would refuse the certificate, and they do not refuse the one that it is to replace.
    #[error("the TLS certificate '{cert}' {dates}")]
    NotValidNow {
        /// Where it is.
        cert: String,
        /// From when or until when it is valid.
        dates: String,
        /// From when on it is valid, if it will be.
        from: Option<Timestamp>,
    },
    /// There is no CA certificate to verify clients against.
    #[error("there is no CA certificate to verify client certificates against: set tls.ca")]
    NoRoots,
    /// TLS itself refuses the settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] Error),
}

impl TlsError {
    /// What mends it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Ca(BadTrust::Read { .. }) => {
                "put a PEM file there that the user of this process may read"
            }
            Self::Content {
                source: PemError::PasswordRequired | PemError::WrongPassword,
                ..
            } => "set tls.password to the password of the key, and reload the configuration",
            Self::Content { .. } => "put the whole PEM file there",
            Self::Ca(_) | Self::NotACertificate { .. } => {
                "put CA certificates there, in PEM, and nothing else"
            }
            Self::Mismatch { .. } => "replace the certificate and its key together",
            Self::NotValidNow { .. } => {
                "put a certificate there that is valid now, or set the clock of this machine right"
            }
            Self::NoRoots => "set tls.ca, and reload the configuration",
            Self::Setup(_) => "use a certificate and a key of another kind",
        }
    }

    /// From when on it may be right.
    pub(crate) const fn usable_from(&self) -> Option<Timestamp> {
        match self {
            Self::NotValidNow { from, .. } => *from,
            _ => None,
        }
    }
}

/// Tells what files hold from what they held, without keeping it.
pub(crate) type Digest = [u8; 32];

/// TLS as it is set up, ready for handshakes.
#[derive(Debug)]
pub struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Verifies a certificate that a TLS proxy forwards, where clients are verified.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The server's certificate.
    pub(crate) leaf: Leaf,
    /// Of what it was made from.
    pub(crate) digest: Digest,
}

impl Tls {
    /// What clients will not like about the server's certificate, and what will soon be so, with the file and the remedy.
    #[must_use]
    pub fn concerns(&self, now: Timestamp) -> Vec<String> {
        self.leaf.concerns(now)
    }
}

/// Reads certificate, key and CA files and sets up TLS. Clients need no certificate where `optional`.
///
/// # Errors
/// Says which file is not usable and why.
pub fn load(settings: &TlsSettings, optional: bool) -> Result<Tls, TlsError> {
    build(settings, Material::read(settings)?, optional)
}

/// What the files hold, read at one time.
pub(crate) struct Material {
    chain: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    ca: Vec<FileCertificate>,
}

impl Material {
    /// Reads the files, waiting for none of them.
    pub(crate) fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let (chain, key) = match &settings.certificate {
            CertificateSource::Files {
                cert,
                key,
                password: _,
            } => (read(CERT, cert)?, read(KEY, key)?),
            CertificateSource::Memory { cert, key } => {
                (cert.clone().into_bytes().into(), key.as_bytes().to_vec().into())
            }
        };
        let ca = match (&settings.client_auth, &settings.ca) {
            (ClientAuth::Verified, Some(ca)) => kes_tls::certificates_at(ca)?,
            (ClientAuth::Verified, None) | (ClientAuth::AnyCertificate, _) => Vec::new(),
        };
        Ok(Self { chain, key, ca })
    }

    /// Tells it from any other.
    pub(crate) fn digest(&self) -> Digest {
        let Self { chain, key, ca } = self;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        add(chain);
        add(key);
        for FileCertificate { path, certificate } in ca {
            add(path.as_os_str().as_encoded_bytes());
            add(certificate);
        }
        let mut whole = Digest::default();
        whole.copy_from_slice(context.finish().as_ref());
        whole
    }
}

/// Sets up TLS with what files hold. Clients need no certificate where `optional`.
pub(crate) fn build(settings: &TlsSettings, material: Material, optional: bool) -> Result<Tls, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let digest = material.digest();
    let Material { chain, key, ca } = material;
    let (certificate, leaf) = certified_key(&settings.certificate, &chain, &key, &provider)?;
    let (verifier, forwarded): (Arc<dyn ClientCertVerifier>, _) = match settings.client_auth {
        ClientAuth::AnyCertificate => (Arc::new(AnyCertificate::new(&provider, !optional)), None),
        ClientAuth::Verified => {
            let roots = Arc::new(roots(ca)?);
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
        leaf,
        digest,
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
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Leaf), TlsError> {
    let memory = Path::new("<memory>");
    let (cert_path, key_path, password) = match source {
        CertificateSource::Files { cert, key, password } => {
            (cert.as_path(), key.as_path(), password.as_ref())
        }
        CertificateSource::Memory { .. } => (memory, memory, None),
    };
    let content = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Content { what, path, source }
    };
    let chain = pem::certificates(chain).map_err(content(CERT, cert_path))?;
    let password = password.map(|password| password.as_bytes());
    let key = pem::private_key(key, password).map_err(content(KEY, key_path))?;
    let mismatch = |source| TlsError::Mismatch {
        key: key_path.display().to_string(),
        cert: cert_path.display().to_string(),
        source,
    };
    let signer = provider
        .key_provider
        .load_private_key(kes_tls::private_key(&key))
        .map_err(mismatch)?;
    let file = matches!(source, CertificateSource::Files { .. }).then(|| cert_path.display().to_string());
    let leaf = Leaf::new(chain.first().map(Vec::as_slice).unwrap_or_default(), file);
    let certified = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), signer);
    match certified.keys_match() {
        // A version 1 certificate, which the check cannot read, has to prove itself in the first handshake.
        Ok(()) | Err(Error::InvalidCertificate(CertificateError::Other(_))) => {}
        Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(mismatch(error)),
    }
    Ok((certified, leaf))
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    kes_tls::read_regular_file(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The system's CA certificates and these.
fn roots(ca: Vec<FileCertificate>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(kes_tls::system_certificates());
    for FileCertificate { path, certificate } in ca {
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
