//! The key store in AWS Secrets Manager from outside: the promises of every store, on moto, and what moto cannot do, on a fake.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod promises;
mod rig;
mod trouble;
