//! The key ring from outside, over a store that does as it is told.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

mod rig;

mod cache;
mod fetch;
mod keys;
mod listing;
mod model;
mod outage;
mod upkeep;
mod writes;
