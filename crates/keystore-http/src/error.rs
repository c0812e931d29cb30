//! Why there is no answer.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use rustls::{AlertDescription, CertificateError};

/// What kept a request from being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host's name has no address.
    Dns,
    /// No connection: refused, unreachable, or a proxy does not make it.
    Connect,
    /// A connection, but the server cannot be believed, or does not believe us.
    Tls,
    /// It took too long.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// The answer is longer than allowed.
    TooLarge,
    /// The answer is not HTTP, or the request cannot be sent.
    Protocol,
}

/// Why there is no answer. In one line: the server, the cause, and what to do where that is known. It holds no part of the
/// URL but the host, and nothing of the request or the answer. There is no source, since what an HTTP library says may
/// quote the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    failure: Failure,
    may_have_arrived: bool,
    /// In one piece, since the errors of others hold this one.
    text: Box<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    host: String,
    cause: String,
    remedy: Option<String>,
}

/// What an error is told with.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    /// Host and port of the server.
    pub(crate) host: String,
    /// Whether it is asked without TLS.
    pub(crate) is_plain: bool,
    /// Host and port of the proxy in between.
    pub(crate) proxy: Option<String>,
    /// How long a connection may take.
    pub(crate) connect_timeout: Duration,
    /// How TLS is set up.
    pub(crate) tls: &'a TlsPlace,
}

/// How TLS is set up.
#[derive(Clone, Debug)]
pub(crate) struct TlsPlace {
    /// The name of its settings.
    pub(crate) settings: &'static str,
    /// Where the trusted certificates are, if not those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Whether we have a certificate.
    pub(crate) has_identity: bool,
}

impl SendError {
    /// What kept the request from being answered.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        self.failure
    }

    /// Whether the service may have received the request, and done what it asks for. `false` is certain.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        self.may_have_arrived
    }

    /// The whole time was over: for an attempt that was not even begun if `spent` is zero.
    pub(crate) fn timeout(place: Place<'_>, spent: Duration) -> Self {
        let cause = if spent.is_zero() {
            "no time was left for a request".to_owned()
        } else {
            // Not to the nanosecond, as the rest of some longer time has it.
            let spent = spent.as_micros().div_ceil(1000);
            let spent = Duration::from_millis(u64::try_from(spent).unwrap_or(u64::MAX));
            format!("no answer within {spent:?}{}", place.through_proxy())
        };
        Self::new(Failure::Timeout, !spent.is_zero(), place, cause, None)
    }

    pub(crate) fn too_large(place: Place<'_>, limit: usize) -> Self {
        let cause = format!("the answer is longer than {limit} bytes");
        Self::new(Failure::TooLarge, true, place, cause, None)
    }

    /// What the HTTP library says, while the request was sent or the answer was read.
    pub(crate) fn of(error: &reqwest::Error, place: Place<'_>) -> Self {
        let mut told = Told::default();
        told.read(error);

        let (failure, may_have_arrived, cause, remedy) = if let Some(tls) = told.tls {
            let (refused, cause, remedy) = explain(tls, place.tls);
            (Failure::Tls, !refused && !error.is_connect(), cause, remedy)
        } else if error.is_builder() {
            (Failure::Protocol, false, told.last, None)
        } else if error.is_connect() {
            let (failure, cause) = if error.is_dns() {
                (Failure::Dns, told.last)
            } else if error.is_timeout() {
                let cause = format!("no connection within {:?}", place.connect_timeout);
                (Failure::Timeout, cause)
            } else {
                (Failure::Connect, format!("cannot connect: {}", told.last))
            };
            (failure, false, cause + &place.through_proxy(), None)
        } else if told.is_parse {
            let cause = format!("the answer is not HTTP: {}", told.last);
            let remedy = "if it speaks TLS, its address begins with https://";
            let remedy = place.is_plain.then(|| remedy.to_owned());
            (Failure::Protocol, true, cause, remedy)
        } else {
            let cause = format!("the connection ended before the answer did: {}", told.last);
            (Failure::Closed, true, cause + &place.through_proxy(), None)
        };
        Self::new(failure, may_have_arrived, place, cause, remedy)
    }

    fn new(
        failure: Failure,
        may_have_arrived: bool,
        place: Place<'_>,
        cause: String,
        remedy: Option<String>,
    ) -> Self {
        Self {
            failure,
            may_have_arrived,
            text: Box::new(Text {
                host: place.host,
                cause,
                remedy,
            }),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text { host, cause, remedy } = &*self.text;
        write!(f, "{host}: {cause}")?;
        if let Some(remedy) = remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl StdError for SendError {}

impl Place<'_> {
    fn through_proxy(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!(" (through the proxy {proxy})"),
            None => String::new(),
        }
    }
}

