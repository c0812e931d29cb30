//! The client against servers: a real one, and ones that answer what no server of ours does.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

mod backup;
mod cancellation;
mod canned;
mod failures;
mod operations;
mod repeats;
mod replies;
mod rig;
mod secrets;
mod streams;
mod trust;
