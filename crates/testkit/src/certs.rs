//! Certificates for tests.

use kes_types::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A certificate chain and its private key.
#[derive(Debug)]
pub struct Credentials {
    chain: Vec<Vec<u8>>,
    key: PrivateKeyDer<'static>,
    identity: Identity,
}

/// Kinds of client keys.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    /// Ed25519, as API keys have.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// RSA with 2048 bits.
    Rsa,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ed25519, Self::P256, Self::P384, Self::P521, Self::Rsa];

    fn generate(self) -> KeyPair {
        let algorithm = match self {
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        KeyPair::generate_for(algorithm).expect("the provider generates all kinds of keys")
    }
}

impl Credentials {
    /// A self-signed certificate that is nobody's CA.
    #[must_use]
    pub fn self_signed(name: &str) -> Self {
        Self::self_signed_with(KeyKind::P256, params(name))
    }

    /// The same with a key of this kind.
    #[must_use]
    pub fn with_key(kind: KeyKind) -> Self {
        Self::self_signed_with(kind, params("client"))
    }

    /// A self-signed certificate that claims to be a CA's, as `openssl req -x509` makes by default.
    #[must_use]
    pub fn self_signed_ca(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::self_signed_with(KeyKind::P256, params)
    }

    /// A self-signed certificate that expired long ago.
    #[must_use]
    pub fn expired(name: &str) -> Self {
        Self::self_signed_with(KeyKind::P256, in_the_past(params(name)))
    }

    /// A self-signed certificate that is valid from one time to another.
    #[must_use]
    pub fn valid_between(name: &str, from: OffsetDateTime, to: OffsetDateTime) -> Self {
        let mut params = params(name);
        (params.not_before, params.not_after) = (from, to);
        Self::self_signed_with(KeyKind::P256, params)
    }

    fn self_signed_with(kind: KeyKind, params: CertificateParams) -> Self {
        let key = kind.generate();
        let certificate = params.self_signed(&key).expect("the parameters are sound");
        Self::new(vec![certificate.der().to_vec()], &key)
    }

    fn new(chain: Vec<Vec<u8>>, key: &KeyPair) -> Self {
        use rcgen::PublicKeyData as _;
        Self {
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            identity: kes_crypto::identity_of_spki(&key.subject_public_key_info()),
        }
    }

    /// Credentials made elsewhere, in DER; the key is PKCS#8.
    #[must_use]
    pub fn from_der(chain: Vec<Vec<u8>>, key: Vec<u8>, spki: &[u8]) -> Self {
        Self {
            chain,
            key: PrivatePkcs8KeyDer::from(key).into(),
            identity: kes_crypto::identity_of_spki(spki),
        }
    }

    /// Credentials made elsewhere, in PEM, with the identity that they should give.
    ///
    /// # Panics
    /// When there is no certificate or no unencrypted key.
    #[must_use]
    pub fn from_pem(certificate: &str, key: &str, identity: &str) -> Self {
        Self {
            chain: kes_crypto::pem::certificates(certificate.as_bytes()).expect("certificates"),
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a private key"),
            identity: Identity::parse(identity).expect("an identity"),
        }
    }

    /// The same key and certificate, with others' certificates sent after it.
    #[must_use]
    pub fn followed_by(mut self, others: &[&Self]) -> Self {
        self.chain
            .extend(others.iter().flat_map(|other| other.chain.clone()));
        self
    }

    /// Who these credentials make a client.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The certificates as TLS sends them.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().cloned().map(CertificateDer::from).collect()
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// The certificates as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone())))
            .collect()
    }

    /// The private key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        let label = match self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem::encode(&pem::Pem::new(label, self.key.secret_der()))
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct TestCa(CertifiedIssuer<'static, KeyPair>);

impl TestCa {
    /// A fresh CA.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyKind::P256.generate();
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are sound"))
    }

    /// A certificate for clients and servers.
    #[must_use]
    pub fn issue(&self, name: &str) -> Credentials {
        self.sign(params(name))
    }

    /// A certificate that expired long ago.
    #[must_use]
    pub fn issue_expired(&self, name: &str) -> Credentials {
        self.sign(in_the_past(params(name)))
    }

    fn sign(&self, params: CertificateParams) -> Credentials {
        let key = KeyKind::P256.generate();
        let certificate = params.signed_by(&key, &self.0).expect("the parameters are sound");
        Credentials::new(vec![certificate.der().to_vec()], &key)
    }

    /// The CA's own certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The CA's certificate and key as a client's credentials.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials::new(vec![self.0.der().to_vec()], self.0.key())
    }
}

fn params(name: &str) -> CertificateParams {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("the names are good");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

fn in_the_past(mut params: CertificateParams) -> CertificateParams {
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = OffsetDateTime::UNIX_EPOCH + Duration::days(365);
    params
}
