//! The credentials that requests are signed with: given once, or from the environment and renewed before they end.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::default_provider::use_dual_stack::use_dual_stack_provider;
use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_async::time::TimeSource;
use kes_keystore::Patience;
use kes_types::{Clock, Monotonic};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::failure::{chain, find};
use crate::transport::Transport;

/// The SDK's credentials; `Debug` of them shows no secret.
pub(crate) type SdkCredentials = aws_credential_types::Credentials;

/// Where requests get their credentials from. Cheap to clone.
///
/// Credentials that end are renewed beside the requests, five minutes before; a request waits only when it has none that are
/// valid, and all that wait do so for one renewal.
#[derive(Clone)]
pub(crate) struct CredentialSource(Arc<Inner>);

struct Inner {
    provider: SharedCredentialsProvider,
    clock: Arc<dyn Clock>,
    longest: Duration,
    state: Mutex<State>,
    /// How many loads have ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    loading: Option<AbortHandle>,
    /// When the last load began.
    tried: Option<Monotonic>,
    /// When credentials were last renewed because they had been refused.
    refused: Option<Monotonic>,
    failed: Option<LoadError>,
}

#[derive(Clone)]
struct Held {
    credentials: SdkCredentials,
    number: u64,
    /// When to renew them, and when they end; `None` for those that last.
    times: Option<Times>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    renew: Monotonic,
    end: Monotonic,
}

/// Why there are no credentials.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct LoadError {
    text: String,
    /// Whether who gives them out could not be reached, rather than refused.
    pub(crate) out_of_reach: bool,
}

/// The credentials of one moment, and which they are.
pub(crate) struct Current {
    pub(crate) credentials: SdkCredentials,
    pub(crate) number: u64,
}

impl CredentialSource {
    pub(crate) fn new(
        provider: SharedCredentialsProvider,
        clock: Arc<dyn Clock>,
        patience: &Patience,
    ) -> Self {
        Self(Arc::new(Inner {
            provider,
            clock,
            longest: patience.operation,
            state: Mutex::default(),
            ended: watch::Sender::new(0),
        }))
    }

    /// Credentials to sign a request with.
    pub(crate) async fn current(&self) -> Result<Current, LoadError> {
        let inner = &self.0;
        let now = inner.clock.monotonic();
        let waiting = {
            let mut state = inner.state();
            match &state.held {
                Some(held) if held.times.is_none_or(|times| now < times.end) => {
                    let current = held.current();
                    if held.times.is_some_and(|times| now >= times.renew) && state.may_try(now) {
                        inner.load(&mut state, now);
                    }
                    return Ok(current);
                }
                Some(_) | None => match &state.failed {
                    // Not each of many who come one after another waits for what has just failed.
                    Some(error) if !state.is_loading() && !state.may_try_again(now) => {
                        return Err(error.clone());
                    }
                    Some(_) | None => inner.load(&mut state, now),
                },
            }
        };
        self.loaded(waiting).await
    }

    /// Whether there are other credentials than those of `number`, which the service has refused. Asks for them, but not
    /// again and again.
    pub(crate) async fn renewed(&self, number: u64) -> bool {
        let inner = &self.0;
        let now = inner.clock.monotonic();
        let (before, waiting) = {
            let mut state = inner.state();
            let Some(held) = &state.held else {
                return false;
            };
            if held.number != number {
                return true;
            }
            let before = held.credentials.clone();
            if !state.is_loading() {
                if state
                    .refused
                    .is_some_and(|refused| now.since(refused) < BETWEEN_TRIES)
                {
                    return false;
                }
                state.refused = Some(now);
            }
            (before, inner.load(&mut state, now))
        };
        match self.loaded(waiting).await {
            Ok(current) => {
                current.credentials.access_key_id() != before.access_key_id()
                    || current.credentials.secret_access_key() != before.secret_access_key()
                    || current.credentials.session_token() != before.session_token()
            }
            Err(error) => {
                tracing::warn!(%error, "the AWS credentials were refused, and there are no others");
                false
            }
        }
    }

    /// Stops a renewal under way.
    pub(crate) fn close(&self) {
        let loading = self.0.state().loading.take();
        if let Some(loading) = loading {
            loading.abort();
        }
    }

    async fn loaded(&self, mut waiting: Waiting) -> Result<Current, LoadError> {
        let _ended = waiting.ended.wait_for(|ended| *ended >= waiting.until).await;
        let state = self.0.state();
        match (&state.failed, &state.held) {
            (None, Some(held)) => Ok(held.current()),
            (Some(error), _) => Err(error.clone()),
            (None, None) => Err(LoadError {
                text: "the AWS credentials were not loaded, because the process is ending".to_owned(),
                out_of_reach: true,
            }),
        }
    }
}

/// The SDK asks for credentials where it signs; the operation has made sure before that there are some.
impl ProvideCredentials for CredentialSource {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            match self.current().await {
                Ok(current) => Ok(current.credentials),
                Err(error) => Err(CredentialsError::provider_error(error)),
            }
        })
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSource").finish_non_exhaustive()
    }
}

/// For the end of a load.
struct Waiting {
    ended: watch::Receiver<u64>,
    until: u64,
}

