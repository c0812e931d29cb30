//! The program from outside: files, exit codes, streams.

mod arguments;
mod golden;
mod identity;
mod kes;
