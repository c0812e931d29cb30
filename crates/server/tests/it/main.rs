//! The server as clients see it.

mod audit;
mod keys;
mod listing;
mod policies;
mod system;
mod tls;
