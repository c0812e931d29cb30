//! A client of the KES HTTP API: mutual TLS, several endpoints with failover, and one method for each operation.
//!
//! ```no_run
//! use kes_client::{Client, Credentials, Endpoint, ServerTrust};
//! use kes_crypto::ApiKey;
//! use kes_types::{Clock as _, SystemClock};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = ApiKey::parse("kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq")?;
//! let client = Client::builder(Endpoint::parse_list("kes-1.example.net:7373,kes-2.example.net:7373")?)
//!     .credentials(Credentials::from_api_key(&key, SystemClock.now())?)
//!     .trust(ServerTrust::system())
//!     .build()?;
//! client.create_key("my-key").await?;
//! let data_key = client.generate("my-key", b"context").await?;
//! assert_eq!(data_key.plaintext.0.len(), 32);
//! # Ok(())
//! # }
//! ```
//!
//! A request goes to the endpoints in their order until one answers with something else than a 5xx status. All methods
//! may be called concurrently, and a [`Client`] is cheap to clone.

mod backup;
mod client;
mod connect;
mod credentials;
mod endpoint;
mod error;
mod measurements;
mod reply;
mod stream;
mod transport;

pub use backup::BackupStream;
pub use client::{Client, ClientBuilder};
pub use credentials::{BadCredentials, Credentials};
pub use endpoint::{BadEndpoint, Endpoint};
pub use error::{Cause, Error};
pub use kes_tls::{BadTrust, ServerTrust};
pub use measurements::{Details, Measurements};
pub use reply::{IdentityInfo, PolicyInfo};
pub use stream::EventStream;
