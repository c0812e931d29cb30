//! Who the client is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use kes_crypto::ApiKey;
use kes_crypto::pem::{self, PemError};
use kes_types::{Clock as _, Identity, SystemClock};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// How long the certificate of an API key is valid. The server looks at the key only.
const API_KEY_VALIDITY: time::Duration = time::Duration::days(90);

/// Why a private key and a certificate do not make credentials. Never quotes them.
///
/// ```
/// use kes_client::{BadCredentials, Credentials};
///
/// let outcome = Credentials::from_api_key("kes:v1:abc");
/// assert!(matches!(outcome, Err(BadCredentials::ApiKey { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCredentials {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is no API key.
    #[error("{reason}")]
    ApiKey {
        /// What is wrong with it.
        reason: String,
    },
    /// A PEM text does not hold what it should.
    #[error("{what} is not usable: {reason}")]
    Pem {
        /// The client certificate, or its private key.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is encrypted: see [`Credentials::from_encrypted_pem`].
    #[error("the client's private key is encrypted and needs a password")]
    PasswordRequired,
    /// The password does not decrypt the private key.
    #[error("the password of the client's private key is wrong")]
    WrongPassword,
    /// There is no certificate, or it is no X.509 certificate.
    #[error("the client certificate is malformed")]
    Certificate,
    /// The private key is of a kind that TLS cannot use.
    #[error("the client's private key is malformed or of an unsupported kind")]
    Key,
    /// They do not belong together.
    #[error("the client's private key does not belong to its certificate")]
    Mismatch,
    /// No certificate could be made for an API key.
    #[error("no certificate can be made for the API key")]
    Generate,
}

/// A private key and its certificate, by which a server knows a client.
///
/// ```
/// use kes_client::Credentials;
///
/// let credentials = Credentials::from_api_key("kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc")?;
/// assert_eq!(
///     credentials.identity(),
///     "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22"
/// );
/// # Ok::<(), kes_client::BadCredentials>(())
/// ```
#[derive(Clone)]
pub struct Credentials {
    key: Arc<CertifiedKey>,
    identity: Identity,
}

