//! The program from outside: files, exit codes, streams.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

mod arguments;
mod golden;
mod identity;
mod kes;
