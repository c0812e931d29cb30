//! The HTTP client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use kes_crypto::SecretBytes;
use kes_tls::{ClientIdentity, PinUse, ServerTrust, client_tls};
use reqwest::{Client, Response, Url, redirect, retry};
use tracing::warn;
use zeroize::Zeroizing;

use crate::error::{Place, TlsPlace};
use crate::proxy::{Chosen, proxy_of};
use crate::{Answer, Proxies, Request, SendError};

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(10);
/// How many connections are kept that nobody uses.
const MAX_IDLE: usize = 16;

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
    /// How long a connection and its TLS may take. When it is shorter than the time for a request, it is certain that a
    /// request that met no server has not arrived.
    pub connect_timeout: Duration,
    /// Which proxies to go through.
    pub proxies: Proxies,
    /// The settings that hold the CAs and the client's certificate, for errors: `keystore.vault.tls`.
    pub tls_settings: &'static str,
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum BadHttp {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The address of a proxy is no URL. It is not quoted, since it may hold a password.
    #[error("the proxy for {0} in the environment is not a URL")]
    Proxy(&'static str),
    /// The HTTP library refuses the settings.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// An HTTP client that bounds everything: each request has a deadline and each answer a size. It follows no redirects and
/// repeats nothing. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: Client,
    shared: Arc<Shared>,
}

struct Shared {
    proxies: Matcher,
    connect_timeout: Duration,
    tls: TlsPlace,
    pin: PinUse,
    has_warned: AtomicBool,
}

impl Http {
    /// A client with these settings. Contacts nobody.
    ///
    /// # Errors
    /// When the settings are not usable.
    pub fn new(settings: HttpSettings) -> Result<Self, BadHttp> {
        let HttpSettings {
            trust,
            identity,
            keep_alive,
            connect_timeout,
            proxies,
            tls_settings,
        } = settings;
        let place = TlsPlace {
            settings: tls_settings,
            ca: trust.ca().map(ToOwned::to_owned),
            has_identity: identity.is_some(),
        };
        let tls = client_tls(trust, identity.as_ref()).map_err(BadHttp::Tls)?;
        let mut config = tls.config;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];

        let chosen = Chosen::new(&proxies);
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .user_agent(concat!("kes/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .connect_timeout(connect_timeout)
            .pool_max_idle_per_host(if keep_alive { MAX_IDLE } else { 0 })
            .pool_idle_timeout(IDLE)
            // Those of the library would be asked for this machine's own addresses, too.
            .no_proxy();
        for proxy in chosen.proxies()? {
            builder = builder.proxy(proxy);
        }
        Ok(Self {
            client: builder.build().map_err(BadHttp::Setup)?,
            shared: Arc::new(Shared {
                proxies: chosen.matcher(),
                connect_timeout,
                tls: place,
                pin: tls.pin,
                has_warned: AtomicBool::new(false),
            }),
        })
    }

    /// The answer to `request`, whatever its status, if all of it is there within `timeout`.
    ///
    /// # Errors
    /// When there is no answer, or not all of it.
    pub async fn send(&self, request: Request, timeout: Duration) -> Result<Answer, SendError> {
        let url = request.url.clone();
        if timeout.is_zero() {
            return Err(SendError::timeout(self.place(&url), timeout));
        }
        let answer = tokio::time::timeout(timeout, self.exchange(request)).await;
        self.warn_of_pin(&url);
        answer.unwrap_or_else(|_| Err(SendError::timeout(self.place(&url), timeout)))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, SendError> {
        let Request {
            method,
            url,
            headers,
            body,
            answer_limit,
        } = request;
        let mut builder = self.client.request(method, url.clone()).headers(headers);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let response = builder.send().await;
        let response = response.map_err(|error| SendError::of(&error, self.place(&url)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, answer_limit).await.map_err(|error| match error {
            BadBody::TooLarge => SendError::too_large(self.place(&url), answer_limit),
            BadBody::Broken(error) => SendError::of(&error, self.place(&url)),
        })?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn place(&self, url: &Url) -> Place<'_> {
        Place {
            host: host_of(url),
            is_plain: url.scheme() == "http",
            proxy: proxy_of(&self.shared.proxies, url),
            connect_timeout: self.shared.connect_timeout,
            tls: &self.shared.tls,
        }
    }

    /// Says once that a server is believed for its very certificate.
    fn warn_of_pin(&self, url: &Url) {
        let Shared {
            tls, pin, has_warned, ..
        } = &*self.shared;
        if pin.happened() && !has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                server = host_of(url),
                "the server's certificate is in {}.ca itself: neither its names nor its issuer are checked",
                tls.settings,
            );
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("tls", &self.shared.tls)
            .finish_non_exhaustive()
    }
}

/// Why an answer's body is not there.
enum BadBody {
    TooLarge,
    Broken(reqwest::Error),
}

async fn read(mut response: Response, limit: usize) -> Result<SecretBytes, BadBody> {
    let announced = response.content_length().unwrap_or_default();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BadBody::TooLarge);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = response.chunk().await.map_err(BadBody::Broken)? {
        let length = body.len() + chunk.len();
        if length > limit {
            return Err(BadBody::TooLarge);
        }
        if length > body.capacity() {
            // Not by growing, which would leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * body.len())));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(SecretBytes::from(body))
}

/// Host and port, as an operator knows them.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
