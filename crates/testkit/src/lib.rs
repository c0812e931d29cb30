//! Test support: a key store that fails, hangs and lies.

mod store;

pub use store::{Failure, FaultyStore, Gate, Lie, Step};
