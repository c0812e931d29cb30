//! Which servers a client believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

/// Why certificates of trusted authorities cannot be had.
///
/// ```
/// use std::path::Path;
/// use kes_client::{BadTrust, ServerTrust};
///
/// let outcome = ServerTrust::none().and_path(Path::new("no-such-file.pem"));
/// assert!(matches!(outcome, Err(BadTrust::Read { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// There is something in it that is no certificate.
    #[error("the CA certificates in {} are not usable: {reason}", path.display())]
    Content {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A PEM text holds no certificate, or something else.
    #[error("the CA certificates are not usable: {reason}")]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
}

impl BadTrust {
    /// Not `From`, which everybody could see.
    fn of(error: kes_tls::BadTrust) -> Self {
        match error {
            kes_tls::BadTrust::Read { path, source } => Self::Read { path, source },
            kes_tls::BadTrust::Empty(path) => Self::Empty(path),
            kes_tls::BadTrust::Content { path, source } => Self::Content {
                path,
                reason: source.to_string(),
            },
            kes_tls::BadTrust::Malformed(path) => Self::Content {
                path,
                reason: "a certificate is malformed".to_owned(),
            },
        }
    }
}

/// Which servers a client believes.
///
/// ```no_run
/// use std::path::Path;
/// use kes_client::ServerTrust;
///
/// // The authorities of this system, and one's own.
/// let trust = ServerTrust::system().and_path(Path::new("ca.pem"))?;
/// # Ok::<(), kes_client::BadTrust>(())
/// ```
#[derive(Clone)]
pub struct ServerTrust(kes_tls::ServerTrust);

impl ServerTrust {
    /// Trusts nobody yet.
    ///
    /// ```no_run
    /// # use kes_client::ServerTrust;
    /// let trust = ServerTrust::none().and_path("public.crt".as_ref())?;
    /// # Ok::<(), kes_client::BadTrust>(())
    /// ```
    #[must_use]
    pub const fn none() -> Self {
        Self(kes_tls::ServerTrust::none())
    }

    /// Trusts the authorities that this system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    ///
    /// ```
    /// let trust = kes_client::ServerTrust::system();
    /// ```
    #[must_use]
    pub fn system() -> Self {
        Self(kes_tls::ServerTrust::system())
    }

    /// Trusts the PEM certificates in a file, or in all files of a directory, too. A server whose own certificate is
    /// among them is believed even if that certificate is no authority.
    ///
    /// ```no_run
    /// let trust = kes_client::ServerTrust::system().and_path("/etc/kes/ca".as_ref())?;
    /// # Ok::<(), kes_client::BadTrust>(())
    /// ```
    ///
    /// # Errors
    /// When there is no certificate, or it cannot be read.
    pub fn and_path(self, path: &Path) -> Result<Self, BadTrust> {
        self.0.and_path(path).map(Self).map_err(BadTrust::of)
    }

    /// Trusts the certificates in a PEM text, too, as [`Self::and_path`] those in a file.
    ///
    /// ```
    /// use kes_client::{BadTrust, ServerTrust};
    ///
    /// let outcome = ServerTrust::system().and_pem(b"no certificate");
    /// assert!(matches!(outcome, Err(BadTrust::Pem { .. })));
    /// ```
    ///
    /// # Errors
    /// When there is no certificate in it, or anything else.
    pub fn and_pem(self, pem: &[u8]) -> Result<Self, BadTrust> {
        let found = kes_crypto::pem::certificates(pem).map_err(|error| BadTrust::Pem {
            reason: error.to_string(),
        })?;
        Ok(found.into_iter().fold(self, |trust, certificate| {
            trust.and_certificate(CertificateDer::from(certificate))
        }))
    }

    /// Trusts `certificate`, in DER, too.
    ///
    /// ```no_run
    /// use kes_client::ServerTrust;
    ///
    /// let trust = ServerTrust::none().and_certificate(std::fs::read("server.der")?.into());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn and_certificate(self, certificate: CertificateDer<'static>) -> Self {
        Self(self.0.and_certificate(certificate))
    }

    /// Believes any server: whoever stands between reads and changes everything.
    ///
    /// ```
    /// // Against a server of one's own, on one's own machine.
    /// let trust = kes_client::ServerTrust::dangerous_anything();
    /// ```
    #[must_use]
    pub const fn dangerous_anything() -> Self {
        Self(kes_tls::ServerTrust::dangerous_anything())
    }

    pub(crate) fn into_verifier(self, provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        self.0.into_verifier(provider)
    }
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
