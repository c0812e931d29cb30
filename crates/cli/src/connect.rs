//! From settings to a connected key store: the only place that knows every backend.

use std::sync::Arc;

use anyhow::bail;
use kes_config::KeyStoreSettings;
use kes_config::keystore::Fs;
use kes_keystore::KeyStore;
use kes_keystore_fs::FsStore;

/// Connects to the key store that the configuration names.
pub(crate) async fn connect(settings: &KeyStoreSettings) -> anyhow::Result<Arc<dyn KeyStore>> {
    match backend(settings)? {
        Backend::Fs(fs) => {
            let config = kes_keystore_fs::Config {
                path: fs.path.clone(),
            };
            Ok(Arc::new(FsStore::connect(config).await?))
        }
    }
}

/// Fails if this program cannot connect to such a key store, whatever the settings are.
pub(crate) fn require_backend(settings: &KeyStoreSettings) -> anyhow::Result<()> {
    backend(settings).map(|_| ())
}

/// The settings of a backend that this program has.
enum Backend<'a> {
    Fs(&'a Fs),
}

fn backend(settings: &KeyStoreSettings) -> anyhow::Result<Backend<'_>> {
    match settings {
        KeyStoreSettings::Fs(fs) => Ok(Backend::Fs(fs)),
        KeyStoreSettings::Embedded(_)
        | KeyStoreSettings::Vault(_)
        | KeyStoreSettings::Fortanix(_)
        | KeyStoreSettings::Gemalto(_)
        | KeyStoreSettings::Gcp(_)
        | KeyStoreSettings::Aws(_)
        | KeyStoreSettings::Azure(_)
        | KeyStoreSettings::Entrust(_) => bail!(unbuilt(settings)),
    }
}

fn unbuilt(settings: &KeyStoreSettings) -> String {
    format!(
        "keystore.{} is configured, but this build has no such backend yet: it has keystore.fs",
        settings.kind()
    )
}
