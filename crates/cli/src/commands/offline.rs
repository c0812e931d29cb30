//! The key store of a configuration, for commands that need no server.

use std::path::Path;

use anyhow::anyhow;
use kes_config::{Diagnostic, KeyStoreSettings};
use kes_keystore_embedded::ConnectError;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The key store of a configuration, of which nothing else need be right. Prints what is suspicious about it.
pub(super) fn load_keystore(path: &Path, context: &Context<'_>) -> Outcome<KeyStoreSettings> {
    let variable = |name: &str| context.environment.raw(name).map(str::to_owned);
    let warn = |warnings: &[Diagnostic]| {
        warnings
            .iter()
            .for_each(|warning| context.warn(&warning.to_string()));
    };
    match kes_config::load_keystore(path, &variable) {
        Ok((settings, warnings)) => {
            warn(&warnings);
            Ok(settings)
        }
        Err(error) => {
            warn(&error.warnings);
            Err(Failure::Errors(
                error.errors.iter().map(ToString::to_string).collect(),
            ))
        }
    }
}

/// Says what to do about a key store that another process has open, most likely its server.
pub(super) fn explain(error: anyhow::Error, remedy: &str) -> anyhow::Error {
    match error.downcast_ref() {
        Some(ConnectError::InUse { path }) => anyhow!(
            "{} is in use by another process, most likely its server: {remedy}",
            path.display()
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_use_comes_with_what_to_do_about_it() {
        let error = |error: ConnectError| {
            let error = anyhow::Error::new(error).context("the source");
            format!("{:#}", explain(error, "stop it"))
        };
        let path = std::path::PathBuf::from("keys.redb");
        assert_eq!(
            error(ConnectError::InUse { path: path.clone() }),
            "keys.redb is in use by another process, most likely its server: stop it"
        );
        assert_eq!(
            error(ConnectError::NotAFile { path }),
            "the source: keys.redb is not a regular file"
        );
    }
}
