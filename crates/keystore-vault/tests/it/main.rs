//! The key store in Vault from outside: against a real Vault, and against scripted answers for what that cannot do.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests panic as the tests do"
)]

mod creates;
mod errors;
mod fake;
mod kubernetes;
mod kv;
mod load;
mod login;
mod logs;
mod mounts;
mod nodes;
mod promises;
mod rig;
mod sealing;
mod tokens;
mod transit;
mod trouble;
