//! What servers answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Base64;
use crate::Timestamp;

/// Answer to a request for a data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateResponse {
    /// The data key.
    pub plaintext: Base64,
    /// The data key, encrypted.
    pub ciphertext: Base64,
    /// Version of the key that encrypted it, where a key has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Answer to a request to encrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptResponse {
    /// The plaintext, encrypted.
    pub ciphertext: Base64,
}

/// Answer to a request to decrypt, and one element of a bulk answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecryptResponse {
    /// The ciphertext, decrypted.
    pub plaintext: Base64,
}

/// Answer to a request for a message authentication code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacResponse {
    /// HMAC-SHA-256 of the message.
    pub hmac: Base64,
}

/// Description of a master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescription {
    /// Its name.
    pub name: String,
    /// `AES256` or `ChaCha20`.
    #[serde(default)]
    pub algorithm: String,
    /// When it was created or imported.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: Timestamp,
    /// Who created it; empty when unknown.
    #[serde(default)]
    pub created_by: String,
}

/// One page of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameList {
    /// The names, in byte order.
    #[serde(default)]
    pub names: Vec<String>,
    /// What to send as the pattern for the next page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub continue_at: String,
}

/// One page of identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityList {
    /// The identities, in byte order.
    #[serde(default)]
    pub identities: Vec<String>,
    /// What to send as the pattern for the next page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub continue_at: String,
}

/// The rules of a policy, as the API shows them: objects with the rules as names.
pub type RuleSet = BTreeMap<String, Empty>;

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Description of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDescription {
    /// Its name.
    pub name: String,
    /// When the configuration was loaded.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: Timestamp,
    /// The admin identity.
    #[serde(default)]
    pub created_by: String,
    /// The rules of which one must match. Only when the policy is read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: RuleSet,
    /// The rules of which none may match. Only when the policy is read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deny: RuleSet,
}

/// Description of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityDescription {
    /// The identity. Only when a client asks about itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// Whether it is the admin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// Its policy; empty for the admin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// When the configuration was loaded.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: Timestamp,
    /// The admin identity; empty for the admin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The policy's allow rules. Only when a client asks about itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: RuleSet,
    /// The policy's deny rules. Only when a client asks about itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deny: RuleSet,
}

/// Version of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionResponse {
    /// The release.
    pub version: String,
    /// The commit that it was built from.
    #[serde(default)]
    pub commit: String,
}

/// State of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusResponse {
    /// The release.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture, in Go's spelling.
    pub arch: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Processors of the machine.
    pub num_cpu: usize,
    /// Processors that the server may use.
    pub num_cpu_used: usize,
    /// Bytes of heap in use.
    pub mem_heap_used: u64,
    /// Bytes of stack in use.
    pub mem_stack_used: u64,
    /// Milliseconds that the key store took to answer; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystore_latency: Option<u64>,
    /// The key store could not be reached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keystore_unreachable: bool,
    /// The key store answered, but not as it should.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keystore_unavailable: bool,
}

/// One route of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRoute {
    /// HTTP method.
    pub method: String,
    /// API path.
    pub path: String,
    /// Most bytes of a request body.
    pub max_body: u64,
    /// Seconds until the server gives up; 0 for never.
    pub timeout: u64,
}

/// What there is to know about a key store that the server keeps itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfoResponse {
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
    pub last_backup: Option<Timestamp>,
}

/// One wrapping of a store's root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSeal {
    /// What kind of seal, such as `key`.
    pub kind: String,
    /// The seal's public check value.
    pub check: String,
    /// Where the configuration says that the seal is; absent for one that it does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What happened. Servers up to 2023 call it `error`.
    #[serde(alias = "error")]
    pub message: String,
}

/// One event of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When the request came in.
    #[serde(with = "time::serde::rfc3339")]
    pub time: Timestamp,
    /// What was asked, and by whom.
    pub request: AuditRequest,
    /// What was answered.
    pub response: AuditResponse,
}

/// The request of an audit event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditRequest {
    /// Address of the client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// HTTP method. Servers before this one do not say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// Identity of the client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// The enclave that the client named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enclave: String,
}

/// The response of an audit event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditResponse {
    /// HTTP status.
    pub code: u16,
    /// Nanoseconds from request to answer.
    pub time: u64,
}

/// One event of the error log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEvent {
    /// The log line.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_is_known_of_a_store_has_one_form() {
        let mut info = StoreInfoResponse {
            kind: "embedded".to_owned(),
            location: "/var/lib/kes/keys.redb".to_owned(),
            format: 1,
            id: "00112233445566778899aabbccddeeff".to_owned(),
            seals: vec![
                StoreSeal {
                    kind: "key".to_owned(),
                    check: "0011223344556677".to_owned(),
                    source: Some("file /etc/kes/seal.key".to_owned()),
                },
                StoreSeal {
                    kind: "key".to_owned(),
                    check: "8899aabbccddeeff".to_owned(),
                    source: None,
                },
            ],
            keys: 3,
            deleted_keys: 1,
            undelete_seconds: 604_800,
            size: 1_589_248,
            last_backup: None,
        };
        let json = r#"{"type":"embedded","location":"/var/lib/kes/keys.redb","format":1,"id":"00112233445566778899aabbccddeeff","seals":[{"kind":"key","check":"0011223344556677","source":"file /etc/kes/seal.key"},{"kind":"key","check":"8899aabbccddeeff"}],"keys":3,"deleted_keys":1,"undelete_seconds":604800,"size":1589248}"#;
        assert_eq!(serde_json::to_string(&info).unwrap(), json);
        assert_eq!(serde_json::from_str::<StoreInfoResponse>(json).unwrap(), info);

        info.last_backup = Some(datetime!(2024-05-01 00:00:00 UTC));
        let json = serde_json::to_string(&info).unwrap();
        assert!(
            json.ends_with(r#","last_backup":"2024-05-01T00:00:00Z"}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<StoreInfoResponse>(&json).unwrap(), info);
    }
}
