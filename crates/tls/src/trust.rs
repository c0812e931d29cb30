//! Which servers a client believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use kes_crypto::pem::{self, PemError};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::PinUse;

/// Why certificates of trusted authorities cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// The file or directory cannot be read.
    #[error("cannot read CA certificates from {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("no CA certificate in {}", .0.display())]
    Empty(PathBuf),
    /// There is something else in it, or it is damaged.
    #[error("the CA certificates in {} are not usable", path.display())]
    Content {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A block in it is not an X.509 certificate.
    #[error("a CA certificate in {} is malformed", .0.display())]
    Malformed(PathBuf),
}

/// Which servers a client believes.
#[derive(Clone)]
pub struct ServerTrust {
    roots: Vec<CertificateDer<'static>>,
    anything: bool,
    pinned_for: PinnedFor,
    ca: Option<PathBuf>,
}

/// Which servers a certificate stands for that is trusted as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PinnedFor {
    /// Those that it names, or any if it names none.
    ItsNames,
    /// Any.
    AnyName,
}

impl ServerTrust {
    /// Trusts nobody yet.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            roots: Vec::new(),
            anything: false,
            pinned_for: PinnedFor::ItsNames,
            ca: None,
        }
    }

    /// Trusts the authorities that this system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[must_use]
    pub fn system() -> Self {
        // What cannot be read is left out, as every other program on the system does.
        Self {
            roots: rustls_native_certs::load_native_certs().certs,
            anything: false,
            pinned_for: PinnedFor::ItsNames,
            ca: None,
        }
    }

    /// Trusts those by whom the server of a key store is believed: the certificates in `ca`, a PEM file or a directory of
    /// them, and nobody else. Without it, the authorities that this system trusts.
    ///
    /// A server whose own certificate is in `ca` is believed as long as that certificate is valid, whatever names it has
    /// and whoever issued it. Such certificates are made by hand, and naming the one says more than an authority could.
    /// The server still proves that it has the private key. [`PinUse`] tells that it happened.
    ///
    /// # Errors
    /// When `ca` cannot be read, or there is anything but certificates in it.
    pub fn of_key_store(ca: Option<&Path>) -> Result<Self, BadTrust> {
        let Some(ca) = ca else {
            return Ok(Self::system());
        };
        Ok(Self {
            roots: only_certificates_at(ca)?,
            anything: false,
            pinned_for: PinnedFor::AnyName,
            ca: Some(ca.to_owned()),
        })
    }

    /// Trusts the PEM certificates in a file, or in all files of a directory, too. A server whose own certificate is
    /// among them is believed even if that certificate is no authority.
    ///
    /// # Errors
    /// When there is no certificate, or it cannot be read.
    pub fn and_path(mut self, path: &Path) -> Result<Self, BadTrust> {
        let found = certificates_at(path).map_err(|source| BadTrust::Read {
            path: path.to_owned(),
            source,
        })?;
        if found.is_empty() {
            return Err(BadTrust::Empty(path.to_owned()));
        }
        self.roots.extend(found);
        Ok(self)
    }

    /// Trusts `certificate` too.
    #[must_use]
    pub fn and_certificate(mut self, certificate: CertificateDer<'static>) -> Self {
        self.roots.push(certificate);
        self
    }

    /// Believes any server: whoever stands between reads and changes everything.
    #[must_use]
    pub const fn dangerous_anything() -> Self {
        Self {
            roots: Vec::new(),
            anything: true,
            pinned_for: PinnedFor::ItsNames,
            ca: None,
        }
    }

    /// Where the certificates come from that are trusted instead of the system's.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The trusted certificates as PEM, for a library that has its own verification.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let blocks = self.roots.iter();
        blocks
            .map(|root| pem::encode("CERTIFICATE", root).to_string())
            .collect()
    }

    /// What verifies servers for rustls.
    #[must_use]
    pub fn into_verifier(self, provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        self.into_verifier_noting(provider, PinUse::default())
    }

    pub(crate) fn into_verifier_noting(
        self,
        provider: &Arc<CryptoProvider>,
        pin: PinUse,
    ) -> Arc<dyn ServerCertVerifier> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        let by_authority =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
        Arc::new(Verifier {
            // No roots, no verifier.
            by_authority: by_authority.ok(),
            roots: self.roots,
            anything: self.anything,
            pinned_for: self.pinned_for,
            pin,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anything {
            f.write_str("anything")
        } else {
            write!(f, "ServerTrust({} roots)", self.roots.len())
        }
    }
}

