//! The HTTP client of the SDK: ours, with its bounds and its way to believe servers, the same as other key stores have.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use kes_crypto::SecretBytes;
use kes_keystore_http::{BadHttp, Failure, Http, HttpSettings, LIST_LIMIT, Proxies, Request, SendError, Url};
use kes_tls::{BadTrust, ServerTrust};
use zeroize::Zeroizing;

/// What the SDK sends requests with.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    /// To services, through the proxies of the environment.
    to_services: Http,
    /// To what gives out credentials on this machine or next to it. A proxy would be another machine, with other credentials.
    nearby: Http,
    attempt: Duration,
}

/// Why there is nothing to send requests with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTransport {
    #[error(transparent)]
    Trust(#[from] BadTrust),
    #[error(transparent)]
    Http(#[from] BadHttp),
}

impl Transport {
    /// Believes the servers that `ca` proves, or without it those that this system believes.
    pub(crate) fn new(ca: Option<&Path>, attempt: Duration) -> Result<Self, BadTransport> {
        let http = |proxies| -> Result<Http, BadTransport> {
            Ok(Http::new(HttpSettings {
                trust: ServerTrust::of_key_store(ca)?,
                identity: None,
                keep_alive: true,
                connect_timeout: attempt,
                proxies,
                tls_settings: "keystore.aws.secretsmanager.tls",
            })?)
        };
        Ok(Self {
            to_services: http(Proxies::Environment)?,
            nearby: http(Proxies::Direct)?,
            attempt,
        })
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // The SDK has a time for the connection and one for the wait after it; here they are one.
        let timeout = match (settings.connect_timeout(), settings.read_timeout()) {
            (Some(connect), Some(read)) => self.attempt.min(connect.saturating_add(read)),
            (Some(_), None) | (None, Some(_) | None) => self.attempt,
        };
        SharedHttpConnector::new(Connector {
            transport: self.clone(),
            timeout,
        })
    }
}

#[derive(Debug)]
struct Connector {
    transport: Transport,
    timeout: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let timeout = self.timeout;
        let request = match outgoing(request) {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let http = if request.nearby {
            &self.transport.nearby
        } else {
            &self.transport.to_services
        };
        let http = http.clone();
        HttpConnectorFuture::new(async move {
            let answer = http
                .send(request.request, timeout)
                .await
                .map_err(in_terms_of_the_sdk)?;
            let mut response = HttpResponse::new(answer.status.into(), incoming(answer.body));
            for (name, value) in &answer.headers {
                // What is not text is no header that the SDK reads.
                if let Ok(value) = value.to_str() {
                    response
                        .headers_mut()
                        .append(name.as_str().to_owned(), value.to_owned());
                }
            }
            Ok(response)
        })
    }
}

struct Outgoing {
    request: Request,
    nearby: bool,
}

/// Why the SDK's request cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be sent: {0}")]
struct Unsendable(&'static str);

fn outgoing(request: HttpRequest) -> Result<Outgoing, Unsendable> {
    let request = request
        .try_into_http1x()
        .map_err(|_| Unsendable("it is not HTTP"))?;
    let (parts, body) = request.into_parts();
    let url = Url::parse(&parts.uri.to_string()).map_err(|_| Unsendable("its address is not a URL"))?;
    let nearby = is_nearby(&url);
    let mut request = Request::new(parts.method, url);
    if is_list(&parts.headers) {
        request = request.answer_limit(LIST_LIMIT);
    }
    let body = body.bytes().ok_or(Unsendable("its body is a stream"))?;
    if !body.is_empty() {
        request = request.body("application/x-amz-json-1.1", Zeroizing::new(body.to_vec()));
    }
    for (name, mut value) in parts.headers.iter().map(|(name, value)| (name, value.clone())) {
        if SECRET_HEADERS.contains(&name.as_str()) {
            value.set_sensitive(true);
        }
        request = request.header(name.clone(), value);
    }
    Ok(Outgoing { request, nearby })
}

/// In memory that is cleared when the SDK is done with it.
fn incoming(body: SecretBytes) -> SdkBody {
    struct Owner(SecretBytes);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose_secret()
        }
    }
    SdkBody::from(Bytes::from_owner(Owner(body)))
}

/// The SDK tells time-outs and broken connections from the rest; what it was in our terms stays as the source.
fn in_terms_of_the_sdk(error: SendError) -> ConnectorError {
    match error.failure() {
        Failure::Timeout => ConnectorError::timeout(error.into()),
        Failure::Dns | Failure::Connect | Failure::Closed => ConnectorError::io(error.into()),
        Failure::Tls | Failure::TooLarge | Failure::Protocol => ConnectorError::other(error.into(), None),
    }
}

fn is_list(headers: &http::HeaderMap) -> bool {
    headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .is_some_and(|target| target.ends_with(".ListSecrets"))
}

/// Whether it is on this machine or, like the services that tell a machine its credentials, next to it.
fn is_nearby(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || METADATA_V6.contains(&ip.to_string().as_str()),
        Err(_) => host == "localhost",
    }
}

/// Of instances and of containers.
const METADATA_V6: [&str; 2] = ["fd00:ec2::254", "fd00:ec2::23"];

/// What must not appear even where headers are shown.
const SECRET_HEADERS: [&str; 3] = [
    "authorization",
    "x-amz-security-token",
    "x-aws-ec2-metadata-token",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_out_credentials_is_never_asked_through_a_proxy() {
        for (url, nearby) in [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.2/v2/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:5055/", true),
            ("http://localhost:5055/", true),
            ("https://sts.us-east-2.amazonaws.com/", false),
            ("https://10.0.0.1/", false),
        ] {
            assert_eq!(is_nearby(&Url::parse(url).unwrap()), nearby, "{url}");
        }
    }
}
