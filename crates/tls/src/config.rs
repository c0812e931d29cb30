//! What rustls makes connections from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;

use crate::identity::provider;
use crate::{ClientIdentity, ServerTrust};

/// TLS as a client, ready for handshakes.
#[derive(Debug)]
pub struct ClientTls {
    /// What rustls makes connections from: TLS 1.2 and 1.3, without a protocol on top.
    pub config: ClientConfig,
    /// Whether a server was believed for its very certificate alone.
    pub pin: PinUse,
}

/// Whether a server was believed only because its very certificate is among the trusted ones, although its names, or who
/// issued it, say nothing for it.
#[derive(Clone, Debug, Default)]
pub struct PinUse(Arc<AtomicBool>);

impl PinUse {
    /// Whether that has happened.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// TLS towards servers that `trust` believes, as `identity` if there is one.
///
/// # Errors
/// Never with the provider that this program is built with; said all the same, so that nothing here panics.
pub fn client_tls(trust: ServerTrust, identity: Option<&ClientIdentity>) -> Result<ClientTls, rustls::Error> {
    let provider = provider();
    let pin = PinUse::default();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(trust.into_verifier_noting(&provider, pin.clone()));
    let config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())))
        }
        None => config.with_no_client_auth(),
    };
    Ok(ClientTls { config, pin })
}
