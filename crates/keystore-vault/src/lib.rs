//! The key store in the K/V engine of HashiCorp Vault or OpenBao, over its HTTP API.

mod config;

pub use config::{ClientCertificate, Config, Jwt, KvVersion, Login, LoginNamespace, Tls, Transit};
