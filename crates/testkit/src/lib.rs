//! Test support: certificates, a key store that fails, hangs and lies, a fake of one that the server keeps itself, an
//! in-process server, a client that checks what every answer must have, a proxy that fails what is behind it, and what is logged.
//!
//! [`trouble`] is the contract of a key store behind a network when the network or the service fails.

mod certs;
mod fake;
mod http;
mod log;
mod proxy;
mod raw;
mod server;
mod store;
pub mod trouble;

pub use certs::{Credentials, KeyKind, TestCa};
pub use fake::{FakeOwnStore, MaintenanceOp, Part};
pub use http::{Answer, Protocol, TestClient, TestConnection, connect_tls};
pub use log::ThreadLog;
pub use proxy::{Fault, FaultProxy, ProxiedRequest};
pub use raw::{PATIENCE, RawConnection, soon, until};
pub use server::{Running, TestServer, admin, app};
pub use store::{Failure, FaultyStore, Gate, Lie, Step};
