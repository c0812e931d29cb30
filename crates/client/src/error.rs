//! Why a request has failed.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use crate::Endpoint;
use crate::connect::BehindProxy;

/// Why a request has failed. None of its texts holds what was sent or received but for the message of a refusal.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// use kes_client::Error;
///
/// match client.create_key("my-key").await {
///     Ok(()) => {}
///     Err(Error::Api { status: 400, message }) if message == "key already exists" => {}
///     Err(error) => {
///         if let Some(remedy) = error.remedy() {
///             eprintln!("{error}: {remedy}");
///         }
///         return Err(error);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered that it does not do this.
    #[error("{message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// What the server says, or the status in words where it says nothing.
        message: String,
    },
    /// The server has too much to do, and says when to ask again: the status 429, or 503 with `Retry-After`.
    #[error("{message}")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// What the server says, or the status in words where it says nothing.
        message: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The server's certificate is not trusted, not valid now, or made for another name.
    #[error("cannot trust the server at {endpoint}: {reason}")]
    BadCertificate {
        /// The server.
        endpoint: Endpoint,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The server broke off the TLS connection, as it does when the client certificate does not suit it.
    #[error("the server at {endpoint} refuses the connection: {reason}")]
    Refused {
        /// The server.
        endpoint: Endpoint,
        /// The TLS alert.
        reason: String,
    },
    /// The connection could not be made, or broke.
    #[error("cannot reach the server at {endpoint}")]
    Transport {
        /// The server.
        endpoint: Endpoint,
        /// What happened to the connection.
        source: Cause,
    },
    /// The server did not answer in time.
    #[error("the server at {endpoint} did not answer within {after:?}")]
    TimedOut {
        /// The server.
        endpoint: Endpoint,
        /// How long it had.
        after: Duration,
    },
    /// No server answered within the time that there was for all attempts together.
    #[error("no server answered within {after:?}")]
    DeadlineExceeded {
        /// How long there was.
        after: Duration,
        /// What the last attempt came to, if there was one that ended.
        #[source]
        last: Option<Box<Self>>,
    },
    /// The request may have been carried out or not: the answer to it did not arrive, and repeating it blindly could do harm.
    /// Only of what creates, imports, deletes or brings back a key.
    #[error("it is not known whether the request was carried out")]
    OutcomeUnknown {
        /// Why there is no answer.
        source: Box<Self>,
    },
    /// The answer broke off before its end.
    #[error("the answer of the server at {endpoint} is incomplete")]
    Incomplete {
        /// The server.
        endpoint: Endpoint,
        /// What happened to it.
        source: Cause,
    },
    /// The answer, or one event of a log, is longer than any that the API defines.
    #[error("the answer of the server is longer than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// The answer is not what the API defines.
    #[error("the answer of the server is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked cannot be put into a request, and nothing was sent.
    #[error("invalid request: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The HTTP status, when the server answered.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) {
    /// if let Err(error) = client.describe_key("my-key").await {
    ///     assert_eq!(error.status(), Some(404));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } | Self::Busy { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What a person can do about it, where there is something to do.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) {
    /// if let Err(error) = client.create_key("my-key").await {
    ///     eprintln!("{error}. {}", error.remedy().unwrap_or_default());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Api {
                status: 401 | 403, ..
            } => "let a policy of the server allow this path to the client's identity",
            Self::Api { status: 500.., .. } => "look into the server's error log, and at its key store",
            Self::Busy { .. } => "ask again later, or let more servers share the load",
            Self::BadCertificate { .. } => {
                "trust the authority of the server's certificate, or give the server one for this name"
            }
            Self::Refused { .. } => "use credentials whose certificate the server accepts",
            Self::Transport { .. } => "check that the server runs, its host and port, and what is between",
            Self::TimedOut { .. } | Self::DeadlineExceeded { .. } => {
                "check that the server and its key store work, or give them more time"
            }
            Self::OutcomeUnknown { .. } => "look whether the key exists before the request is repeated",
            Self::Incomplete { .. } => "ask again",
            Self::TooLarge { .. } | Self::Malformed { .. } => {
                "check that a KES server listens at this host and port, and not something else"
            }
            Self::Api { .. } | Self::InvalidRequest { .. } => return None,
        })
    }

    /// An answer of `endpoint` that broke off.
    pub(crate) fn incomplete(endpoint: &Endpoint, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Incomplete {
            endpoint: endpoint.clone(),
            source: Cause(cause.into()),
        }
    }

    /// Says where JSON is wrong, but not what stands there.
    pub(crate) fn malformed_json(error: &serde_json::Error) -> Self {
        Self::malformed(format!(
            "{:?} error in JSON at column {}",
            error.classify(),
            error.column()
        ))
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed {
            reason: reason.into(),
        }
    }

    /// Sorts what went wrong with the connection to `endpoint`.
    pub(crate) fn from_connection(
        endpoint: &Endpoint,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let endpoint = endpoint.clone();
        let source = Cause(cause.into());
        match source.tls_error() {
            Some(rustls::Error::InvalidCertificate(error)) => Self::BadCertificate {
                endpoint,
                reason: certificate_problem(error),
            },
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused {
                endpoint,
                reason: format!("TLS alert {alert:?}"),
            },
            Some(_) | None => Self::Transport { endpoint, source },
        }
    }

    /// Whether the server, before it read any request, has broken off the connection over the client's certificate. Other alerts
    /// may come at any time.
    pub(crate) fn is_refused_certificate(cause: &(dyn StdError + 'static)) -> bool {
        use rustls::AlertDescription as Alert;
        let alert = chain_of(cause).find_map(|error| match error.downcast_ref() {
            Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        });
        matches!(
            alert,
            Some(
                Alert::NoCertificate
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::CertificateRequired
                    | Alert::UnknownCA
                    | Alert::AccessDenied
            )
        )
    }
}

