//! The KES server as a library: TLS in front, a [`Keyring`](kes_keyring::Keyring) behind, no configuration files.
//!
//! The modules stand in the order in which a request meets them:
//!
//! * [`listen`](Server) accepts connections, up to a bound, and drains them at the end;
//! * `tls` proves that a client has the private key of its certificate, `identity` says who that makes it, and `proxy`
//!   who it is when a TLS proxy speaks for it;
//! * `connection` speaks HTTP/1.1 or HTTP/2 ([`protocol`]) and closes what is slow or idle;
//! * `route` finds the route: one table, which also answers `/v1/api`;
//! * `request` puts every request through the one path of [`kes_keyring::service`]: authorise (`policy`), run
//!   (`handlers`), audit (`audit`);
//! * `error` turns what went wrong into what clients see.
//!
//! `backup` sends backups of a key store that the server keeps itself; what else operators ask of one is among the handlers.
//!
//! `state` holds what requests share: an immutable snapshot behind an atomic swap. `events` writes the audit and the error
//! log, in order, to the console and to whoever follows them over HTTP. `metrics` counts. `watch` takes on TLS files that have
//! changed, and `certificate` knows how long they are valid. `health` answers probes, on a listener of its own.
//! `verdict` says what a request would be answered, without a server.

mod audit;
mod backup;
mod body;
mod certificate;
mod connection;
mod error;
mod events;
mod handlers;
mod health;
mod identity;
mod listen;
pub mod log;
mod metrics;
mod policy;
pub mod protocol;
mod proxy;
mod request;
mod route;
mod settings;
mod state;
mod system;
pub mod tls;
mod verdict;
mod watch;

pub use events::{Console, Target};
pub use listen::{Server, StartError};
pub use policy::{DuplicateIdentity, Grounds, Refusal};
pub use settings::{
    Build, CertificateSource, ClientAuth, Limits, LogSettings, PolicySettings, ProxySettings, RouteSettings,
    Settings, TlsSettings,
};
pub use state::{DeclaredKeyError, Environment, ReloadError, create_declared_keys};
pub use verdict::{Asking, Authorization, AuthorizationSettings, UnknownPolicy, Verdict};
