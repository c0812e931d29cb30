//! Self-signed certificates.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kes_crypto::ApiKey;
use kes_types::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

/// What a certificate says.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) dns: &'a [String],
    pub(crate) ip: &'a [IpAddr],
    pub(crate) from: Timestamp,
    pub(crate) validity: Duration,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

/// The public key of an API key: its `SubjectPublicKeyInfo` in DER.
pub(crate) fn public_key_of(api_key: &ApiKey) -> anyhow::Result<Vec<u8>> {
    Ok(key_pair(api_key)?.subject_public_key_info())
}

/// The certificate of an API key, in PEM.
pub(crate) fn of_api_key(api_key: &ApiKey, subject: Subject<'_>) -> anyhow::Result<String> {
    self_signed(&key_pair(api_key)?, subject)
}

fn key_pair(api_key: &ApiKey) -> anyhow::Result<KeyPair> {
    let pkcs8 = api_key.private_key_pkcs8();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(
        &pkcs8,
        &rcgen::PKCS_ED25519,
    )?)
}

/// A certificate with a fresh key that clients of every kind understand: both in PEM, certificate first.
pub(crate) fn for_any_client(subject: Subject<'_>) -> anyhow::Result<(String, Zeroizing<String>)> {
    let private_key = private_key_for_any_client()?;
    Ok((of_private_key(&private_key, subject)?, private_key))
}

/// A fresh private key of a kind that clients of every kind understand, in PEM.
pub(crate) fn private_key_for_any_client() -> anyhow::Result<Zeroizing<String>> {
    let key_pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok(Zeroizing::new(key_pair.serialize_pem()))
}

/// The certificate of a private key, both in PEM.
pub(crate) fn of_private_key(private_key: &str, subject: Subject<'_>) -> anyhow::Result<String> {
    self_signed(&KeyPair::from_pem(private_key)?, subject)
}

/// Whether `name` is one that DNS could know, and not an address.
pub(crate) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.parse::<IpAddr>().is_err() && name.split('.').all(is_label)
}

fn self_signed(key_pair: &KeyPair, subject: Subject<'_>) -> anyhow::Result<String> {
    let Subject {
        common_name,
        dns,
        ip,
        from,
        validity,
        usages,
    } = subject;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    for name in dns {
        let text = Ia5String::try_from(name.as_str()).map_err(|_| anyhow!("'{name}' is not a DNS name"))?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    params
        .subject_alt_names
        .extend(ip.iter().copied().map(SanType::IpAddress));
    params.serial_number = Some(random_serial_number()?);
    params.not_before = from;
    params.not_after = end(from, validity).context("the certificate would expire after the year 9999")?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    Ok(kes_crypto::pem::encode("CERTIFICATE", params.self_signed(key_pair)?.der()).to_string())
}

fn end(from: Timestamp, validity: Duration) -> Option<Timestamp> {
    let end = from.checked_add(validity.try_into().ok()?)?;
    (end.year() <= 9999).then_some(end)
}

fn random_serial_number() -> anyhow::Result<SerialNumber> {
    let mut serial = [0; 16];
    kes_crypto::fill_random(&mut serial)?;
    Ok(SerialNumber::from_slice(&serial))
}
