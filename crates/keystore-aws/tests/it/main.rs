//! The key store in AWS Secrets Manager from outside: the promises of every store, on moto, and what moto cannot do, on a fake.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests panic as the tests do"
)]

mod ambient;
mod connecting;
mod doubts;
mod fake;
mod listing;
mod permissions;
mod promises;
mod refusals;
mod rig;
mod trouble;
