//! What a connection to AWS Secrets Manager is made from.

use std::path::PathBuf;

use kes_crypto::SecretBytes;
use kes_keystore::Patience;

/// What a connection to AWS Secrets Manager is made from.
#[derive(Debug)]
pub struct Config {
    /// Host or URL of Secrets Manager, and of nothing else; without one that of the region.
    pub endpoint: Option<String>,
    /// Region.
    pub region: String,
    /// The AWS-KMS key that secrets are encrypted with: id, ARN or alias; without one the default key.
    pub kmskey: Option<String>,
    /// Static credentials; without any the environment's.
    pub credentials: Option<Credentials>,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
    /// How long the service is waited for.
    pub patience: Patience,
}

/// Static AWS credentials.
#[derive(Debug)]
pub struct Credentials {
    /// Access key id.
    pub access_key: SecretBytes,
    /// Secret access key.
    pub secret_key: SecretBytes,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretBytes>,
}
