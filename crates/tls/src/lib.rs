//! TLS as a client: which servers to believe ([`ServerTrust`]), who we are ([`ClientIdentity`]), and what rustls makes
//! connections from ([`client_tls`]).

mod config;
mod identity;
mod trust;

pub use config::{ClientTls, PinUse, client_tls};
pub use identity::{BadIdentity, ClientIdentity};
pub use trust::{BadTrust, ServerTrust};
