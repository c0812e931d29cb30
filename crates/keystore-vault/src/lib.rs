//! The key store in the K/V engine of HashiCorp Vault or OpenBao, over its HTTP API.

mod api;
mod attempts;
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
mod transit;

pub use api::BadEndpoint;
pub use config::{ClientCertificate, Config, Jwt, KvVersion, Login, LoginNamespace, Tls, Transit};
pub use connect::ConnectError;
pub use path::BadPath;
pub use store::VaultStore;
