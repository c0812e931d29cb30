//! What a request means, whatever protocol it came by.

use std::borrow::Cow;
use std::fmt;

use crate::Identity;

/// What is asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Version of the service.
    Version,
    /// Whether the key store answers.
    Ready,
    /// State of the service.
    Status,
    /// Measurements of the service.
    Metrics,
    /// The routes of the service.
    Api,
    /// Create a master key.
    CreateKey,
    /// Import a master key.
    ImportKey,
    /// Describe a master key.
    DescribeKey,
    /// Delete a master key.
    DeleteKey,
    /// List master keys.
    ListKeys,
    /// Generate a data key.
    GenerateKey,
    /// Encrypt a small plaintext.
    EncryptKey,
    /// Decrypt a ciphertext.
    DecryptKey,
    /// Decrypt several ciphertexts.
    BulkDecryptKey,
    /// Compute a message authentication code.
    HmacKey,
    /// Describe a policy.
    DescribePolicy,
    /// Read a policy's rules.
    ReadPolicy,
    /// List policies.
    ListPolicies,
    /// Describe an identity.
    DescribeIdentity,
    /// Describe the caller.
    DescribeSelf,
    /// List identities.
    ListIdentities,
    /// Follow the error log.
    ErrorLog,
    /// Follow the audit log.
    AuditLog,
    /// Bring back a deleted master key.
    UndeleteKey,
    /// Describe the key store.
    StoreInfo,
    /// Back up the key store.
    StoreBackup,
}

impl Verb {
    /// Every verb, in the order of the documentation. Those that only some key stores can do ([`Self::is_maintenance`]) come
    /// last.
    pub const ALL: [Self; 26] = [
        Self::Version,
        Self::Ready,
        Self::Status,
        Self::Metrics,
        Self::Api,
        Self::CreateKey,
        Self::ImportKey,
        Self::DescribeKey,
        Self::DeleteKey,
        Self::ListKeys,
        Self::GenerateKey,
        Self::EncryptKey,
        Self::DecryptKey,
        Self::BulkDecryptKey,
        Self::HmacKey,
        Self::DescribePolicy,
        Self::ReadPolicy,
        Self::ListPolicies,
        Self::DescribeIdentity,
        Self::DescribeSelf,
        Self::ListIdentities,
        Self::ErrorLog,
        Self::AuditLog,
        Self::UndeleteKey,
        Self::StoreInfo,
        Self::StoreBackup,
    ];

    /// The API path, as policies and the configuration name it. One that ends in `/` is followed by a resource.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Version => "/version",
            Self::Ready => "/v1/ready",
            Self::Status => "/v1/status",
            Self::Metrics => "/v1/metrics",
            Self::Api => "/v1/api",
            Self::CreateKey => "/v1/key/create/",
            Self::ImportKey => "/v1/key/import/",
            Self::DescribeKey => "/v1/key/describe/",
            Self::DeleteKey => "/v1/key/delete/",
            Self::ListKeys => "/v1/key/list/",
            Self::GenerateKey => "/v1/key/generate/",
            Self::EncryptKey => "/v1/key/encrypt/",
            Self::DecryptKey => "/v1/key/decrypt/",
            Self::BulkDecryptKey => "/v1/key/bulk/decrypt/",
            Self::HmacKey => "/v1/key/hmac/",
            Self::DescribePolicy => "/v1/policy/describe/",
            Self::ReadPolicy => "/v1/policy/read/",
            Self::ListPolicies => "/v1/policy/list/",
            Self::DescribeIdentity => "/v1/identity/describe/",
            Self::DescribeSelf => "/v1/identity/self/describe",
            Self::ListIdentities => "/v1/identity/list/",
            Self::ErrorLog => "/v1/log/error",
            Self::AuditLog => "/v1/log/audit",
            Self::UndeleteKey => "/v1/key/undelete/",
            Self::StoreInfo => "/v1/store/info",
            Self::StoreBackup => "/v1/store/backup",
        }
    }

    /// Whether the resource is a listing pattern or position.
    #[must_use]
    pub const fn is_listing(self) -> bool {
        matches!(self, Self::ListKeys | Self::ListPolicies | Self::ListIdentities)
    }

    /// The verb of an API path, written with or without its final `/`.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let bare = path.strip_suffix('/').unwrap_or(path);
        Self::ALL.into_iter().find(|verb| {
            let own = verb.path();
            own == path || own.strip_suffix('/') == Some(bare)
        })
    }

    /// Whether the configuration may open this path to clients without a certificate.
    #[must_use]
    pub const fn may_skip_auth(self) -> bool {
        matches!(
            self,
            Self::Version | Self::Ready | Self::Status | Self::Metrics | Self::Api
        )
    }

    /// Whether this looks after a key store that the service keeps itself. It is the admin's alone, whatever policies say,
    /// and nobody's where the key store is a service that looks after itself.
    #[must_use]
    pub const fn is_maintenance(self) -> bool {
        matches!(self, Self::UndeleteKey | Self::StoreInfo | Self::StoreBackup)
    }

    /// A short name for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Ready => "ready",
            Self::Status => "status",
            Self::Metrics => "metrics",
            Self::Api => "api",
            Self::CreateKey => "key_create",
            Self::ImportKey => "key_import",
            Self::DescribeKey => "key_describe",
            Self::DeleteKey => "key_delete",
            Self::ListKeys => "key_list",
            Self::GenerateKey => "key_generate",
            Self::EncryptKey => "key_encrypt",
            Self::DecryptKey => "key_decrypt",
            Self::BulkDecryptKey => "key_bulk_decrypt",
            Self::HmacKey => "key_hmac",
            Self::DescribePolicy => "policy_describe",
            Self::ReadPolicy => "policy_read",
            Self::ListPolicies => "policy_list",
            Self::DescribeIdentity => "identity_describe",
            Self::DescribeSelf => "identity_self_describe",
            Self::ListIdentities => "identity_list",
            Self::ErrorLog => "log_error",
            Self::AuditLog => "log_audit",
            Self::UndeleteKey => "key_undelete",
            Self::StoreInfo => "store_info",
            Self::StoreBackup => "store_backup",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A verb and what it is applied to. The resource is still as the client wrote it: a policy is applied before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// What is asked.
    pub verb: Verb,
    /// The name, or the prefix of a listing; empty where the verb takes none.
    pub resource: Cow<'a, str>,
}

