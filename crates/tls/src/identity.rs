//! Who a client is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use kes_crypto::pem::{self, PemError};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{private_key, public_key, read_file};

/// Why a client certificate and its private key are not usable. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum BadIdentity {
    /// A file cannot be read.
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
    /// The certificate is no X.509 certificate.
    #[error("the client certificate '{}' is malformed", .0.display())]
    Certificate(PathBuf),
    /// The key is of a kind that TLS cannot use.
    #[error("the client's private key '{}' is of a kind that TLS cannot use", .path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// What went wrong.
        source: rustls::Error,
    },
    /// The certificate is not that of the key.
    #[error("the client's private key '{}' does not belong to the certificate '{}'", .key.display(), .cert.display())]
    Mismatch {
        /// Where the key is.
        key: PathBuf,
        /// Where the certificate is.
        cert: PathBuf,
    },
}

/// A certificate chain and the private key of its first certificate, by which servers know a client.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

impl ClientIdentity {
    /// The private key in one PEM file and the certificate chain in another, the client's own certificate first. The key
    /// is of any form that is read for a server: PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// # Errors
    /// Says which file is not usable and why.
    pub fn from_files(key: &Path, cert: &Path) -> Result<Self, BadIdentity> {
        const CERT: &str = "the client certificate";
        const KEY: &str = "the client's private key";
        let content = |what, path: &Path| {
            let path = path.to_owned();
            move |source| BadIdentity::Content { what, path, source }
        };
        let chain = pem::certificates(&read(CERT, cert)?).map_err(content(CERT, cert))?;
        let text = read(KEY, key)?;
        let parsed = pem::private_key(&text, None).map_err(content(KEY, key))?;

        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let malformed = || BadIdentity::Certificate(cert.to_owned());
        let leaf = public_key(chain.first().ok_or_else(malformed)?).map_err(|_| malformed())?;
        let signer = provider()
            .key_provider
            .load_private_key(private_key(&parsed))
            .map_err(|source| BadIdentity::Key {
                path: key.to_owned(),
                source,
            })?;
        // Compared here and not by rustls, which cannot read X.509 version 1.
        if signer.public_key().is_none_or(|public| *public != *leaf) {
            return Err(BadIdentity::Mismatch {
                key: key.to_owned(),
                cert: cert.to_owned(),
            });
        }
        Ok(Self(Arc::new(CertifiedKey::new(chain, signer))))
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({} certificates)", self.0.cert.len())
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, BadIdentity> {
    read_file(path).map_err(|source| BadIdentity::Read {
        what,
        path: path.to_owned(),
        source,
    })
}
