//! Handshakes with servers of every kind, in memory, and the files that trust and identity come from.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod files;
mod handshakes;
