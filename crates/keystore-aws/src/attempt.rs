//! One call of the service: its attempts, the waits between them, and their end.

use std::error::Error;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretOutput;
use aws_sdk_secretsmanager::operation::delete_secret::DeleteSecretOutput;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_sdk_secretsmanager::operation::list_secrets::ListSecretsOutput;
use kes_keystore::Patience;
use kes_keystore_http::{Again, Deadline, Retry, random_fraction};
use tokio::time::{timeout, timeout_at};

use crate::credentials::CredentialSource;
use crate::failure::{Failure, Kind};

/// The service, and what it takes to ask it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) client: Client,
    pub(crate) credentials: CredentialSource,
    pub(crate) patience: Patience,
}

impl Service {
    /// The attempts of an operation that begins now.
    pub(crate) fn attempts(&self) -> Attempts<'_> {
        self.attempts_until(Deadline::of(&self.patience))
    }

    /// More attempts of an operation that has begun.
    pub(crate) fn attempts_until(&self, deadline: Deadline) -> Attempts<'_> {
        Attempts {
            service: self,
            deadline,
            retry: Retry::new(&self.patience),
            signed_with: 0,
            renewed: false,
        }
    }
}

/// The attempts at one call. The SDK makes none by itself: what happens between two, and whether there is a second, depends
/// on the operation.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    service: &'a Service,
    deadline: Deadline,
    retry: Retry,
    /// The number of the credentials of the last attempt.
    signed_with: u64,
    /// Whether new credentials were asked for already.
    renewed: bool,
}

impl Attempts<'_> {
    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// One attempt. `secret` is what a message of the service must not quote, besides the credentials.
    pub(crate) async fn once<T, E>(
        &mut self,
        secret: &str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        T: Complete,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Ok(current) = timeout_at(self.deadline.end(), self.service.credentials.current()).await else {
            return Err(self.too_late("no AWS credentials"));
        };
        let current = current.map_err(|error| Failure::without_credentials(&error))?;
        self.signed_with = current.number;

        let longest = self.deadline.attempt();
        if longest.is_zero() {
            return Err(self.too_late("no answer"));
        }
        match timeout(longest, request).await {
            Ok(Ok(answer)) if answer.is_complete() => Ok(answer),
            Ok(Ok(_)) => Err(Failure::incomplete()),
            Ok(Err(error)) => {
                let credentials = &current.credentials;
                let secrets = [
                    secret,
                    credentials.secret_access_key(),
                    credentials.session_token().unwrap_or_default(),
                ];
                Err(Failure::of(&error, &secrets))
            }
            Err(_) => Err(Failure::unanswered(format!("no answer within {longest:?}"))),
        }
    }

    /// Whether to try again after `failure`, and if so, after having waited.
    pub(crate) async fn again(&mut self, failure: &Failure) -> bool {
        match failure.kind {
            Kind::Outdated => {
                let other = !self.renewed
                    && timeout_at(
                        self.deadline.end(),
                        self.service.credentials.renewed(self.signed_with),
                    )
                    .await
                    .unwrap_or(false);
                self.renewed = true;
                other
            }
            Kind::Throttled { retry_after } | Kind::Unavailable { retry_after, .. } => {
                let again = retry_after.map_or(Again::Wait, Again::After);
                self.retry.pause(&self.deadline, again).await
            }
            Kind::Exists
            | Kind::NotFound
            | Kind::Scheduled
            | Kind::AuthFailed
            | Kind::Denied
            | Kind::Kms(_)
            | Kind::Another
            | Kind::Other => false,
        }
    }

    /// Runs `request` until it succeeds, or fails in a way that another attempt would not change.
    pub(crate) async fn run<T, E, F>(&mut self, request: impl Fn() -> F) -> Result<T, Failure>
    where
        T: Complete,
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        loop {
            match self.once("", request()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if !self.again(&failure).await {
                        return Err(failure);
                    }
                }
            }
        }
    }

    fn too_late(&self, what: &str) -> Failure {
        Failure {
            kind: Kind::Unavailable {
                may_have_arrived: false,
                retry_after: None,
            },
            text: format!("{what} within {:?}", self.service.patience.operation),
        }
    }
}

/// An answer that the SDK has made out of any success, also of an empty page that something in between sends.
pub(crate) trait Complete {
    /// Whether there is in it what the service puts into each such answer.
    fn is_complete(&self) -> bool;
}

impl Complete for CreateSecretOutput {
    fn is_complete(&self) -> bool {
        self.name().is_some()
    }
}

impl Complete for GetSecretValueOutput {
    fn is_complete(&self) -> bool {
        self.name().is_some()
    }
}

impl Complete for DeleteSecretOutput {
    fn is_complete(&self) -> bool {
        self.name().is_some()
    }
}

impl Complete for ListSecretsOutput {
    fn is_complete(&self) -> bool {
        self.secret_list.is_some()
    }
}

/// Waits that double, for what is asked again although the answer was clear.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) const fn new(patience: &Patience) -> Self {
        Self {
            next: patience.first_wait,
            longest: patience.longest_wait,
        }
    }

    /// Waits, unless the time `left` would be over then: `false`.
    pub(crate) async fn pause(&mut self, left: Duration) -> bool {
        let wait = self.next.min(self.longest).mul_f64(0.5 + random_fraction() / 2.0);
        self.next = self.next.saturating_mul(2);
        if wait >= left {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }
}
