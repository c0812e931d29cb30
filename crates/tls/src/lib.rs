//! TLS as a client: which servers to believe ([`ServerTrust`]), who we are ([`ClientIdentity`]), and what rustls makes
//! connections from ([`client_tls`]). And what a server has in common with it: CA files, keys of any
//! form, and how long a certificate is valid.

mod ca;
mod config;
mod file;
mod identity;
mod key;
mod trust;
mod validity;

pub use ca::{BadTrust, FileCertificate, certificates_at, system_certificates};
pub use config::{ClientTls, PinUse, client_tls};
pub use file::{MAX_FILE, read_file, read_regular_file};
pub use identity::{BadIdentity, ClientIdentity};
pub use key::{private_key, public_key, verify_tls12_signature_with_raw_key};
pub use trust::ServerTrust;
pub use validity::{Age, Validity};