impl Credentials {
    /// The credentials of an API key, `kes:v1:` and base64, with a certificate made on the fly.
    ///
    /// ```no_run
    /// use kes_client::Credentials;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let credentials = Credentials::from_api_key(&std::env::var("MINIO_KES_API_KEY")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the text is no API key, or no certificate can be made.
    pub fn from_api_key(api_key: &str) -> Result<Self, BadCredentials> {
        let api_key = ApiKey::parse(api_key).map_err(|error| BadCredentials::ApiKey {
            reason: error.to_string(),
        })?;
        let now = SystemClock.now();
        let identity = api_key.identity();
        let pkcs8 = api_key.private_key_pkcs8();
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let key_pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
            .map_err(|_| BadCredentials::Generate)?;

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, identity.as_str());
        params.serial_number = Some(random_serial_number()?);
        // Clocks differ a little between machines.
        params.not_before = now - time::Duration::minutes(1);
        params.not_after = now + API_KEY_VALIDITY;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .self_signed(&key_pair)
            .map_err(|_| BadCredentials::Generate)?;
        Self::from_der(vec![certificate.der().clone()], &PrivateKeyDer::Pkcs8(pkcs8))
    }

    /// The credentials in two PEM files: a private key, and its certificate chain with the client's own certificate first.
    ///
    /// ```no_run
    /// use kes_client::Credentials;
    ///
    /// let credentials = Credentials::from_files("client.key".as_ref(), "client.crt".as_ref())?;
    /// # Ok::<(), kes_client::BadCredentials>(())
    /// ```
    ///
    /// # Errors
    /// When a file cannot be read, as [`Self::from_pem`] else.
    pub fn from_files(key: &Path, certificate: &Path) -> Result<Self, BadCredentials> {
        Self::from_pem(&read(key)?, &read(certificate)?)
    }

    /// The credentials in two PEM texts: a private key (PKCS#8, PKCS#1 or SEC1), and its certificate chain with the client's own
    /// certificate first.
    ///
    /// ```no_run
    /// use kes_client::Credentials;
    ///
    /// # fn secret_of_the_orchestrator(name: &str) -> Vec<u8> { Vec::new() }
    /// let key = secret_of_the_orchestrator("kes-client-key");
    /// let certificate = secret_of_the_orchestrator("kes-client-certificate");
    /// let credentials = Credentials::from_pem(&key, &certificate)?;
    /// # Ok::<(), kes_client::BadCredentials>(())
    /// ```
    ///
    /// # Errors
    /// When one of them is malformed, when they do not belong together, and [`BadCredentials::PasswordRequired`] when the
    /// private key is encrypted.
    pub fn from_pem(key: &[u8], certificate: &[u8]) -> Result<Self, BadCredentials> {
        Self::from_pem_with(key, certificate, None)
    }

    /// As [`Self::from_pem`], of a private key that is encrypted, in PKCS#8 or as RFC 1423 has it.
    ///
    /// ```no_run
    /// use kes_client::{BadCredentials, Credentials};
    ///
    /// # fn ask_for_a_password() -> String { String::new() }
    /// # fn example(key: &[u8], certificate: &[u8]) -> Result<Credentials, BadCredentials> {
    /// match Credentials::from_pem(key, certificate) {
    ///     Err(BadCredentials::PasswordRequired) => {
    ///         Credentials::from_encrypted_pem(key, certificate, ask_for_a_password().as_bytes())
    ///     }
    ///     outcome => outcome,
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::from_pem`], and when the password is wrong.
    pub fn from_encrypted_pem(
        key: &[u8],
        certificate: &[u8],
        password: &[u8],
    ) -> Result<Self, BadCredentials> {
        Self::from_pem_with(key, certificate, Some(password))
    }

    fn from_pem_with(
        key: &[u8],
        certificate: &[u8],
        password: Option<&[u8]>,
    ) -> Result<Self, BadCredentials> {
        let unusable = |what| {
            move |error| match error {
                PemError::PasswordRequired => BadCredentials::PasswordRequired,
                PemError::WrongPassword => BadCredentials::WrongPassword,
                error => BadCredentials::Pem {
                    what,
                    reason: error.to_string(),
                },
            }
        };
        let chain = pem::certificates(certificate).map_err(unusable("the client certificate"))?;
        let key = pem::private_key(key, password).map_err(unusable("the client's private key"))?;
        let key = match &key {
            pem::PrivateKeyDer::Pkcs8(der) => PrivateKeyDer::Pkcs8(der.as_slice().into()),
            pem::PrivateKeyDer::Pkcs1(der) => PrivateKeyDer::Pkcs1(der.as_slice().into()),
            pem::PrivateKeyDer::Sec1(der) => PrivateKeyDer::Sec1(der.as_slice().into()),
        };
        Self::from_der(chain.into_iter().map(CertificateDer::from).collect(), &key)
    }

    /// The credentials of a certificate chain, the client's own certificate first, and its private key.
    ///
    /// ```no_run
    /// use kes_client::Credentials;
    /// use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = std::fs::read("client.key.der")?;
    /// let certificate = std::fs::read("client.crt.der")?;
    /// let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    /// let credentials = Credentials::from_der(vec![certificate.into()], &key)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When one of them is malformed, or when they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, BadCredentials> {
        let leaf = chain.first().ok_or(BadCredentials::Certificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| BadCredentials::Certificate)?;
        let spki = leaf.public_key().raw;
        let key: Arc<dyn SigningKey> = rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|_| BadCredentials::Key)?;
        // Compared here and not by rustls, which cannot read X.509 version 1.
        if key.public_key().is_none_or(|public| *public != *spki) {
            return Err(BadCredentials::Mismatch);
        }
        let identity = kes_crypto::identity_of_spki(spki);
        Ok(Self {
            key: Arc::new(CertifiedKey::new(chain, key)),
            identity,
        })
    }

    /// The identity that a server sees: the SHA-256 of the public key in hexadecimal. It is no secret, and what a policy names.
    ///
    /// ```no_run
    /// # fn example(credentials: kes_client::Credentials) {
    /// println!("let the policy of {} allow this", credentials.identity());
    /// # }
    /// ```
    #[must_use]
    pub fn identity(&self) -> &str {
        self.identity.as_str()
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// What is in a file; zeroed when dropped, since it may be a private key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, BadCredentials> {
    kes_tls::read_file(path).map_err(|source| BadCredentials::Read {
        path: path.to_owned(),
        source,
    })
}

fn random_serial_number() -> Result<SerialNumber, BadCredentials> {
    let mut serial = [0; 16];
    kes_crypto::fill_random(&mut serial).map_err(|_| BadCredentials::Generate)?;
    Ok(SerialNumber::from_slice(&serial))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.identity)
    }
}
