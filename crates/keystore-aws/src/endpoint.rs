//! Where Secrets Manager is, as people write it.

use http::Uri;

/// The URL of an endpoint that is written as a URL or as a host, with or without a port. Without a scheme it is HTTPS.
pub(crate) fn parse(text: &str) -> Result<String, BadEndpoint> {
    let bad = |reason| BadEndpoint {
        endpoint: shown(text),
        reason,
    };
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("https".to_owned(), text),
    };
    let rest = rest.trim_end_matches('/');
    if scheme != "https" && scheme != "http" {
        return Err(bad("its scheme is neither https nor http"));
    }
    if rest.contains('@') {
        return Err(bad("credentials have no place in it"));
    }
    if rest.contains(['?', '#']) {
        return Err(bad("it has a query"));
    }
    let url = format!("{scheme}://{rest}");
    let parsed: Uri = url.parse().map_err(|_| bad("it is not a host or URL"))?;
    if parsed.host().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if has_port(authority) && parsed.port_u16().is_none() {
        return Err(bad("its port is not a number up to 65535"));
    }
    Ok(url)
}

fn has_port(authority: &str) -> bool {
    match authority.rsplit_once(']') {
        Some((_, after)) => after.starts_with(':'),
        None => authority.contains(':'),
    }
}

/// The text without what could be a password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => text.to_owned(),
    }
}

/// The configured endpoint cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the endpoint \"{endpoint}\" is not one of Secrets Manager: {reason} \
     (expected something like secretsmanager.us-east-2.amazonaws.com)"
)]
pub struct BadEndpoint {
    /// As it was configured.
    pub endpoint: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_urls_are_endpoints() {
        for (text, expected) in [
            (
                "secretsmanager.us-east-2.amazonaws.com",
                "https://secretsmanager.us-east-2.amazonaws.com",
            ),
            (
                "secretsmanager.REGION.amazonaws",
                "https://secretsmanager.REGION.amazonaws",
            ),
            (
                "https://secretsmanager-fips.us-east-2.amazonaws.com",
                "https://secretsmanager-fips.us-east-2.amazonaws.com",
            ),
            (
                "https://secretsmanager.eu-west-1.amazonaws.com/",
                "https://secretsmanager.eu-west-1.amazonaws.com",
            ),
            ("HTTPS://example.com", "https://example.com"),
            ("http://127.0.0.1:5055", "http://127.0.0.1:5055"),
            ("http://127.0.0.1:5055/", "http://127.0.0.1:5055"),
            ("  localhost:4566 ", "https://localhost:4566"),
            ("http://[::1]:5055", "http://[::1]:5055"),
            ("[::1]", "https://[::1]"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_with_the_reason() {
        for (text, reason) in [
            ("ftp://example.com", "scheme"),
            ("https://example.com?x=1", "query"),
            ("https://", "host"),
            ("", "host"),
            ("https://:443", "host"),
            ("example.com:", "port"),
            ("example.com:99999", "port"),
            ("exa mple.com", "not a host"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.reason.contains(reason) || error.reason.contains("not a host"),
                "{text}: {error}"
            );
        }
        let error = parse("https://user:hunter2@example.com").expect_err("credentials in a URL");
        assert!(error.reason.contains("credentials"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
