//! The server as clients see it.

mod audit;
mod bodies;
mod keys;
mod listing;
mod names;
mod policies;
mod rig;
mod slow;
mod system;
mod tls;
mod transcripts;
