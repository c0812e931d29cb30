//! Which servers a client believes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca::certificates_among;
use crate::{
    BadTrust, PinUse, certificates_at, public_key, system_certificates, verify_tls12_signature_with_raw_key,
};

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
        Self {
            roots: system_certificates(),
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
        let found = certificates_at(ca)?;
        if found.is_empty() {
            return Err(BadTrust::Empty(ca.to_owned()));
        }
        Ok(Self {
            roots: found.into_iter().map(|found| found.certificate).collect(),
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
        let found = certificates_among(path)?;
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
        verify_tls12_signature_with_raw_key(message, &key, signature, &self.algorithms)
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
    public_key(certificate).map(Some)
}
