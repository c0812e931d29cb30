//! Keys of older releases that have no reader yet, so that whoever has one is told what to write instead.
//!
//! The older forms that are read stand beside their successors: `root`, `policy.*.paths`, `cache.expiry.all` and
//! `keystore.secretsmanager`.

use crate::reader::{Context, Reported, Section};

/// What to write instead of the key `path`, if it is one of an older release.
pub(crate) fn successor(path: &str) -> Option<&'static str> {
    Some(match path {
        "fs" | "vault" => {
            "key stores stand below `keystore` since v0.4.1, and the older place is not supported yet: move it there"
        }
        "kms" => "was removed in v0.8.0 without a replacement",
        "keystore.vault.address" => {
            "is called `endpoint` since v0.8.0, and the older name is not supported yet"
        }
        "keystore.vault.name" => "is called `prefix` since v0.8.0, and the older name is not supported yet",
        "keystore.aws.secrets_manager" => {
            "is called `secretsmanager` since v0.8.0, with `endpoint` for `address` and `kmskey` for `kms_key_id`; \
             the older names are not supported yet"
        }
        "keystore.aws.secretsmanager.address" => {
            "is called `endpoint` since v0.8.0, and the older name is not supported yet"
        }
        "keystore.aws.secretsmanager.kms_key_id" => {
            "is called `kmskey` since v0.8.0, and the older name is not supported yet"
        }
        "keystore.aws.secretsmanager.credentials.access_key" => {
            "is called `accesskey` since v0.8.0, and the older name is not supported yet"
        }
        "keystore.aws.secretsmanager.credentials.secret_key" => {
            "is called `secretkey` since v0.8.0, and the older name is not supported yet"
        }
        "keystore.aws.secretsmanager.credentials.session_token" => {
            "is called `token` since v0.8.0, and the older name is not supported yet"
        }
        _ => return None,
    })
}

/// Said of `log.error` and `log.audit` when they are sections.
pub(crate) const LOG_FILES: &str = "must be a level such as `on` or `off`. Log files ended with v0.7.2 (the `file` of \
                                    that time is not supported yet): redirect standard error and standard output";

/// Said of `keys` when it is a section.
pub(crate) const KEYS_SECTION: &str = "must be a list of `- name: KEY` lines. The key store stands below `keystore` \
                                       since v0.13.6, and `keys` in its place is not supported yet: rename it";

/// Said of a file in TOML.
pub(crate) const TOML: &str =
    "configuration files in TOML (up to v0.7.2) are not supported yet: write it as YAML";

/// Reports a key store that exists no more, if `section` asks for it.
pub(crate) fn check_removed(
    cx: &Context<'_>,
    section: &mut Section<'_>,
    last_release: &str,
) -> Option<Reported> {
    let endpoint = match section.filled(cx, "endpoint") {
        Ok(endpoint) => endpoint?,
        Err(reported) => return Some(reported),
    };
    let message =
        format!("this key store was removed after the release of {last_release}: choose another one");
    Some(cx.error(Some(endpoint.at), section.path(), message))
}
