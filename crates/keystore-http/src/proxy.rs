//! Which proxies to go through.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy, Url};

use crate::BadHttp;

/// What no proxy is asked for: it could not reach this machine's own addresses.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// Which proxies to go through. `Debug` shows nothing of them, since their URLs may hold passwords.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::Direct => "Direct",
            Self::Through { .. } => "Through",
        })
    }
}

/// The proxies of a client, and which of them a request goes through, for errors.
#[derive(Debug)]
pub(crate) struct Chosen {
    https: Option<String>,
    http: Option<String>,
    no_proxy: String,
}

impl Chosen {
    pub(crate) fn new(proxies: &Proxies) -> Self {
        match proxies {
            Proxies::Environment => Self::from_variables(|name| std::env::var(name).ok()),
            Proxies::Direct => Self::from_variables(|_| None),
            Proxies::Through { proxy, no_proxy } => Self {
                https: Some(proxy.clone()),
                http: Some(proxy.clone()),
                no_proxy: no_proxy.clone(),
            },
        }
    }

    /// As `variable` says: each may be spelled in lower case too.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let values = [name.to_owned(), name.to_ascii_lowercase()];
            values
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let all = either("ALL_PROXY");
        Self {
            https: either("HTTPS_PROXY").or_else(|| all.clone()),
            http: either("HTTP_PROXY").or(all),
            no_proxy: either("NO_PROXY").unwrap_or_default(),
        }
    }

    /// The proxies for the HTTP library.
    ///
    /// # Errors
    /// When an address is no URL.
    pub(crate) fn proxies(&self) -> Result<Vec<Proxy>, BadHttp> {
        let no_proxy = self.no_proxy();
        let mut proxies = Vec::new();
        if let Some(https) = &self.https {
            proxies.push(Proxy::https(https).map_err(|_| BadHttp::Proxy("https"))?);
        }
        if let Some(http) = &self.http {
            proxies.push(Proxy::http(http).map_err(|_| BadHttp::Proxy("http"))?);
        }
        Ok(proxies
            .into_iter()
            .map(|proxy| proxy.no_proxy(NoProxy::from_string(&no_proxy)))
            .collect())
    }

    /// What tells which proxy, as host and port, a request goes through.
    pub(crate) fn matcher(&self) -> Matcher {
        Matcher::builder()
            .https(self.https.clone().unwrap_or_default())
            .http(self.http.clone().unwrap_or_default())
            .no(self.no_proxy())
            .build()
    }

    fn no_proxy(&self) -> String {
        format!("{},{LOOPBACK}", self.no_proxy)
    }
}

/// The proxy, as host and port, that a request for `url` goes through.
pub(crate) fn proxy_of(matcher: &Matcher, url: &Url) -> Option<String> {
    let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
    proxy.uri().authority().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_those_of_the_environment() {
        for (variables, https, http) in [
            (&[][..], None, None),
            (&[("HTTPS_PROXY", "http://one:1")][..], Some("one:1"), None),
            (
                &[("https_proxy", "one:1"), ("HTTPS_PROXY", "")],
                Some("one:1"),
                None,
            ),
            (&[("http_proxy", "http://one:1")], None, Some("one:1")),
            (&[("ALL_PROXY", "http://one:1")], Some("one:1"), Some("one:1")),
            (
                &[("ALL_PROXY", "one:1"), ("HTTP_PROXY", "two:2")],
                Some("one:1"),
                Some("two:2"),
            ),
            (&[("ALL_PROXY", "one:1"), ("NO_PROXY", "example, x")], None, None),
            (&[("ALL_PROXY", "one:1"), ("no_proxy", "*")], None, None),
        ] {
            let chosen = Chosen::from_variables(|name| {
                let value = variables.iter().find(|(key, _)| *key == name);
                value.map(|(_, value)| (*value).to_owned())
            });
            assert!(chosen.proxies().is_ok());
            let matcher = chosen.matcher();
            let of = |url: &str| proxy_of(&matcher, &url.parse().unwrap());
            assert_eq!(
                of("https://vault.example:8200/x").as_deref(),
                https,
                "{variables:?}"
            );
            assert_eq!(of("http://vault.example/").as_deref(), http, "{variables:?}");
            for here in ["http://localhost/", "https://127.0.0.1:8200/", "https://[::1]/"] {
                assert_eq!(of(here), None, "{variables:?} {here}");
            }
        }
    }
}