impl<'a> Operation<'a> {
    /// `verb`, applied to `resource`.
    #[must_use]
    pub fn new(verb: Verb, resource: impl Into<Cow<'a, str>>) -> Self {
        Self {
            verb,
            resource: resource.into(),
        }
    }

    /// The operation that this one repeats. What forbids that forbids this: policies were written that know nothing of
    /// repetition.
    #[must_use]
    pub fn repeats(&self) -> Option<Operation<'_>> {
        (self.verb == Verb::BulkDecryptKey).then(|| Operation::new(Verb::DecryptKey, &*self.resource))
    }

    /// The API path that policies are written against.
    #[must_use]
    pub fn canonical_path(&self) -> Cow<'static, str> {
        if self.resource.is_empty() {
            return Cow::Borrowed(self.verb.path());
        }
        Cow::Owned([self.verb.path(), &self.resource].concat())
    }
}

/// Who asks, as far as a protocol could prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The identity whose private key the client has.
    pub identity: Identity,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_its_verb_with_and_without_the_slash() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_path(verb.path()), Some(verb));
            if let Some(bare) = verb.path().strip_suffix('/') {
                assert_eq!(Verb::from_path(bare), Some(verb));
            }
        }
        assert_eq!(Verb::from_path("/v1/key/nothing/"), None);
    }

    #[test]
    fn only_harmless_paths_may_be_opened() {
        let open: Vec<_> = Verb::ALL
            .into_iter()
            .filter(|v| v.may_skip_auth())
            .map(Verb::path)
            .collect();
        assert_eq!(
            open,
            ["/version", "/v1/ready", "/v1/status", "/v1/metrics", "/v1/api"]
        );
    }

    #[test]
    fn maintenance_comes_last_and_is_never_opened() {
        let first = Verb::ALL.iter().position(|verb| verb.is_maintenance()).unwrap();
        let (others, maintenance) = Verb::ALL.split_at(first);
        assert!(others.iter().all(|verb| !verb.is_maintenance()));
        assert!(
            maintenance
                .iter()
                .all(|verb| verb.is_maintenance() && !verb.may_skip_auth())
        );
        assert_eq!(
            Operation::new(Verb::UndeleteKey, "a").canonical_path(),
            "/v1/key/undelete/a"
        );
    }

    #[test]
    fn the_canonical_path_of_a_listing_keeps_its_slash() {
        assert_eq!(
            Operation::new(Verb::ListKeys, "").canonical_path(),
            "/v1/key/list/"
        );
        assert_eq!(
            Operation::new(Verb::CreateKey, "a").canonical_path(),
            "/v1/key/create/a"
        );
    }
}
