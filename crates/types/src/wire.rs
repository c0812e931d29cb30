//! The JSON bodies of the HTTP API, as the server reads and a client writes them, and the other way round.
//!
//! Byte strings are standard base64 with padding. Requests are read leniently where clients of all years need it: unknown
//! fields are ignored, of a repeated field the last counts, and `null` is the same as absent.

mod request;
mod response;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

pub use request::{
    BadBody, DecryptRequest, EncryptRequest, GenerateRequest, HmacRequest, ImportRequest, MAX_BULK,
};
pub use response::{
    ApiRoute, AuditEvent, AuditRequest, AuditResponse, DecryptResponse, Empty, EncryptResponse, ErrorEvent,
    ErrorResponse, GenerateResponse, HmacResponse, IdentityDescription, IdentityList, KeyDescription,
    NameList, PolicyDescription, RuleSet, StatusResponse, StoreInfoResponse, StoreSeal, VersionResponse,
};

/// Secret or harmless bytes, as base64 in JSON. Zeroed when dropped; `Debug` shows their number only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Zeroizing<Vec<u8>>);

impl Base64 {
    /// The bytes, copied.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(Option::<String>::deserialize(deserializer)?.unwrap_or_default());
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|_| de::Error::custom("not valid base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}
