//! The key store in AWS Secrets Manager.

mod config;

pub use config::{Config, Credentials};
