//! What servers answer. Servers of different years spell some of it differently; here it has one form.
//!
//! Each type can be read from the JSON of a server, which is also how a test makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kes_types::wire::Base64;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::Secret;

/// A fresh data key: to use now, and to keep.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let data_key = client.generate("my-key", b"").await?;
/// assert_eq!(data_key.plaintext.len(), 32);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DataKey {
    /// The data key itself. Encrypt with it, then forget it.
    pub plaintext: Secret,
    /// The data key, encrypted by the server's key. Keep it beside what the data key has encrypted.
    pub ciphertext: Vec<u8>,
    /// Version of the key that encrypted it, where a key has several.
    pub version: Option<String>,
}

/// One ciphertext to decrypt, and the context with which it was made.
///
/// ```no_run
/// use kes_client::Sealed;
///
/// # async fn example(client: kes_client::Client, ciphertext: Vec<u8>) -> Result<(), kes_client::Error> {
/// let sealed = [Sealed { ciphertext: &ciphertext, context: b"bucket/object" }];
/// let opened = client.decrypt_bulk("my-key", &sealed).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// What to decrypt.
    pub ciphertext: &'a [u8],
    /// The context given when it was encrypted.
    pub context: &'a [u8],
}

/// Shows sizes: a context may be a secret.
impl fmt::Debug for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ciphertext, context } = self;
        write!(f, "Sealed({} and {} bytes)", ciphertext.len(), context.len())
    }
}

/// The algorithm of a key that is imported.
///
/// ```
/// assert_eq!(kes_client::KeyAlgorithm::Aes256.to_string(), "AES256");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// AES-256-GCM.
    #[default]
    Aes256,
    /// ChaCha20-Poly1305. Servers in FIPS mode refuse it.
    ChaCha20,
}

/// As the API spells it.
impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes256 => "AES256",
            Self::ChaCha20 => "ChaCha20",
        })
    }
}

/// What a server knows about a key.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let key = client.describe_key("my-key").await?;
/// println!("{} was created by {}", key.name, key.created_by);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// `AES256` or `ChaCha20`; empty when the server does not say it.
    #[serde(default, deserialize_with = "or_default")]
    pub algorithm: String,
    /// When it was created or imported, where the server says so.
    #[serde(default, deserialize_with = "known_time")]
    pub created_at: Option<OffsetDateTime>,
    /// The identity that created it; empty when unknown.
    #[serde(default, deserialize_with = "or_default")]
    pub created_by: String,
}

/// Version of a server.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// println!("{}", client.version().await?.version);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The release.
    pub version: String,
    /// The commit that it was built from; empty when the server does not say it.
    #[serde(default, deserialize_with = "or_default")]
    pub commit: String,
}

/// State of a server.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let status = client.status().await?;
/// if status.keystore_unreachable {
///     eprintln!("only keys in the server's cache can be used");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The release.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture, in Go's spelling.
    pub arch: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Processors of the machine.
    pub num_cpu: u64,
    /// Processors that the server may use.
    pub num_cpu_used: u64,
    /// Bytes of heap in use.
    pub mem_heap_used: u64,
    /// Bytes of stack in use.
    pub mem_stack_used: u64,
    /// Milliseconds that the key store took to answer; absent when it did not.
    pub keystore_latency: Option<u64>,
    /// The key store could not be reached.
    pub keystore_unreachable: bool,
    /// The key store answered, but not as it should.
    pub keystore_unavailable: bool,
}

/// One route of a server.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// for route in client.api().await? {
///     println!("{} {}", route.method, route.path);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// HTTP method.
    pub method: String,
    /// API path.
    pub path: String,
    /// Most bytes of a request body.
    #[serde(default)]
    pub max_body: u64,
    /// Seconds until the server gives up; 0 for never.
    #[serde(default)]
    pub timeout: u64,
}

/// What there is to know about a key store that the server keeps itself.
///
/// ```no_run
/// # async fn example(admin: kes_client::Client) -> Result<(), kes_client::Error> {
/// let store = admin.store_info().await?;
/// println!("{} keys in {} bytes", store.keys, store.size);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreInfo {
    /// What kind of store, as the configuration names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is, such as a path.
    #[serde(default)]
    pub location: String,
    /// Version of its format.
    #[serde(default)]
    pub format: u32,
    /// Its id, in hexadecimal.
    #[serde(default)]
    pub id: String,
    /// What its root key is wrapped with.
    #[serde(default)]
    pub seals: Vec<StoreSeal>,
    /// Number of keys.
    pub keys: u64,
    /// Number of deleted keys that can be brought back.
    #[serde(default)]
    pub deleted_keys: u64,
    /// Seconds for which deleted keys can be brought back.
    #[serde(default)]
    pub undelete_seconds: u64,
    /// Size in bytes.
    #[serde(default)]
    pub size: u64,
    /// When the last backup was read to its end; absent when there is none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub last_backup: Option<OffsetDateTime>,
}

