//! TCP connections, through a proxy where the environment asks for one.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

/// How long the system may take to connect before the next address or server gets its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a server, directly or through a proxy.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Connector {
    pub(crate) fn new(proxies: Matcher) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self {
            tcp,
            proxies: Arc::new(proxies),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let proxy = if is_loopback(&server) {
            None
        } else {
            self.proxies.intercept(&server)
        };
        let mut tcp = self.tcp.clone();
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(tcp.call(server).await?);
            };
            let host = proxy.uri().host().unwrap_or_default();
            let address = match proxy.uri().port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let tunneled = tunnel.call(server).await;
            Ok(tunneled.map_err(|source| BehindProxy {
                address,
                source: source.into(),
            })?)
        })
    }
}

/// Why a server could not be reached through a proxy.
#[derive(Debug, thiserror::Error)]
#[error("through the proxy at {address}")]
pub(crate) struct BehindProxy {
    /// Without the user and the password that its URL may have.
    address: String,
    source: Box<dyn StdError + Send + Sync>,
}

/// A proxy elsewhere cannot reach this machine's own addresses, so such a server is never asked through one.
fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_this_machine_needs_no_proxy() {
        for (uri, loopback) in [
            ("https://127.0.0.1:7373/", true),
            ("https://[::1]:7373/", true),
            ("https://localhost/", true),
            ("https://192.0.2.1/", false),
            ("https://localhost.example.net/", false),
        ] {
            assert_eq!(is_loopback(&uri.parse().unwrap()), loopback, "{uri}");
        }
    }
}
