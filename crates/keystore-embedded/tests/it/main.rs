//! The embedded store from outside: the promises of every store, and what it withstands.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod promises;
