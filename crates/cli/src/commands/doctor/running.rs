//! A server that runs: its certificate, its version and its clock. It is asked as somebody whom it does not know.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kes_crypto::ApiKey;
use kes_tls::ServerTrust;
use kes_types::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Deserialize;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, crypto};

use super::LIMIT;
use crate::certificate::{self, Subject as CertificateSubject};

/// How much of an answer is read.
const MAX_ANSWER: u64 = 64 << 10;

/// What listens at an address.
#[derive(Debug)]
pub(super) enum Listener {
    /// Nobody.
    Nobody,
    /// It cannot be reached, or does not answer in time.
    Unreachable(String),
    /// Something that does not speak TLS.
    NoTls(String),
    /// A TLS server.
    Tls(Tls),
}

/// A server that was asked for its version.
#[derive(Debug)]
pub(super) struct Tls {
    /// Its certificate.
    pub(super) leaf: Vec<u8>,
    /// Its version, if it says that it is one of ours.
    pub(super) version: Result<String, String>,
    /// What time it is there, and how long it took to learn.
    pub(super) clock: Option<(Timestamp, Duration)>,
}

/// Asks what listens at `host` and `port`.
pub(super) async fn ask(host: &str, port: u16, now: Timestamp) -> Listener {
    let connecting = timeout(LIMIT, TcpStream::connect((host, port)));
    let tcp = match connecting.await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Listener::Nobody,
        Ok(Err(error)) => return Listener::Unreachable(error.to_string()),
        Err(_) => return Listener::Unreachable(format!("no connection within {} s", LIMIT.as_secs())),
    };
    match timeout(LIMIT, greet(tcp, host, now)).await {
        Ok(Ok(server)) => Listener::Tls(server),
        Ok(Err(error)) => Listener::NoTls(format!("{error:#}")),
        Err(_) => Listener::NoTls(format!("it says nothing within {} s", LIMIT.as_secs())),
    }
}

async fn greet(tcp: TcpStream, host: &str, now: Timestamp) -> anyhow::Result<Tls> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| anyhow!("'{host}' is not the name of a server"))?;
    let connector = TlsConnector::from(Arc::new(client(now)?));
    let mut stream = connector.connect(name, tcp).await.context("no TLS handshake")?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
    let asked = tokio::time::Instant::now();
    let request = format!("GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let read = (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer).await;
        // Some servers end without saying so.
        match read {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    };
    let answer: std::io::Result<Vec<u8>> = exchange.await;
    let took = asked.elapsed();
    Ok(match answer {
        Ok(answer) => {
            let (date, version) = read(&answer);
            Tls {
                leaf,
                version,
                clock: date.map(|date| (date, took)),
            }
        }
        Err(error) => Tls {
            leaf,
            version: Err(error.to_string()),
            clock: None,
        },
    })
}

/// A client that believes any server, since it only looks, and shows a certificate that nobody knows, since most servers
/// insist on one.
fn client(now: Timestamp) -> anyhow::Result<ClientConfig> {
    let key = ApiKey::generate()?;
    let pem = certificate::of_api_key(
        &key,
        CertificateSubject {
            common_name: "kes doctor",
            dns: &[],
            ip: &[],
            from: now,
            validity: Duration::from_hours(1),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        },
    )?;
    let chain = kes_crypto::pem::certificates(pem.as_bytes())?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let der = key.private_key_pkcs8();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice().to_vec()));
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier = ServerTrust::dangerous_anything().into_verifier(&provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The date and the version in an answer to `/version`.
fn read(answer: &[u8]) -> (Option<Timestamp>, Result<String, String>) {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = name.eq_ignore_ascii_case("date").then(|| value.trim())?;
        Timestamp::parse(&value.replace("GMT", "+0000"), &Rfc2822).ok()
    });
    // The body is one small object, also when it comes in chunks.
    let object = body.find('{').and_then(|from| {
        let to = body.rfind('}')?;
        body.get(from..=to)
    });
    let version = object.and_then(|object| serde_json::from_str::<Version>(object).ok());
    match version {
        Some(Version { version }) if head.contains(" 200") => (date, Ok(version)),
        Some(_) | None => {
            let status = head.lines().next().unwrap_or_default().chars().take(60);
            (date, Err(format!("it answers '{}'", status.collect::<String>())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_version_and_a_date() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 21:00:00 GMT\r\n\r\n{\"version\":\"1.2.3\",\"commit\":\"c\"}";
        let (date, version) = read(answer);
        assert_eq!(version, Ok("1.2.3".to_owned()));
        assert_eq!(date.unwrap().unix_timestamp(), 1_795_294_800);
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"",
            b"\xff\xfe",
            b"SSH-2.0-x\r\n",
        ] {
            assert!(read(other).1.is_err());
        }
    }
}