/// The certificates at `path`, where nothing else may be.
fn only_certificates_at(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTrust> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| BadTrust::Read { path, source }
    };
    let mut found = Vec::new();
    for file in files_at(path).map_err(unreadable(path))? {
        let text = std::fs::read(&file).map_err(unreadable(&file))?;
        let certificates = pem::certificates(&text).map_err(|source| BadTrust::Content {
            path: file.clone(),
            source,
        })?;
        for certificate in certificates {
            if X509Certificate::from_der(&certificate).is_err() {
                return Err(BadTrust::Malformed(file));
            }
            found.push(CertificateDer::from(certificate));
        }
    }
    if found.is_empty() {
        return Err(BadTrust::Empty(path.to_owned()));
    }
    Ok(found)
}

/// The certificates at `path`, whatever else there is.
fn certificates_at(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for file in files_at(path)? {
        found.extend(certificates_in(&file)?);
    }
    Ok(found)
}

/// A file, or the files in a directory, in the order of their names.
fn files_at(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        let file = entry.path();
        // Kubernetes mounts a secret as links into a directory called `..data`.
        if !entry.file_name().as_encoded_bytes().starts_with(b"..") && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn certificates_in(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>();
    certificates.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Verifies what [`ServerTrust`] promises. Whatever the certificate, the server proves that it has the private key.
#[derive(Debug)]
struct Verifier {
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    anything: bool,
    pinned_for: PinnedFor,
    pin: PinUse,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.anything {
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = match &self.by_authority {
            Some(verifier) => {
                verifier.verify_server_cert(leaf, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match verdict {
            // What `openssl req -x509` makes is a CA certificate without any name, which may not be a server's
            // certificate; but the user has named exactly this one.
            Err(_) if self.roots.contains(leaf) => {
                suits(leaf, server_name, now, self.pinned_for)?;
                self.pin.note();
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let Some(key) = key_of_old_certificate(certificate)? else {
            return rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms);
        };
        let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let algorithms = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signature.scheme);
        let valid = algorithms
            .flat_map(|(_, algorithms)| algorithms.iter())
            .any(|algorithm| {
                key.verify_signature(*algorithm, message, signature.signature())
                    .is_ok()
            });
        if valid {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match key_of_old_certificate(certificate)? {
            Some(key) => rustls::crypto::verify_tls13_signature_with_raw_key(
                message,
                &key,
                signature,
                &self.algorithms,
            ),
            None => rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate that is trusted as it stands is valid now, and for `server_name` if it names any server.
fn suits(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
    pinned_for: PinnedFor,
) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    if pinned_for == PinnedFor::AnyName {
        return Ok(());
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CertificateError::BadEncoding)?;
    let names_servers = names.is_some_and(|names| {
        let mut names = names.value.general_names.iter();
        names.any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
    });
    if names_servers {
        rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    }
    Ok(())
}

/// The public key of a certificate that webpki cannot read, such as one of X.509 version 1.
fn key_of_old_certificate(
    certificate: &CertificateDer<'_>,
) -> Result<Option<SubjectPublicKeyInfoDer<'static>>, rustls::Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return Ok(None);
    }
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(Some(SubjectPublicKeyInfoDer::from(
        parsed.public_key().raw.to_vec(),
    )))
}
