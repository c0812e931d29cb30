//! The embedded store from outside: the promises of every store, and what it withstands.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod backup;
mod crashes;
mod damage;
mod disk;
mod exclusive;
mod kills;
mod place;
mod promises;
mod resealing;
mod restarts;
mod rig;
mod sim;