/// Counts a load as ended, however it ends.
struct Ending(Arc<Inner>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.state().loading = None;
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads credentials in a task of its own, so that nobody who gives up takes those down who wait too. There is one at a
    /// time, with an end.
    fn load(self: &Arc<Self>, state: &mut State, now: Monotonic) -> Waiting {
        let ended = self.ended.subscribe();
        let until = *ended.borrow() + 1;
        if !state.is_loading() {
            state.tried = Some(now);
            let ending = Ending(Arc::clone(self));
            let task = tokio::spawn(async move {
                let inner = &ending.0;
                let loaded = match timeout(inner.longest, inner.provider.provide_credentials()).await {
                    Ok(loaded) => loaded.map_err(|error| LoadError::of(&error)),
                    Err(_) => Err(LoadError {
                        text: format!("no AWS credentials within {:?}", inner.longest),
                        out_of_reach: true,
                    }),
                };
                inner.take(loaded);
            });
            state.loading = Some(task.abort_handle());
        }
        Waiting { ended, until }
    }

    fn take(&self, loaded: Result<SdkCredentials, LoadError>) {
        let mut state = self.state();
        match loaded {
            Ok(credentials) => {
                let number = state.held.as_ref().map_or(0, |held| held.number) + 1;
                let now = SystemTime::from(self.clock.now());
                let times = credentials.expiry().map(|end| {
                    Times::of(
                        self.clock.monotonic(),
                        end.duration_since(now).unwrap_or_default(),
                    )
                });
                state.held = Some(Held {
                    credentials,
                    number,
                    times,
                });
                state.failed = None;
            }
            Err(error) => {
                if state.held.is_some() {
                    tracing::warn!(%error, "the AWS credentials could not be renewed");
                }
                state.failed = Some(error);
                // It may have taken long.
                state.tried = Some(self.clock.monotonic());
            }
        }
    }
}

impl State {
    /// Whether enough time has passed since the last try.
    fn may_try(&self, now: Monotonic) -> bool {
        self.tried.is_none_or(|tried| now.since(tried) >= BETWEEN_TRIES)
    }

    /// The same for those who have no valid ones: sooner, since nothing works until then.
    fn may_try_again(&self, now: Monotonic) -> bool {
        self.tried.is_none_or(|tried| now.since(tried) >= AFTER_A_FAILURE)
    }

    fn is_loading(&self) -> bool {
        self.loading.is_some()
    }
}

impl Held {
    fn current(&self) -> Current {
        Current {
            credentials: self.credentials.clone(),
            number: self.number,
        }
    }
}

impl Times {
    /// The times of credentials that are valid for `left`. The metadata service gives out credentials that have ended when it
    /// has no others, and says to go on with them.
    fn of(now: Monotonic, left: Duration) -> Self {
        let renew = left.saturating_sub(BEFORE_THE_END).max(left / 2);
        Self {
            renew: Monotonic(now.0 + renew.max(BETWEEN_TRIES)),
            end: Monotonic(now.0 + left.max(BETWEEN_TRIES)),
        }
    }
}

impl LoadError {
    fn of(error: &CredentialsError) -> Self {
        let refused = |status: u16| status < 500 && status != 429;
        let out_of_reach = match error {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => false,
            error => {
                let status = find::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>(error)
                    .and_then(SdkError::raw_response)
                    .or_else(|| {
                        find::<SdkError<AssumeRoleError, HttpResponse>>(error)
                            .and_then(SdkError::raw_response)
                    })
                    .map(|answer| answer.status().as_u16());
                let no_file = find::<std::io::Error>(error).is_some() && status.is_none();
                !no_file && !status.is_some_and(refused)
            }
        };
        let text = match error {
            CredentialsError::CredentialsNotLoaded(_) => {
                "there are no AWS credentials: set keystore.aws.secretsmanager.credentials, or provide some by environment \
                 variables, a web identity, a credentials file, a container or the instance"
                    .to_owned()
            }
            error => chain(error),
        };
        Self { text, out_of_reach }
    }
}

/// The credentials of the environment: of its variables, a web identity, a profile, a container, or the instance, in this
/// order. An endpoint of Secrets Manager is none of theirs: where they ask, the standard variables say.
pub(crate) async fn of_environment(
    region: Region,
    transport: Transport,
    clock: Arc<dyn Clock>,
    patience: &Patience,
) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region()
        .with_region(Some(region))
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_time_source(SdkTime(clock))
        .with_http_client(transport)
        .with_retry_config(RetryConfig::standard().with_max_attempts(patience.retries.saturating_add(1)))
        .with_timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(patience.attempt)
                .build(),
        );
    let fips = use_fips_provider(&config).await;
    let dual_stack = use_dual_stack_provider(&config).await;
    let config = config.with_use_fips(fips).with_use_dual_stack(dual_stack);
    let chain =
        CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else(
                "web identity",
                WebIdentityTokenCredentialsProvider::builder()
                    .configure(&config)
                    .build(),
            )
            .or_else(
                "profile",
                ProfileFileCredentialsProvider::builder()
                    .configure(&config)
                    .build(),
            )
            .or_else(
                "container",
                EcsCredentialsProvider::builder().configure(&config).build(),
            )
            .or_else(
                "instance",
                ImdsCredentialsProvider::builder().configure(&config).build(),
            );
    SharedCredentialsProvider::new(chain)
}

/// Our clock, for the SDK.
#[derive(Debug)]
pub(crate) struct SdkTime(pub(crate) Arc<dyn Clock>);

impl TimeSource for SdkTime {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

/// How long before their end credentials are renewed; those that last for a shorter time, half-way.
const BEFORE_THE_END: Duration = Duration::from_secs(5 * 60);

/// The least time between two tries to renew credentials that still are valid.
const BETWEEN_TRIES: Duration = Duration::from_secs(10);

/// The least time between two tries when there are none that are valid.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);
