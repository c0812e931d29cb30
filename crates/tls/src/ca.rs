//! Certificates of authorities, from files and from the system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kes_crypto::pem::{self, PemError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::file::{read_file, read_regular_file};

/// The most entries of a folder of them. That of a whole operating system has some four hundred.
const MOST_ENTRIES: usize = 4096;

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

/// A certificate and the file that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCertificate {
    /// The file.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
}

/// The certificates in `path`, a PEM file or a directory of them, where there must be nothing else. Directories in it are
/// skipped, and so is what begins with two dots, as Kubernetes mounts its secrets.
///
/// # Errors
/// Says which file is not usable and why.
pub fn certificates_at(path: &Path) -> Result<Vec<FileCertificate>, BadTrust> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| BadTrust::Read { path, source }
    };
    let mut found = Vec::new();
    for path in files_at(path).map_err(unreadable(path))? {
        let text = read_regular_file(&path).map_err(unreadable(&path))?;
        let certificates = pem::certificates(&text).map_err(|source| BadTrust::Content {
            path: path.clone(),
            source,
        })?;
        for certificate in certificates {
            if X509Certificate::from_der(&certificate).is_err() {
                return Err(BadTrust::Malformed(path));
            }
            found.push(FileCertificate {
                path: path.clone(),
                certificate: CertificateDer::from(certificate),
            });
        }
    }
    Ok(found)
}

/// The certificates in `path`, whatever else there is.
pub(crate) fn certificates_among(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTrust> {
    let read = || {
        let mut found = Vec::new();
        for file in files_at(path)? {
            let pem = read_file(&file)?;
            let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
            found.extend(
                certificates
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?,
            );
        }
        Ok(found)
    };
    read().map_err(|source| BadTrust::Read {
        path: path.to_owned(),
        source,
    })
}

/// The certificates that this system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. What cannot be read is
/// left out, as every other program on the system does.
#[must_use]
pub fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// A file, or the files in a directory, in the order of their names.
fn files_at(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for (number, entry) in path.read_dir()?.enumerate() {
        if number >= MOST_ENTRIES {
            let message = format!("there are more than {MOST_ENTRIES} files in it");
            return Err(io::Error::other(message));
        }
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