/// One wrapping of a store's root key.
///
/// ```no_run
/// # async fn example(admin: kes_client::Client) -> Result<(), kes_client::Error> {
/// for seal in admin.store_info().await?.seals {
///     println!("{} {}", seal.kind, seal.check);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreSeal {
    /// What kind of seal, such as `key`.
    pub kind: String,
    /// The seal's public check value.
    pub check: String,
    /// Where the configuration says that the seal is; absent for one that it does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One event of the audit log.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let mut log = client.audit_log().await?;
/// while let Some(event) = log.next().await? {
///     println!("{} {} {}", event.time, event.request.path, event.response.code);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When the request came in.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// What was asked, and by whom.
    pub request: AuditRequest,
    /// What was answered.
    pub response: AuditResponse,
}

/// The request of an audit event.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// # let mut log = client.audit_log().await?;
/// if let Some(event) = log.next().await? {
///     println!("{} asked for {}", event.request.identity, event.request.path);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AuditRequest {
    /// Address of the client; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub ip: String,
    /// HTTP method; empty where the server does not say it, as those of the reference.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// Identity of the client; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub identity: String,
    /// The enclave that the client named.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub enclave: String,
}

/// The response of an audit event.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// # let mut log = client.audit_log().await?;
/// if let Some(event) = log.next().await? {
///     println!("answered {} after {} ns", event.response.code, event.response.time);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditResponse {
    /// HTTP status.
    pub code: u16,
    /// Nanoseconds from request to answer.
    pub time: u64,
}

/// One event of the error log.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let mut log = client.error_log().await?;
/// while let Some(event) = log.next().await? {
///     println!("{}", event.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorEvent {
    /// The log line.
    pub message: String,
}

/// A data key, plain and encrypted.
#[derive(Deserialize)]
pub(crate) struct Generated {
    #[serde(deserialize_with = "present")]
    pub(crate) plaintext: Base64,
    #[serde(deserialize_with = "present")]
    pub(crate) ciphertext: Base64,
    pub(crate) version: Option<String>,
}

/// A ciphertext.
#[derive(Deserialize)]
pub(crate) struct Encrypted {
    #[serde(deserialize_with = "present")]
    pub(crate) ciphertext: Base64,
}

/// A plaintext, which may be empty.
#[derive(Deserialize)]
pub(crate) struct Decrypted {
    #[serde(deserialize_with = "present")]
    pub(crate) plaintext: Base64,
}

/// An HMAC.
#[derive(Deserialize)]
pub(crate) struct Authenticated {
    #[serde(deserialize_with = "present")]
    pub(crate) hmac: Base64,
}

/// What a server knows about a policy.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// for rule in client.read_policy("my-app").await?.allow {
///     println!("may ask for {rule}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PolicyInfo {
    /// Its name.
    pub name: String,
    /// When it was created or loaded, where the server says so.
    #[serde(deserialize_with = "known_time")]
    pub created_at: Option<OffsetDateTime>,
    /// The identity that created it; empty when unknown.
    #[serde(deserialize_with = "or_default")]
    pub created_by: String,
    /// The rules of which one must match. Only when the policy was read.
    #[serde(deserialize_with = "rules")]
    pub allow: BTreeSet<String>,
    /// The rules of which none may match. Only when the policy was read.
    #[serde(deserialize_with = "rules")]
    pub deny: BTreeSet<String>,
}

