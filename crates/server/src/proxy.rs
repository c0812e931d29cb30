//! Who a client is when a TLS proxy speaks for it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use kes_crypto::pem;
use kes_types::Identity;
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::error::ApiError;
use crate::identity;

/// The longest forwarded certificate, escaped.
const MAX_HEADER: usize = 32 << 10;

/// Reads the client certificate that a proxy forwards: exactly one URL-escaped PEM certificate.
///
/// Where clients are verified, so is this one, against the same CAs.
pub(crate) fn forwarded_identity(
    headers: &HeaderMap,
    header: &HeaderName,
    verifier: Option<&dyn ClientCertVerifier>,
    now: UnixTime,
) -> Result<Identity, ApiError> {
    let bad = |what: &str| ApiError::bad_request(format!("tls proxy: {what}"));
    let mut values = headers.get_all(header).iter();
    let value = values
        .next()
        .ok_or_else(|| bad("client certificate header is missing"))?;
    if values.next().is_some() {
        return Err(bad("client certificate header is repeated"));
    }
    let value = value.to_str().ok().filter(|value| value.len() <= MAX_HEADER);
    let value = value.ok_or_else(|| bad("client certificate header is not readable"))?;
    if !is_escaped(value) {
        return Err(bad("client certificate header is not URL-escaped"));
    }
    // Query-style escaping, where a blank is a plus; a plus of the base64 comes escaped.
    let pem: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
    let certificates =
        pem::certificates(&pem).map_err(|_| bad("client certificate header holds no PEM certificate"))?;
    let [certificate] = certificates.as_slice() else {
        return Err(bad("client certificate header must hold exactly one certificate"));
    };
    let identity = identity::of_certificate(certificate)
        .ok_or_else(|| bad("client certificate header holds no X.509 certificate"))?;
    if let Some(verifier) = verifier {
        let certificate = CertificateDer::from(certificate.as_slice());
        verifier
            .verify_client_cert(&certificate, &[], now)
            .map_err(|error| ApiError::not_authorized().because(error))?;
    }
    Ok(identity)
}

/// Whether every `%` begins an escape.
fn is_escaped(value: &str) -> bool {
    value.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        matches!(digits, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

/// The client's address as the first proxy saw it, for the audit log.
pub(crate) fn forwarded_ip(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get("x-forwarded-for")?.to_str().ok()?;
    let first = value.split(',').next().unwrap_or_default().trim();
    first
        .parse::<IpAddr>()
        .ok()
        .or_else(|| first.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| first.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        forwarded_ip(&headers).map(|ip| ip.to_string())
    }

    #[test]
    fn the_first_forwarded_address_counts_with_or_without_port() {
        for (value, expected) in [
            ("10.1.2.3", Some("10.1.2.3")),
            (" 10.1.2.3 , 10.9.9.9", Some("10.1.2.3")),
            ("10.1.2.3:4711", Some("10.1.2.3")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("unknown", None),
            ("", None),
            ("10.1.2.3.4", None),
        ] {
            assert_eq!(ip(value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn garbage_in_the_certificate_header_is_a_bad_request() {
        let header = HeaderName::from_static("x-tls-client-cert");
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&header, HeaderValue::from_bytes(value).unwrap());
            }
            forwarded_identity(&headers, &header, None, UnixTime::now()).unwrap_err()
        };
        let long = vec![b'a'; MAX_HEADER + 1];
        let garbage: [&[&[u8]]; 9] = [
            &[],
            &[b"", b""],
            &[b""],
            &[b"%"],
            &[b"%zz"],
            &[b"\xff\xfe"],
            &[b"-----BEGIN+CERTIFICATE-----%0Agarbage%0A-----END+CERTIFICATE-----"],
            &[b"-----BEGIN+CERTIFICATE-----%0AAAAA%0A-----END+CERTIFICATE-----"],
            &[&long],
        ];
        for values in garbage {
            let error = read(values);
            assert_eq!(error.status, 400, "{values:?}");
        }
    }
}
