//! From the configuration to a store that has answered.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::default_provider::use_dual_stack::use_dual_stack_provider;
use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{IdentityCache, StalledStreamProtectionConfig};
use kes_keystore::{BoxError, StoreError};
use kes_types::Clock;

use crate::attempt::Service;
use crate::credentials::{CredentialSource, SdkCredentials, SdkTime, of_environment};
use crate::endpoint;
use crate::transport::Transport;
use crate::{BadEndpoint, Config, Credentials};

/// Why there is no connection to AWS Secrets Manager.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No region is configured.
    #[error("no AWS region is set: set keystore.aws.secretsmanager.region, such as us-east-2")]
    NoRegion,
    /// The endpoint is none.
    #[error(transparent)]
    BadEndpoint(#[from] BadEndpoint),
    /// An access key without its secret, or a secret without its access key.
    #[error(
        "keystore.aws.secretsmanager.credentials has no {missing}: set both accesskey and secretkey, \
         or neither to use the credentials of the environment"
    )]
    HalfCredentials {
        /// The setting that is missing.
        missing: &'static str,
    },
    /// The credentials hold characters that no AWS credentials have.
    #[error("keystore.aws.secretsmanager.credentials.{setting} is not an AWS credential")]
    BadCredentials {
        /// Which of them.
        setting: &'static str,
    },
    /// The CA certificates cannot be used, or TLS cannot be set up.
    #[error("keystore.aws.secretsmanager.tls{}", .ca.as_ref().map(|ca| format!(": {}", ca.display())).unwrap_or_default())]
    Tls {
        /// The configured file or folder.
        ca: Option<PathBuf>,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The service did not answer, or refuses.
    #[error("cannot connect")]
    Refused {
        /// The store.
        store: String,
        /// Why not.
        source: StoreError,
    },
}

/// What a store consists of, before it has answered.
pub(crate) struct Parts {
    pub(crate) service: Service,
    /// The endpoint, or the region where it is the region's own.
    pub(crate) place: String,
    pub(crate) region: String,
    pub(crate) kmskey: Option<String>,
}

/// Checks the configuration and makes what asks the service. Contacts nobody.
pub(crate) async fn prepare(config: Config, clock: Arc<dyn Clock>) -> Result<Parts, ConnectError> {
    let Config {
        endpoint,
        region,
        kmskey,
        credentials,
        ca,
        patience,
    } = config;
    let some = |text: Option<String>| {
        text.map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let region = some(Some(region)).ok_or(ConnectError::NoRegion)?;
    let endpoint = match some(endpoint).or_else(endpoint_of_environment) {
        Some(endpoint) => Some(endpoint::parse(&endpoint)?),
        None => None,
    };

    let transport = |ca: Option<PathBuf>| {
        Transport::new(ca.as_deref(), patience.attempt).map_err(|source| ConnectError::Tls {
            ca,
            source: source.into(),
        })
    };
    let sdk_region = Region::new(region.clone());
    let provider = match credentials {
        Some(credentials) => SharedCredentialsProvider::new(of_config(&credentials)?),
        None => {
            // Neither the endpoint nor the CA is that of whoever gives out credentials.
            of_environment(
                sdk_region.clone(),
                transport(None)?,
                Arc::clone(&clock),
                &patience,
            )
            .await
        }
    };
    let credentials = CredentialSource::new(provider, Arc::clone(&clock), &patience);

    let mut sdk = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(sdk_region)
        .credentials_provider(credentials.clone())
        .identity_cache(IdentityCache::no_cache())
        .http_client(transport(ca)?)
        .time_source(SdkTime(clock))
        // Attempts, and the time that they may take, are the operation's to decide.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    match &endpoint {
        Some(endpoint) => sdk = sdk.endpoint_url(endpoint),
        None => {
            let environment = ProviderConfig::without_region();
            sdk.set_use_fips(use_fips_provider(&environment).await);
            sdk.set_use_dual_stack(use_dual_stack_provider(&environment).await);
        }
    }
    Ok(Parts {
        service: Service {
            client: Client::from_conf(sdk.build()),
            credentials,
            patience,
        },
        place: endpoint.unwrap_or_else(|| region.clone()),
        region,
        kmskey: some(kmskey),
    })
}

/// The endpoint of Secrets Manager that the standard variables name. The configuration goes before.
fn endpoint_of_environment() -> Option<String> {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    if set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    {
        return None;
    }
    set("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| set("AWS_ENDPOINT_URL"))
}

fn of_config(credentials: &Credentials) -> Result<SdkCredentials, ConnectError> {
    let Credentials {
        access_key,
        secret_key,
        session_token,
    } = credentials;
    let text = |setting, secret: &kes_crypto::SecretBytes| match std::str::from_utf8(secret.expose_secret()) {
        Ok(text) if !text.contains(char::is_control) => Ok(text.trim().to_owned()),
        Ok(_) | Err(_) => Err(ConnectError::BadCredentials { setting }),
    };
    let (access_key, secret_key) = (text("accesskey", access_key)?, text("secretkey", secret_key)?);
    for (missing, value) in [("accesskey", &access_key), ("secretkey", &secret_key)] {
        if value.is_empty() {
            return Err(ConnectError::HalfCredentials { missing });
        }
    }
    let token = match session_token {
        Some(token) => Some(text("token", token)?).filter(|token| !token.is_empty()),
        None => None,
    };
    Ok(SdkCredentials::new(
        access_key,
        secret_key,
        token,
        None,
        "configuration",
    ))
}
