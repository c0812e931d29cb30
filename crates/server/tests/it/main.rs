//! The server as clients see it.

mod audit;
mod bodies;
mod keys;
mod listing;
mod policies;
mod rig;
mod system;
mod tls;
mod transcripts;
