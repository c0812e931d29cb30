//! The key store in the K/V engine of HashiCorp Vault or OpenBao, over its HTTP API.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use kes_crypto::SecretBytes;
//! use kes_keystore::{EntryName, KeyStore, Patience};
//! use kes_keystore_vault::{Config, KvVersion, Login, LoginNamespace, Tls, VaultStore};
//! use kes_types::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     endpoint: "https://vault.example:8200".into(),
//!     engine: "kv".into(),
//!     version: KvVersion::V2,
//!     namespace: None,
//!     prefix: None,
//!     transit: None,
//!     login: Login::AppRole {
//!         engine: "approle".into(),
//!         namespace: LoginNamespace::Inherit,
//!         id: SecretBytes::copy_of(b"role id"),
//!         secret: SecretBytes::copy_of(b"secret id"),
//!     },
//!     tls: Tls { ca: None, client: None },
//!     ping: Duration::from_secs(15),
//!     patience: Patience::default(),
//! };
//! let store = VaultStore::connect(config, Arc::new(SystemClock)).await?;
//! store.create(&EntryName::parse("my-key")?, &SecretBytes::copy_of(b"value")).await?;
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A request goes through four layers: [`VaultStore`] knows what an operation asks for and what the answers mean for a key
//! store; `client` gives it a token of the `session` and repeats it; `api` knows Vault's headers, redirects and statuses; and
//! `kes_keystore_http` sends it.

mod api;
mod client;
mod config;
mod connect;
mod failure;
mod health;
mod kv;
mod login;
mod path;
mod session;
mod store;
mod tls;
mod transit;

pub use api::BadEndpoint;
pub use config::{ClientCertificate, Config, Jwt, KvVersion, Login, LoginNamespace, Tls, Transit};
pub use connect::ConnectError;
pub use path::BadPath;
pub use store::{Permission, VaultStore};
