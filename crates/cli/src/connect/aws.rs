//! AWS Secrets Manager.

use kes_config::keystore::{Aws, AwsCredentials};
use kes_keystore::Patience;
use kes_keystore_aws::{Config, Credentials};
use kes_tls::ServerTrust;

use super::secret;

/// The settings in the terms of the key store.
pub(super) fn config(settings: &Aws) -> Config {
    let Aws {
        endpoint,
        region,
        kmskey,
        credentials,
        ca,
    } = settings;
    let credentials = credentials.as_ref().map(|credentials| {
        let AwsCredentials {
            accesskey,
            secretkey,
            token,
        } = credentials;
        Credentials {
            access_key: secret(accesskey),
            secret_key: secret(secretkey),
            session_token: token.as_ref().map(secret),
        }
    });
    Config {
        endpoint: endpoint.clone(),
        region: region.clone(),
        kmskey: kmskey.clone(),
        credentials,
        ca: ca.clone(),
        patience: Patience::default(),
    }
}

/// Reads the files that a connection is made from.
pub(super) fn check(settings: &Aws) -> anyhow::Result<()> {
    ServerTrust::of_key_store(settings.ca.as_deref())?;
    Ok(())
}
