//! Keys: those in files for rustls, and those in certificates that webpki cannot read, such as ones of X.509 version 1.

use kes_crypto::pem::PrivateKeyDer as ParsedKey;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, Error};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    SubjectPublicKeyInfoDer,
};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A private key for rustls.
#[must_use]
pub fn private_key(key: &ParsedKey) -> PrivateKeyDer<'static> {
    match key {
        ParsedKey::Pkcs8(der) => PrivatePkcs8KeyDer::from(der.to_vec()).into(),
        ParsedKey::Pkcs1(der) => PrivatePkcs1KeyDer::from(der.to_vec()).into(),
        ParsedKey::Sec1(der) => PrivateSec1KeyDer::from(der.to_vec()).into(),
    }
}

/// The public key of a certificate of any version.
///
/// # Errors
/// When it is not a certificate.
pub fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let key = certificate.public_key().raw.to_vec();
    Ok(SubjectPublicKeyInfoDer::from(key))
}

/// Verifies a signature of a TLS 1.2 handshake with the public key alone, as
/// [`rustls::crypto::verify_tls13_signature_with_raw_key`] does for TLS 1.3.
///
/// # Errors
/// When the signature is not of this key.
pub fn verify_tls12_signature_with_raw_key(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| CertificateError::BadEncoding)?;
    let of_scheme = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signed.scheme);
    // In TLS 1.2 a scheme does not name the curve, so each algorithm is tried that the scheme may stand for.
    let is_valid = of_scheme
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| {
            key.verify_signature(*algorithm, message, signed.signature())
                .is_ok()
        });
    if is_valid {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}
