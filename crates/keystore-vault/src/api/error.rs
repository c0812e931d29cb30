//! Why a request has not succeeded.

use std::fmt;
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore_http::{Again, Failure, Method, SendError, StatusCode};

use super::Call;

/// A request that has not succeeded. Its `Display` is one line that names the request and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path}: {problem}")]
pub(crate) struct ApiError {
    method: Method,
    path: String,
    /// What is wrong.
    pub(crate) problem: Problem,
}

/// What is wrong with a request or its answer. `says` is what the server says about it, in one line.
pub(crate) enum Problem {
    /// There was no whole answer.
    NoAnswer(SendError),
    /// There was no time left to ask.
    OutOfTime,
    /// The server is sealed.
    Sealed,
    /// The server has never been initialised.
    NotInitialised,
    /// This node does not take requests.
    NotActive {
        /// 472 or 473.
        status: StatusCode,
    },
    /// The server, or what is in front of it, takes no requests now.
    Unavailable {
        /// How long it asks to wait, if it says so.
        retry_after: Option<Duration>,
        /// What it says.
        says: String,
    },
    /// Too many requests.
    Throttled {
        /// How long it asks to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// This node has not yet learnt what it needs to know for an answer.
    Behind,
    /// The token is not good for this: it has ended, or its policies do not permit it.
    Denied {
        /// What it says.
        says: String,
    },
    /// There is nothing at this path.
    Absent,
    /// There is something at this path that is deleted or destroyed.
    Hidden {
        /// What is said about it.
        body: SecretBytes,
    },
    /// There is no such path, in this namespace.
    NoSuchPath {
        /// What it says.
        says: String,
    },
    /// The request is not acceptable.
    Refused {
        /// What it says.
        says: String,
    },
    /// The server failed.
    Failed {
        /// 5xx.
        status: StatusCode,
        /// What it says.
        says: String,
    },
    /// A redirect that is not followed.
    Redirect(&'static str),
    /// A status that has no meaning here.
    Unexpected {
        /// The status.
        status: StatusCode,
        /// What it says.
        says: String,
    },
    /// An answer to something else than what was asked, or of somebody else than Vault.
    BadAnswer(&'static str),
}

impl ApiError {
    pub(crate) fn new(call: &Call<'_>, problem: Problem) -> Self {
        Self {
            method: call.method.clone(),
            path: call.path.to_string(),
            problem,
        }
    }

    /// Another problem of the same request.
    pub(crate) fn with(&self, problem: Problem) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            problem,
        }
    }

    /// Whether the request may have been carried out although it has not succeeded.
    pub(crate) fn may_have_happened(&self) -> bool {
        match &self.problem {
            Problem::NoAnswer(error) => error.may_have_arrived(),
            Problem::Failed { .. }
            | Problem::Unavailable { .. }
            | Problem::Unexpected { .. }
            | Problem::BadAnswer(_) => true,
            Problem::OutOfTime
            | Problem::Sealed
            | Problem::NotInitialised
            | Problem::NotActive { .. }
            | Problem::Throttled { .. }
            | Problem::Behind
            | Problem::Denied { .. }
            | Problem::Absent
            | Problem::Hidden { .. }
            | Problem::NoSuchPath { .. }
            | Problem::Refused { .. }
            | Problem::Redirect(_) => false,
        }
    }

    /// Whether the same request may succeed in a moment.
    fn is_transient(&self) -> bool {
        match &self.problem {
            Problem::NoAnswer(error) => match error.failure() {
                Failure::Dns | Failure::Connect | Failure::Timeout | Failure::Closed => true,
                Failure::Tls | Failure::TooLarge | Failure::Protocol => false,
            },
            Problem::Sealed
            | Problem::NotActive { .. }
            | Problem::Unavailable { .. }
            | Problem::Throttled { .. }
            | Problem::Behind
            | Problem::Failed { .. } => true,
            Problem::OutOfTime
            | Problem::NotInitialised
            | Problem::Denied { .. }
            | Problem::Absent
            | Problem::Hidden { .. }
            | Problem::NoSuchPath { .. }
            | Problem::Refused { .. }
            | Problem::Redirect(_)
            | Problem::Unexpected { .. }
            | Problem::BadAnswer(_) => false,
        }
    }

    /// Whether the server has answered for good: neither a failure that may pass, nor none at all.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(
            self.problem,
            Problem::Denied { .. }
                | Problem::Absent
                | Problem::Hidden { .. }
                | Problem::NoSuchPath { .. }
                | Problem::Refused { .. }
                | Problem::Unexpected { .. }
        )
    }

    /// Whether there was too little time.
    pub(crate) fn is_timeout(&self) -> bool {
        match &self.problem {
            Problem::NoAnswer(error) => error.failure() == Failure::Timeout,
            problem => matches!(problem, Problem::OutOfTime),
        }
    }

    /// Whether and when to try again what does no harm when it is done twice.
    pub(crate) fn again(&self) -> Again {
        match &self.problem {
            Problem::Unavailable { retry_after, .. } | Problem::Throttled { retry_after } => {
                retry_after.map_or(Again::Wait, Again::After)
            }
            _ if self.is_transient() => Again::Wait,
            _ => Again::Stop,
        }
    }

    /// The path that was asked for, as policies write it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(error) => write!(f, "{error}"),
            Self::OutOfTime => f.write_str("no time was left to ask"),
            Self::Sealed => f.write_str("Vault is sealed"),
            Self::NotInitialised => f.write_str("Vault is not initialised"),
            Self::NotActive { status } => write!(
                f,
                "status {}: this node is a disaster recovery or performance standby and takes no requests; the endpoint must lead to an active one",
                status.as_u16()
            ),
            Self::Unavailable { says, .. } => {
                f.write_str("the service is not available now")?;
                quote(f, says)
            }
            Self::Throttled { .. } => f.write_str("status 429: too many requests"),
            Self::Behind => f.write_str("status 412: this node does not have the latest state yet"),
            Self::Denied { says } => {
                f.write_str("status 403")?;
                quote(f, says)
            }
            Self::Absent => f.write_str("status 404: there is nothing"),
            Self::Hidden { .. } => f.write_str("status 404: it is deleted or destroyed"),
            Self::NoSuchPath { says } => {
                f.write_str("status 404: there is no such path")?;
                quote(f, says)
            }
            Self::Refused { says } => {
                f.write_str("status 400")?;
                quote(f, says)
            }
            Self::Failed { status, says } | Self::Unexpected { status, says } => {
                write!(f, "status {}", status.as_u16())?;
                quote(f, says)
            }
            Self::Redirect(problem) => write!(f, "a redirect {problem}"),
            Self::BadAnswer(what) => write!(f, "{what}"),
        }
    }
}

/// Entries that are hidden are not shown either.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::NoAnswer(_) => "NoAnswer",
            Self::OutOfTime => "OutOfTime",
            Self::Sealed => "Sealed",
            Self::NotInitialised => "NotInitialised",
            Self::NotActive { .. } => "NotActive",
            Self::Unavailable { .. } => "Unavailable",
            Self::Throttled { .. } => "Throttled",
            Self::Behind => "Behind",
            Self::Denied { .. } => "Denied",
            Self::Absent => "Absent",
            Self::Hidden { .. } => "Hidden",
            Self::NoSuchPath { .. } => "NoSuchPath",
            Self::Refused { .. } => "Refused",
            Self::Failed { .. } => "Failed",
            Self::Redirect(_) => "Redirect",
            Self::Unexpected { .. } => "Unexpected",
            Self::BadAnswer(_) => "BadAnswer",
        };
        write!(f, "{name}({self})")
    }
}

fn quote(f: &mut fmt::Formatter<'_>, says: &str) -> fmt::Result {
    if says.is_empty() {
        Ok(())
    } else {
        write!(f, ": {says}")
    }
}
