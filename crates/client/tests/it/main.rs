//! The client against servers: a real one, and ones that answer what no server of ours does.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

mod backup;
mod canned;
mod failures;
mod operations;
mod replies;
mod rig;
mod trust;
