//! The HTTP client.

use std::time::Duration;

use kes_tls::{ClientIdentity, ServerTrust};

use crate::{Answer, Request, SendError};

/// What the HTTP client of a key store is made from.
#[derive(Debug)]
pub struct HttpSettings {
    /// Which servers to believe.
    pub trust: ServerTrust,
    /// Who we are, for servers that ask.
    pub identity: Option<ClientIdentity>,
    /// Whether connections are used again, for up to ten seconds after the last request. Without, each request has its own
    /// connection, so that a load balancer can choose each time.
    pub keep_alive: bool,
    /// How long a connection and its TLS may take. A shorter time for the whole request goes before.
    pub connect_timeout: Duration,
    /// Which proxies to go through.
    pub proxies: Proxies,
    /// The settings that hold the CAs and the client's certificate, for errors: `keystore.vault.tls`.
    pub tls_settings: &'static str,
}

/// Which proxies to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// Those that the environment names: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, and not for what `NO_PROXY` names.
    Environment,
    /// None.
    Direct,
    /// This one, but for the hosts of `no_proxy`.
    Through {
        /// URL of the proxy.
        proxy: String,
        /// Hosts to connect to directly, as in `NO_PROXY`.
        no_proxy: String,
    },
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum BadHttp {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refuses the settings, such as the URL of a proxy.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// An HTTP client that bounds everything: each request has a deadline and each answer a size. It follows no redirects and
/// repeats nothing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {}

impl Http {
    /// A client with these settings. Contacts nobody.
    ///
    /// # Errors
    /// When the settings are not usable.
    pub fn new(_settings: HttpSettings) -> Result<Self, BadHttp> {
        Ok(Self {})
    }

    /// The answer to `request`, whatever its status, if it is there within `timeout`, to its last byte.
    ///
    /// # Errors
    /// When there is no answer, or not all of it.
    pub async fn send(&self, _request: Request, _timeout: Duration) -> Result<Answer, SendError> {
        Err(SendError {
            failure: crate::Failure::Connect,
            may_have_arrived: false,
            host: String::new(),
            cause: "not written yet".into(),
            remedy: None,
        })
    }
}