/// What a chain of errors tells.
#[derive(Default)]
struct Told<'a> {
    /// The innermost error, which knows best. The outer ones name the request.
    last: String,
    tls: Option<&'a rustls::Error>,
    is_parse: bool,
}

impl<'a> Told<'a> {
    fn read(&mut self, error: &'a (dyn StdError + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.tls = self.tls.or(error.downcast_ref());
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                self.is_parse |= error.is_parse();
            }
            // Its own text names the URL.
            if !error.is::<reqwest::Error>() {
                self.last = error.to_string();
            }
            // An I/O error hides what it wraps from `source`.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
    }
}

/// Whether the server has refused us before it read the request; what has happened; what to do.
fn explain(error: &rustls::Error, tls: &TlsPlace) -> (bool, String, Option<String>) {
    let TlsPlace {
        settings,
        ca,
        has_identity,
    } = tls;
    let (cause, remedy) = match error {
        rustls::Error::InvalidCertificate(why) => {
            let (cause, remedy) = distrust(why, settings, ca.as_ref());
            return (true, cause, remedy);
        }
        rustls::Error::AlertReceived(alert) if is_about_certificate(*alert) => {
            let remedy = if *has_identity {
                format!("{settings}.cert and {settings}.key have to be what the server accepts")
            } else {
                format!("if it wants a client certificate, set {settings}.cert and {settings}.key")
            };
            let cause = format!("the server refuses the TLS connection ({alert:?})");
            return (true, cause, Some(remedy));
        }
        rustls::Error::InvalidMessage(_) => (
            "the server does not speak TLS".to_owned(),
            Some("if it is meant to be without encryption, its address begins with http://".to_owned()),
        ),
        other => (format!("TLS failed: {other}"), None),
    };
    (false, cause, remedy)
}

/// Why the server's certificate is not believed, and what to do.
fn distrust(why: &CertificateError, settings: &str, ca: Option<&PathBuf>) -> (String, Option<String>) {
    let those = match ca {
        Some(ca) => format!("'{}'", ca.display()),
        None => "the certificates that this system trusts".to_owned(),
    };
    let trust_issuer = match ca {
        Some(_) => format!("add the certificate of its issuer to {settings}.ca"),
        None => format!("set {settings}.ca to a file with the certificate of its issuer"),
    };
    let (cause, remedy) = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            format!("the server's certificate was issued by none of {those}"),
            Some(trust_issuer),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("the server's certificate is for another name: {why}"),
            Some(
                "use one of its names in the address, or give the server a certificate for this one"
                    .to_owned(),
            ),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            format!("the server's certificate has expired: {why}"),
            Some("renew it, or set this machine's clock right".to_owned()),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("the server's certificate is not valid yet: {why}"),
            Some("set this machine's clock right".to_owned()),
        ),
        other => (
            format!("the server's certificate is not acceptable: {other}"),
            Some(format!(
                "if it is the right one nevertheless, put that very certificate into {settings}.ca"
            )),
        ),
    };
    (cause, remedy)
}

/// Whether a server sends this when it does not like whom it talks to, which it does before it reads a request.
const fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}
