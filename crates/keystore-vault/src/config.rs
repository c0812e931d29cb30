//! What a connection to Vault is made from.

use std::path::PathBuf;
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::Patience;

/// What a connection to Vault is made from.
#[derive(Debug)]
pub struct Config {
    /// URL of the server, with its scheme.
    pub endpoint: String,
    /// Mount path of the K/V engine.
    pub engine: String,
    /// Version of the K/V engine.
    pub version: KvVersion,
    /// Namespace of the engines.
    pub namespace: Option<String>,
    /// Folder inside the K/V engine.
    pub prefix: Option<String>,
    /// What values are encrypted with before they are stored.
    pub transit: Option<Transit>,
    /// How this program proves who it is.
    pub login: Login,
    /// TLS towards Vault.
    pub tls: Tls,
    /// How often Vault's health is asked for. Not zero.
    pub ping: Duration,
    /// How long Vault is waited for.
    pub patience: Patience,
}

/// Version of Vault's K/V engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of its entries.
    V1,
    /// With versions.
    V2,
}

/// Encryption by Vault's transit engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transit {
    /// Mount path of the engine.
    pub engine: String,
    /// Name of its key.
    pub key: String,
}

/// How this program proves to Vault who it is.
#[derive(Debug)]
pub enum Login {
    /// By an `AppRole`.
    AppRole {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// Role id.
        id: SecretBytes,
        /// Secret id.
        secret: SecretBytes,
    },
    /// By a service account of Kubernetes.
    Kubernetes {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// The role.
        role: String,
        /// The service account's token.
        jwt: Jwt,
    },
    /// By a token that somebody else renews.
    Token {
        /// The file with the token, which is read again when it changes.
        file: PathBuf,
    },
    /// By the client certificate of [`Tls::client`], which is then there.
    Cert {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// The role; without one Vault chooses.
        role: Option<String>,
    },
}

/// In which namespace of Vault to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginNamespace {
    /// That of the engines.
    Inherit,
    /// None.
    Root,
    /// Another one.
    Named(String),
}

/// The token of a Kubernetes service account.
#[derive(Debug)]
pub enum Jwt {
    /// A file with the token, which is read at each login.
    File(PathBuf),
    /// The token itself.
    Token(SecretBytes),
}

/// TLS towards Vault. The files have not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's private key and certificate, both PEM.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM.
    pub cert: PathBuf,
}
