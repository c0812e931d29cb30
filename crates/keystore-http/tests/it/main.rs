//! The HTTP client against servers that do what no decent server would, over real sockets.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod answers;
mod failures;
mod proxies;
mod rig;
mod secrecy;
mod tls;
