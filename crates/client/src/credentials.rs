//! Who the client is.

use std::fmt;
use std::sync::Arc;

use kes_crypto::ApiKey;
use kes_types::{Identity, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long the certificate of an API key is valid. The server looks at the key only.
const API_KEY_VALIDITY: time::Duration = time::Duration::days(90);

/// Why a private key and a certificate do not make credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredentials {
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
#[derive(Clone)]
pub struct Credentials {
    key: Arc<CertifiedKey>,
    identity: Identity,
}

impl Credentials {
    /// The credentials of an API key, with a certificate made on the fly that is valid from a little before `now`.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn from_api_key(api_key: &ApiKey, now: Timestamp) -> Result<Self, BadCredentials> {
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

    /// The credentials of a certificate chain, the client's own certificate first, and its private key.
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

    /// The identity that a server sees.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
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
