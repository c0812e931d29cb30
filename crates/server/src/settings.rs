//! What a server is told: checked values, no file formats.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use kes_types::{Identity, Policy, PolicyName, Verb};
use zeroize::Zeroizing;

use crate::log::Level;

/// What a server is told. All of it may change on a reload.
#[derive(Debug)]
pub struct Settings {
    /// The identity that may do everything; `None` disables it.
    pub admin: Option<Identity>,
    /// The policies and who has them.
    pub policies: Vec<PolicySettings>,
    /// The server's certificate and what is asked of clients.
    pub tls: TlsSettings,
    /// Proxies that speak for clients.
    pub proxy: Option<ProxySettings>,
    /// What differs from the route table.
    pub routes: BTreeMap<Verb, RouteSettings>,
    /// What goes to the console.
    pub log: LogSettings,
    /// Bounds.
    pub limits: Limits,
    /// What `/version` says.
    pub build: Build,
}

/// A policy and the identities that have it.
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// Its name.
    pub name: PolicyName,
    /// Its rules.
    pub policy: Policy,
    /// Who has it. An identity has at most one policy.
    pub identities: Vec<Identity>,
}

/// The server's certificate and what is asked of clients.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Where the certificate and its key come from.
    pub certificate: CertificateSource,
    /// What is asked of client certificates.
    pub client_auth: ClientAuth,
    /// File or directory of further CA certificates that clients are verified against, beside the system's.
    pub ca: Option<PathBuf>,
}

/// Where a certificate and its private key come from.
#[derive(Clone)]
pub enum CertificateSource {
    /// PEM files, read at start and at every reload.
    Files {
        /// Certificate chain, leaf first.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
        /// What the private key is encrypted with.
        password: Option<Zeroizing<String>>,
    },
    /// PEM texts, for a server that lives as long as its process.
    Memory {
        /// Certificate chain, leaf first.
        cert: String,
        /// Private key.
        key: Zeroizing<String>,
    },
}

impl fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { cert, key, password } => {
                write!(
                    f,
                    "Files({}, {}, password: {})",
                    cert.display(),
                    key.display(),
                    password.is_some()
                )
            }
            Self::Memory { .. } => f.write_str("Memory"),
        }
    }
}

/// What is asked of client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Any certificate: the client proves that it has the private key, and its public key is who it is.
    #[default]
    AnyCertificate,
    /// A certificate that is valid and issued by a known CA.
    Verified,
}

/// TLS proxies that connect on behalf of clients.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The proxies' own identities.
    pub identities: BTreeSet<Identity>,
    /// The header in which a proxy forwards its client's certificate.
    pub header: HeaderName,
}

/// What differs from the route table.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteSettings {
    /// Whether anybody may call the route. Heeded only where [`Verb::may_skip_auth`].
    pub skip_auth: bool,
    /// How long the route may take.
    pub timeout: Option<Duration>,
}

/// What goes to the console.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// Least level of the error log.
    pub error: Level,
    /// Least level of the audit log, whose events all have the level INFO.
    pub audit: Level,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            error: Level::INFO,
            audit: Level::OFF,
        }
    }
}

/// Bounds on what clients can make the server hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections. Past it, accepting pauses.
    pub connections: usize,
    /// Bytes of request bodies in flight. Past it, requests are answered 503.
    pub body_memory: usize,
    /// Log and audit streams. Past it, requests for one are answered 503.
    pub log_streams: usize,
    /// From the first byte of a connection or request to the end of its headers, the TLS handshake included.
    pub header_timeout: Duration,
    /// How long a connection may have nothing to do.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_000,
            body_memory: 256 << 20,
            log_streams: 64,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// What `/version` says.
#[derive(Clone, Debug)]
pub struct Build {
    /// The release.
    pub version: String,
    /// The commit that it was built from.
    pub commit: String,
}