fn certificate_problem(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer,
        UnsupportedSignatureAlgorithmContext, UnsupportedSignatureAlgorithmForPublicKeyContext,
    };
    match error {
        // The signature fails when an authority of the same name is known, such as another `localhost`.
        UnknownIssuer
        | BadSignature
        | UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is not signed by a known authority".to_owned()
        }
        Expired | ExpiredContext { .. } => "its certificate has expired".to_owned(),
        NotValidYet | NotValidYetContext { .. } => "its certificate is not valid yet".to_owned(),
        other => format!("its certificate is not acceptable: {other}"),
    }
}

/// What broke a connection. Prints as its root cause, since the layers above it only say that there was a connection.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) {
/// if let Err(kes_client::Error::Transport { source, .. }) = client.ready().await {
///     eprintln!("{source}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Cause(Box<dyn StdError + Send + Sync>);

impl Cause {
    /// The whole chain of causes.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) {
    /// if let Err(kes_client::Error::Transport { source, .. }) = client.ready().await {
    ///     eprintln!("{:?}", source.get_ref());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + 'static) {
        &*self.0
    }

    fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        chain_of(self.get_ref())
    }

    fn tls_error(&self) -> Option<&rustls::Error> {
        self.chain().find_map(|error| error.downcast_ref())
    }
}

fn chain_of<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| cause_of(error))
}

fn cause_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    // `source` of an I/O error skips the error it was made of.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(root) = self.chain().last() {
            write!(f, "{root}")?;
        }
        // Without it, everybody looks for the fault at the server.
        let mut behind = self
            .chain()
            .filter_map(|error| error.downcast_ref::<BehindProxy>());
        behind.next().map_or(Ok(()), |proxy| write!(f, ", {proxy}"))
    }
}

impl StdError for Cause {}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::parse("kes:7373").unwrap()
    }

    #[test]
    fn a_tls_error_is_found_below_io_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let error = Error::from_connection(&endpoint(), nested);
        assert!(matches!(error, Error::BadCertificate { .. }), "{error:?}");

        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let error = Error::from_connection(&endpoint(), io::Error::other(alert));
        assert_eq!(
            error.to_string(),
            "the server at kes:7373 refuses the connection: TLS alert CertificateRequired"
        );
    }

    #[test]
    fn a_broken_connection_names_its_root_cause() {
        let error = Error::from_connection(&endpoint(), io::Error::other(io::Error::other("refused")));
        assert_eq!(error.to_string(), "cannot reach the server at kes:7373");
        assert_eq!(error.source().unwrap().to_string(), "refused");
    }
}
