//! The keys of older releases that are still read.

use super::Older;

/// A key of an older release.
const fn older(path: &'static str, until: &'static str, now: &'static str) -> Older {
    Older {
        path,
        until,
        now,
        note: "",
    }
}

/// Keys of older releases, and what they are today.
pub const OLDER: &[Older] = &[
    older("root", "v0.17.2", "admin.identity"),
    older("policy.<name>.paths", "v0.14.0", "policy.<name>.allow"),
    older("cache.expiry.all", "v0.7.2", "cache.expiry.any"),
    older("fs", "v0.4.0", "keystore.fs"),
    older("vault", "v0.4.0", "keystore.vault"),
    Older {
        note: "`keys` as a section with a key store in it. There must not be both",
        ..older("keys", "v0.13.5", "keystore")
    },
    older("keystore.vault.address", "v0.7.2", "keystore.vault.endpoint"),
    older("keystore.vault.name", "v0.7.2", "keystore.vault.prefix"),
    older(
        "keystore.aws.secrets_manager",
        "v0.8.0",
        "keystore.aws.secretsmanager",
    ),
    older(
        "keystore.aws.secretsmanager.address",
        "v0.7.2",
        "keystore.aws.secretsmanager.endpoint",
    ),
    older(
        "keystore.aws.secretsmanager.kms_key_id",
        "v0.7.2",
        "keystore.aws.secretsmanager.kmskey",
    ),
    older(
        "keystore.aws.secretsmanager.credentials.access_key",
        "v0.8.0",
        "keystore.aws.secretsmanager.credentials.accesskey",
    ),
    older(
        "keystore.aws.secretsmanager.credentials.secret_key",
        "v0.8.0",
        "keystore.aws.secretsmanager.credentials.secretkey",
    ),
    older(
        "keystore.aws.secretsmanager.credentials.session_token",
        "v0.8.0",
        "keystore.aws.secretsmanager.credentials.token",
    ),
    older(
        "keystore.secretsmanager",
        "only in guides",
        "keystore.aws.secretsmanager",
    ),
    older("keystore.aws.gemalto", "only in samples", "keystore.gemalto"),
    Older {
        note: "a level. A file that is named turns the log on; it goes to the standard error output",
        ..older("log.error.file", "v0.7.2", "log.error")
    },
    Older {
        note: "a level. A file that is named turns the log on; it goes to the standard output",
        ..older("log.audit.file", "v0.7.2", "log.audit")
    },
    Older {
        note: "it has no effect",
        ..older("keystore.vault.approle.retry", "2023", "")
    },
    Older {
        note: "it has no effect",
        ..older("keystore.vault.kubernetes.retry", "2023", "")
    },
    Older {
        note: "it has no effect",
        ..older("keystore.gemalto.keysecure.credentials.retry", "2023", "")
    },
    Older {
        note: "with an address in it, the file is refused; samples have it empty, which is fine",
        ..older("kms", "v0.7.2", "")
    },
    Older {
        note: "the same",
        ..older("keystore.generic", "2023", "")
    },
    Older {
        note: "the same",
        ..older("keystore.kes", "2023", "")
    },
];
