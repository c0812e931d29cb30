//! Where a server is.

use std::fmt;

use http::uri::{Authority, Uri};

/// A text that names no server.
///
/// ```
/// use kes_client::{BadEndpoint, Endpoint};
///
/// assert_eq!(Endpoint::parse_list(" , "), Err(BadEndpoint::Empty));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEndpoint {
    /// Nothing is named.
    #[error("no server endpoint is given")]
    Empty,
    /// It is not `[https://]HOST[:PORT]`.
    #[error("invalid server endpoint '{0}': want HOST[:PORT] or https://HOST[:PORT]")]
    Malformed(String),
}

/// Host and port of a server. Without a port it is 443.
///
/// ```
/// use kes_client::Endpoint;
///
/// assert_eq!(Endpoint::parse("https://kes.example.net:7373")?.to_string(), "kes.example.net:7373");
/// # Ok::<(), kes_client::BadEndpoint>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// Reads `HOST[:PORT]` or a URL of it. `http://` means `https://`, since no server speaks plain HTTP.
    ///
    /// ```
    /// # use kes_client::Endpoint;
    /// assert!(Endpoint::parse("127.0.0.1:7373").is_ok());
    /// assert!(Endpoint::parse("ftp://127.0.0.1").is_err());
    /// ```
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint::Malformed(without_secret(text));
        let text = text.trim();
        if text.is_empty() {
            return Err(BadEndpoint::Empty);
        }
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| strip_prefix_ignoring_case(text, scheme));
        let rest = rest.unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: Authority = rest.parse().map_err(|_| bad())?;
        let port = authority
            .as_str()
            .strip_prefix(authority.host())
            .ok_or_else(bad)?;
        let port_is_good = port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.parse::<u16>().is_ok());
        if authority.host().is_empty() || !port_is_good {
            return Err(bad());
        }
        Ok(Self(authority))
    }

    /// Reads a list with commas between the endpoints. Empty elements are skipped.
    ///
    /// ```
    /// # use kes_client::Endpoint;
    /// assert_eq!(Endpoint::parse_list("kes-1:7373, kes-2:7373")?.len(), 2);
    /// # Ok::<(), kes_client::BadEndpoint>(())
    /// ```
    ///
    /// # Errors
    /// Says which element is wrong, or that there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadEndpoint> {
        let elements = text
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty());
        let endpoints = elements.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            Err(BadEndpoint::Empty)
        } else {
            Ok(endpoints)
        }
    }

    /// The URL of `path_and_query`, which begins with a slash, on this server.
    pub(crate) fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme("https")
            .authority(self.0.clone())
            .path_and_query(path_and_query)
            .build()
    }
}

/// `text` without what stands before an `@`: a user and a password, which have no place there. Neither has an API key, which gets
/// there when two variables are mixed up.
fn without_secret(text: &str) -> String {
    if let Some(at) = text.to_ascii_lowercase().find("kes:v1:") {
        return format!("{}kes:v1:...", text.get(..at).unwrap_or_default());
    }
    text.rsplit_once('@')
        .map_or_else(|| text.to_owned(), |(_, host)| format!("...@{host}"))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Host and port without a scheme.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_endpoint_is_read() {
        for (text, want) in [
            ("127.0.0.1:7373", "127.0.0.1:7373"),
            ("https://127.0.0.1:7373", "127.0.0.1:7373"),
            ("http://127.0.0.1:7373/", "127.0.0.1:7373"),
            ("HTTPS://kes.example.net/", "kes.example.net"),
            (" kes ", "kes"),
            ("[::1]:7373", "[::1]:7373"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), want, "{text}");
        }
        assert_eq!(
            Endpoint::parse("kes").unwrap().uri("/version").unwrap(),
            "https://kes/version"
        );
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for bad in [
            "ftp://kes",
            "kes:port",
            "kes:99999",
            "kes:",
            "kes/path",
            "https://kes//",
            "user@kes",
            "a b",
            ":7373",
            "https://",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        let error = Endpoint::parse("https://user:secret@kes:7373").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().contains("@kes:7373"), "{error}");
        for key in ["kes:v1:AD9E7FSYWrMD", " https://KES:v1:AD9E7FSYWrMD"] {
            let error = Endpoint::parse(key).unwrap_err().to_string();
            assert!(
                error.contains("kes:v1:...'") && !error.contains("AD9E"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_list_skips_what_is_empty_but_is_not_empty_itself() {
        let list = Endpoint::parse_list(" a:1, ,https://b:2/,").unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a:1", "b:2"]
        );
        assert_eq!(Endpoint::parse_list(" , "), Err(BadEndpoint::Empty));
    }
}