/// What a server knows about an identity.
///
/// ```no_run
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// let me = client.describe_self().await?;
/// println!("{} {}", me.identity, if me.admin { "may do everything" } else { "is bound by a policy" });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "IdentityReply")]
#[non_exhaustive]
pub struct IdentityInfo {
    /// The identity; empty when the server does not repeat it.
    pub identity: String,
    /// Whether it is the admin.
    pub admin: bool,
    /// When it was created or loaded, where the server says so.
    pub created_at: Option<OffsetDateTime>,
    /// The identity that created it; empty when unknown.
    pub created_by: String,
    /// Its policy, with its rules when a client asked about itself.
    pub policy: Option<PolicyInfo>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IdentityReply {
    identity: String,
    admin: bool,
    #[serde(deserialize_with = "known_time")]
    created_at: Option<OffsetDateTime>,
    #[serde(deserialize_with = "or_default")]
    created_by: String,
    policy: Option<PolicyReply>,
    #[serde(deserialize_with = "rules")]
    allow: BTreeSet<String>,
    #[serde(deserialize_with = "rules")]
    deny: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PolicyReply {
    Name(String),
    Whole(PolicyInfo),
}

impl From<IdentityReply> for IdentityInfo {
    fn from(reply: IdentityReply) -> Self {
        let IdentityReply {
            identity,
            admin,
            created_at,
            created_by,
            policy,
            allow,
            deny,
        } = reply;
        let policy = match policy {
            Some(PolicyReply::Whole(policy)) => Some(policy),
            Some(PolicyReply::Name(name)) if name.is_empty() => None,
            Some(PolicyReply::Name(name)) => Some(PolicyInfo {
                name,
                allow,
                deny,
                ..PolicyInfo::default()
            }),
            None => None,
        };
        Self {
            identity,
            admin,
            created_at,
            created_by,
            policy,
        }
    }
}

/// Bytes that must be there: what is missing is not empty. Servers in Go call what is empty `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
    Base64::deserialize(deserializer)
}

/// `null` is the same as absent.
fn or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A time, unless it is the one by which Go programs say that they know none.
fn known_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let time = time::serde::rfc3339::option::deserialize(deserializer)?;
    Ok(time.filter(|time| *time != datetime!(0001-01-01 00:00 UTC)))
}

/// Rules as the names of an object, or as an array of strings.
fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Rules {
        Map(BTreeMap<String, IgnoredAny>),
        List(BTreeSet<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Rules::Map(map)) => map.into_keys().collect(),
        Some(Rules::List(list)) => list,
        None => BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(policy: &PolicyInfo) -> (Vec<&str>, Vec<&str>) {
        (
            policy.allow.iter().map(String::as_str).collect(),
            policy.deny.iter().map(String::as_str).collect(),
        )
    }

    #[test]
    fn a_client_reads_about_itself_in_both_shapes() {
        let flat = r#"{"identity":"ab","created_at":"2024-05-01T00:00:00Z","created_by":"cd","policy":"p",
            "allow":{"/v1/key/create/*":{}},"deny":{"/v1/key/create/x":{}}}"#;
        let nested = r#"{"identity":"ab","created_at":"2024-05-01T00:00:00Z","created_by":"cd",
            "policy":{"name":"p","allow":{"/v1/key/create/*":{}},"deny":{"/v1/key/create/x":{}}}}"#;
        let flat: IdentityInfo = serde_json::from_str(flat).unwrap();
        assert_eq!(flat, serde_json::from_str(nested).unwrap());
        let policy = flat.policy.unwrap();
        assert_eq!(policy.name, "p");
        assert_eq!(
            rules_of(&policy),
            (vec!["/v1/key/create/*"], vec!["/v1/key/create/x"])
        );
    }

    #[test]
    fn bytes_that_are_missing_are_not_empty_ones() {
        let plaintext = |json| serde_json::from_str::<Decrypted>(json).map(|opened| opened.plaintext.0.len());
        assert_eq!(plaintext(r#"{"plaintext":""}"#).unwrap(), 0);
        assert_eq!(plaintext(r#"{"plaintext":null}"#).unwrap(), 0);
        assert_eq!(plaintext(r#"{"plaintext":"YQ=="}"#).unwrap(), 1);
        for json in ["{}", r#"{"ciphertext":"YQ=="}"#, r#"{"plaintext":7}"#] {
            assert!(plaintext(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_admin_has_no_policy() {
        let admin: IdentityInfo = serde_json::from_str(
            r#"{"identity":"ab","admin":true,"created_at":"2024-05-01T00:00:00Z","policy":""}"#,
        )
        .unwrap();
        assert!(admin.admin && admin.policy.is_none());
    }

    #[test]
    fn a_time_that_is_not_known_is_none() {
        for (json, known) in [
            (r#"{"created_at":"2024-05-01T00:00:00Z"}"#, true),
            (r#"{"created_at":"0001-01-01T00:00:00Z"}"#, false),
            (r#"{"created_at":null}"#, false),
            ("{}", false),
        ] {
            let policy: PolicyInfo = serde_json::from_str(json).unwrap();
            assert_eq!(policy.created_at.is_some(), known, "{json}");
            let identity: IdentityInfo = serde_json::from_str(json).unwrap();
            assert_eq!(identity.created_at.is_some(), known, "{json}");
        }
    }

    #[test]
    fn rules_are_read_as_an_object_and_as_an_array() {
        let array = r#"{"name":"p","allow":["/b","/a"],"deny":null}"#;
        let object = r#"{"name":"p","allow":{"/a":{},"/b":{}}}"#;
        let array: PolicyInfo = serde_json::from_str(array).unwrap();
        assert_eq!(array, serde_json::from_str(object).unwrap());
        assert_eq!(rules_of(&array).0, ["/a", "/b"]);
    }
}
