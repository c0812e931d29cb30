#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod backup;
mod client;
mod connect;
mod credentials;
mod endpoint;
mod error;
mod listing;
mod measurements;
mod reply;
mod secret;
mod stream;
mod transport;
mod trust;

pub use backup::BackupStream;
pub use client::{
    Client, ClientBuilder, DEFAULT_DEADLINE, DEFAULT_RETRIES, DEFAULT_RETRY_WAIT, DEFAULT_TIMEOUT, MAX_BULK,
};
pub use credentials::{BadCredentials, Credentials};
pub use endpoint::{BadEndpoint, Endpoint};
pub use error::{Cause, Error};
pub use listing::Listing;
pub use measurements::{Details, Measurements};
pub use reply::{
    AuditEvent, AuditRequest, AuditResponse, DataKey, ErrorEvent, IdentityInfo, KeyAlgorithm, KeyInfo,
    PolicyInfo, Route, Sealed, Status, StoreInfo, StoreSeal, Version,
};
pub use secret::Secret;
pub use stream::EventStream;
pub use trust::{BadTrust, ServerTrust};
