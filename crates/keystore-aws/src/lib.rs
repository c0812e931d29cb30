//! A key store in AWS Secrets Manager: one secret a key, under the key's name, its value as text.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kes_crypto::SecretBytes;
//! use kes_keystore::{EntryName, KeyStore as _, Patience};
//! use kes_keystore_aws::{AwsStore, Config};
//! use kes_types::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     endpoint: None,
//!     region: "us-east-2".to_owned(),
//!     kmskey: Some("alias/kes".to_owned()),
//!     credentials: None,
//!     ca: None,
//!     patience: Patience::default(),
//! };
//! let store = AwsStore::connect(config, Arc::new(SystemClock)).await?;
//! store.create(&EntryName::parse("my-key")?, &SecretBytes::copy_of(b"value")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The service is atomic where it matters: two who create one name have one winner. What it is not is told apart here:
//! a failure that may have had an effect is looked into before it is reported, and a secret that is scheduled for
//! deletion is neither a key nor a free name.
//!
//! Values are wiped from memory where they are ours. The SDK's own copies, such as the body of a request on its way, cannot
//! be.

mod attempt;
mod config;
mod connect;
mod credentials;
mod endpoint;
mod failure;
mod listing;
mod memory;
mod remembered;
mod store;
mod transport;

pub use config::{Config, Credentials};
pub use connect::ConnectError;
pub use endpoint::BadEndpoint;
pub use store::AwsStore;
