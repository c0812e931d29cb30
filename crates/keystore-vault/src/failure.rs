//! From what Vault says to what a key store says, with what an operator can do about it.

use std::fmt;

use kes_keystore::StoreError;
use kes_keystore_http::Failure;

use crate::api::{ApiError, Problem};
use crate::client::Failed;
use crate::session::{LoginError, LoginFailure};

/// What a failed request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To work on entries.
    Entries,
    /// To encrypt or decrypt.
    Transit,
    /// To learn how Vault is.
    Health,
}

/// Whose errors these are.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The store, as it is shown.
    pub(crate) store: String,
    /// The namespace, if it has one.
    pub(crate) namespace: Option<String>,
    /// The K/V engine, and which version of it is expected.
    pub(crate) engine: String,
    /// `v1` or `v2`.
    pub(crate) version: &'static str,
    /// The other one.
    pub(crate) other: &'static str,
}

/// An error with what to do about it, in one line.
#[derive(Debug)]
struct Advised {
    error: ApiError,
    advice: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.error, self.advice)
    }
}

impl std::error::Error for Advised {}

impl Origin {
    /// The error of a request that needs `capability` on its path.
    pub(crate) fn error(&self, failed: Failed, purpose: Purpose, capability: &'static str) -> StoreError {
        match failed {
            Failed::Login(error) => self.login(error),
            Failed::Api(error) => self.api(error, purpose, capability),
        }
    }

    fn login(&self, error: LoginError) -> StoreError {
        let store = self.store.clone();
        match error.kind() {
            LoginFailure::Refused => StoreError::AuthFailed {
                store,
                source: Box::new(error),
            },
            LoginFailure::Unavailable => StoreError::Unreachable {
                store,
                source: Box::new(error),
            },
            LoginFailure::Sealed => StoreError::Sealed { store },
        }
    }

    fn api(&self, error: ApiError, purpose: Purpose, capability: &'static str) -> StoreError {
        let store = self.store.clone();
        match &error.problem {
            Problem::Sealed => StoreError::Sealed { store },
            Problem::Throttled { retry_after } => StoreError::Throttled {
                store,
                retry_after: *retry_after,
            },
            Problem::Denied { .. } if purpose == Purpose::Health => {
                let advice =
                    "whatever is in front of Vault must let this program ask for its health".to_owned();
                self.advised(error, advice)
            }
            Problem::Denied { says } => StoreError::Denied {
                store,
                hint: self.missing(error.path(), says, purpose, capability),
            },
            Problem::NoAnswer(sent) => match sent.failure() {
                Failure::TooLarge => self.backend(error),
                Failure::Dns
                | Failure::Connect
                | Failure::Tls
                | Failure::Timeout
                | Failure::Closed
                | Failure::Protocol => self.unreachable(error),
            },
            Problem::OutOfTime
            | Problem::NotInitialised
            | Problem::NotActive { .. }
            | Problem::Unavailable { .. } => self.unreachable(error),
            Problem::Failed { status, .. } if matches!(status.as_u16(), 502 | 504) => self.unreachable(error),
            Problem::NoSuchPath { says } => {
                let advice = self.no_such_path(says, purpose);
                self.advised(error, advice)
            }
            Problem::Redirect(_) => {
                let advice = "keystore.vault.endpoint must be the address of Vault itself".to_owned();
                self.advised(error, advice)
            }
            Problem::Failed { .. }
            | Problem::Behind
            | Problem::Absent
            | Problem::Hidden { .. }
            | Problem::Refused { .. }
            | Problem::Unexpected { .. }
            | Problem::BadAnswer(_) => self.backend(error),
        }
    }

    fn missing(&self, path: &str, says: &str, purpose: Purpose, capability: &'static str) -> String {
        let slash = if capability == LIST { "/" } else { "" };
        let mut hint = format!("the policy needs \"{capability}\" on {path}{slash}");
        if let Some(namespace) = &self.namespace {
            hint += &format!(" in the namespace {namespace}");
        }
        if purpose == Purpose::Transit {
            hint += ", and the key must exist";
        }
        // Usually it says nothing else.
        if !says.is_empty() && !says.contains("permission denied") {
            hint += &format!(" (Vault says: {says})");
        }
        hint
    }

    fn no_such_path(&self, says: &str, purpose: Purpose) -> String {
        let Self {
            store: _,
            namespace,
            engine,
            version,
            other,
        } = self;
        let place = match namespace {
            Some(namespace) => format!("in the namespace {namespace} (keystore.vault.namespace)"),
            None => "without a namespace, as keystore.vault.namespace is not set".to_owned(),
        };
        match purpose {
            Purpose::Transit => {
                format!("a transit engine must be mounted at keystore.vault.transit.engine {place}")
            }
            Purpose::Health => "keystore.vault.endpoint must be the address of Vault itself".to_owned(),
            Purpose::Entries if says.contains("versioned") && *version == "v1" => {
                format!("{engine} is a K/V {other} engine, but keystore.vault.version is {version}")
            }
            Purpose::Entries => {
                format!(
                    "a K/V engine of version {version} must be mounted at {engine} (keystore.vault.engine) {place}"
                )
            }
        }
    }

    /// An error with what to do about it.
    pub(crate) fn advised(&self, error: ApiError, advice: String) -> StoreError {
        StoreError::Backend {
            store: self.store.clone(),
            source: Box::new(Advised { error, advice }),
        }
    }

    fn backend(&self, error: ApiError) -> StoreError {
        StoreError::Backend {
            store: self.store.clone(),
            source: Box::new(error),
        }
    }

    fn unreachable(&self, error: ApiError) -> StoreError {
        StoreError::Unreachable {
            store: self.store.clone(),
            source: Box::new(error),
        }
    }
}

/// The capability to list, which policies give on the folder, with its slash.
pub(crate) const LIST: &str = "list";
