//! Why a request has failed.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use crate::Endpoint;

/// Why a request has failed.
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
    /// The answer broke off before its end.
    #[error("the answer of the server at {endpoint} is incomplete")]
    Incomplete {
        /// The server.
        endpoint: Endpoint,
        /// What happened to it.
        source: Cause,
    },
    /// The answer is longer than any that the API defines.
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
    /// What was asked cannot be put into an HTTP request.
    #[error("invalid request: {0}")]
    BadRequest(#[from] http::Error),
}

impl Error {
    /// The HTTP status, when the server answered.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether another server may do better.
    pub(crate) const fn is_worth_another_server(&self) -> bool {
        match self {
            Self::Api { status, .. } => *status >= 500,
            Self::BadCertificate { .. }
            | Self::Refused { .. }
            | Self::Transport { .. }
            | Self::TimedOut { .. } => true,
            Self::Incomplete { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::BadRequest(_) => false,
        }
    }

    /// An answer of `endpoint` that broke off.
    pub(crate) fn incomplete(endpoint: &Endpoint, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Incomplete {
            endpoint: endpoint.clone(),
            source: Cause(cause.into()),
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
#[derive(Debug)]
pub struct Cause(Box<dyn StdError + Send + Sync>);

impl Cause {
    /// The whole chain of causes.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + 'static) {
        &*self.0
    }

    fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(Some(self.get_ref()), |&error| cause_of(error))
    }

    fn tls_error(&self) -> Option<&rustls::Error> {
        self.chain().find_map(|error| error.downcast_ref())
    }
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
        self.chain()
            .last()
            .map_or(Ok(()), |root| fmt::Display::fmt(root, f))
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
