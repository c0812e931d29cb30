//! The program from outside: files, exit codes, streams.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is tests, also the helpers"
)]

mod arguments;
mod broken;
mod clients;
mod completion;
mod completion_shells;
mod configuration;
mod daemon;
mod doctor;
mod embedded_server;
mod golden;
mod health;
mod identity;
mod init;
mod inputs;
mod inspection;
mod kes;
mod legacy;
mod metric;
mod migrate;
mod policy_test;
mod server;
mod services;
mod session;
mod stopping;
mod store;
mod stores;
mod terminal;
mod terminal_colors;
mod terminal_layouts;
mod terminal_progress;
mod terminal_prompts;
