//! The real programs that tests talk to: fetched or built once, started on loopback, stopped with their owner.
//!
//! ```no_run
//! let vault = kes_peers::Vault::start()?;
//! vault.root("POST", "sys/mounts/kv", serde_json::json!({ "type": "kv", "options": { "version": "2" } }))?;
//! println!("{}", vault.endpoint());
//! # anyhow::Ok(())
//! ```
//!
//! Everything here blocks. A peer is there when its `start` returns, listens on 127.0.0.1 only, and is killed when its value is
//! dropped or the process that started it ends in any other way: a peer in a `static` leaves nothing behind either.
//!
//! What a peer is made from comes from the package registries, once for each version, into `kes-peers` in the user's cache
//! folder. Nothing is installed on the system. A peer that cannot be had is an error that says why, never a test left out.

mod commands;
mod debian;
mod http;
pub mod install;
mod kubernetes;
mod minio;
mod moto;
mod peer;
pub mod process;
mod vault;

pub use crate::commands::{aws_cli, cyclonedx_python, hadolint, kubectl, nfpm};
pub use crate::debian::Debian;
pub use crate::kubernetes::Kubernetes;
pub use crate::minio::{mc, minio};
pub use crate::moto::Moto;
pub use crate::vault::Vault;
