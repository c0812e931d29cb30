//! The vocabulary of a key encryption service, without any I/O: what things are called ([`KeyName`], [`Identity`]),
//! who may do what ([`Policy`], [`Rule`]), what a request means ([`Operation`]) and how it looks on the wire ([`wire`]).
//!
//! A value of one of these types has passed its check, so no layer below checks it again:
//!
//! ```
//! use kes_types::{KeyName, Operation, Policy, Rule, Verb};
//!
//! let policy = Policy {
//!     allow: vec![Rule::parse("/v1/key/generate/minio-*")?],
//!     deny: vec![Rule::parse("/v1/key/generate/minio-internal")?],
//! };
//! let name = KeyName::parse("minio-bucket")?;
//! assert!(policy.permits(&Operation::new(Verb::GenerateKey, name.as_str()).canonical_path()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `kes-crypto` stands on this crate, and so do all others.

mod clock;
mod identity;
mod listing;
mod name;
mod operation;
mod policy;
pub mod wire;

pub use clock::{Clock, ManualClock, Monotonic, SystemClock, Timestamp};
pub use identity::Identity;
pub use listing::{BadPattern, ListPosition, ListRequest, page};
pub use name::{BadName, EnclaveName, KeyName, PolicyName, is_name};
pub use operation::{Operation, Principal, Verb};
pub use policy::{BadRule, Policy, Rule};
