//! The server as clients see it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is tests, also the helpers"
)]

mod audit;
mod bodies;
mod certificates;
mod drain;
mod health;
mod http2;
mod keys;
mod listing;
mod load;
mod names;
mod policies;
mod reload;
mod renewal;
mod rig;
mod slow;
mod store;
mod store_faults;
mod system;
mod tls;
mod transcripts;
mod verdicts;
