//! From settings to a connected key store: the only place that knows every backend.

mod aws;
mod vault;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kes_config::keystore::{Aws, Embedded, Fs, SealSettings, Vault};
use kes_config::{KeyStoreSettings, SecretText};
use kes_crypto::SecretBytes;
use kes_keystore::{Connected, KeyStore};
use kes_keystore_aws::AwsStore;
use kes_keystore_embedded::EmbeddedStore;
use kes_keystore_fs::FsStore;
use kes_keystore_vault::VaultStore;
use kes_seal::{KeySeal, Resealed, Seal, Seals};
use kes_types::Clock;
use rustix::fs::{Mode, OFlags};

/// Connects to the key store that the configuration names, and keeps hold of what a reload may need.
pub(crate) async fn open(settings: &KeyStoreSettings, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
    match backend(settings)? {
        Backend::Embedded(embedded) => {
            let store = EmbeddedStore::connect(embedded_config(embedded)?, clock).await;
            let store = Arc::new(store.context("keystore.embedded")?);
            Ok(Opened {
                connected: Connected {
                    store: Arc::clone(&store) as _,
                    maintenance: Some(Arc::clone(&store) as _),
                },
                embedded: Some(store),
                vault: None,
            })
        }
        Backend::Fs(fs) => {
            let config = kes_keystore_fs::Config {
                path: fs.path.clone(),
            };
            Ok(Opened::from(Connected::from(Arc::new(
                FsStore::connect(config).await?,
            ))))
        }
        Backend::Vault(vault) => {
            let store = Arc::new(VaultStore::connect(vault::config(vault), clock).await?);
            Ok(Opened {
                connected: Connected::from(Arc::clone(&store)),
                embedded: None,
                vault: Some(store),
            })
        }
        Backend::Aws(aws) => {
            let store = AwsStore::connect(aws::config(aws), clock).await?;
            Ok(Opened::from(Connected::from(Arc::new(store))))
        }
    }
}

/// Connects to a key store that is there and is only read. It stays as it is, even if the settings are those of another time.
pub(crate) async fn examine(
    settings: &KeyStoreSettings,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn KeyStore>> {
    match backend(settings)? {
        Backend::Embedded(embedded) => {
            let store = EmbeddedStore::examine(embedded_config(embedded)?, clock).await?;
            Ok(Arc::new(store))
        }
        Backend::Fs(_) | Backend::Vault(_) | Backend::Aws(_) => {
            Ok(open(settings, clock).await?.into_connected().store)
        }
    }
}

/// Fails if this program cannot connect to such a key store, whatever the settings are.
pub(crate) fn require_backend(settings: &KeyStoreSettings) -> anyhow::Result<()> {
    backend(settings).map(|_| ())
}

/// Reads every file that a connection would be made from, and connects to nothing.
pub(crate) fn check(settings: &KeyStoreSettings) -> anyhow::Result<()> {
    // Each seal once, and by what does not wait for ever: it may be a pipe.
    if let KeyStoreSettings::Embedded(embedded) = settings {
        return seals(&embedded.seals).map(|_| ());
    }
    let section = || format!("keystore.{}", settings.kind());
    for file in settings.files() {
        readable(file)
            .with_context(|| format!("cannot read {}", file.display()))
            .with_context(section)?;
    }
    match backend(settings)? {
        Backend::Vault(vault) => vault::check(vault).with_context(section),
        Backend::Aws(aws) => aws::check(aws).with_context(section),
        Backend::Embedded(_) | Backend::Fs(_) => Ok(()),
    }
}

/// Whether a file or folder can be opened to be read. Waits for nobody, also if it is a pipe.
fn readable(path: &Path) -> std::io::Result<()> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok(())
}

/// The settings of the embedded key store, in its own terms. Reads the seals.
pub(crate) fn embedded_config(settings: &Embedded) -> anyhow::Result<kes_keystore_embedded::Config> {
    let Embedded {
        path,
        seals,
        undelete,
    } = settings;
    Ok(kes_keystore_embedded::Config {
        path: path.clone(),
        seals: self::seals(seals)?,
        undelete: *undelete,
    })
}

/// Reads the seals of a configuration.
pub(crate) fn seals(settings: &[SealSettings]) -> anyhow::Result<Seals> {
    let seal = |seal: &SealSettings| {
        let seal = match seal {
            SealSettings::File(file) => KeySeal::from_file(file),
            SealSettings::Variable { name, value } => KeySeal::from_variable(name, value.expose_secret()),
        };
        let seal = seal.context("keystore.embedded.seal")?;
        Ok(Arc::new(seal) as Arc<dyn Seal>)
    };
    settings.iter().map(seal).collect()
}

/// A secret of the configuration, as key stores take them.
fn secret(text: &SecretText) -> SecretBytes {
    SecretBytes::copy_of(text.expose_secret().as_bytes())
}

/// The file or folder that holds the keys, where that is on this machine, as it was configured.
pub(crate) fn path(settings: &KeyStoreSettings) -> Option<&Path> {
    match backend(settings) {
        Ok(Backend::Embedded(embedded)) => Some(&embedded.path),
        Ok(Backend::Fs(fs)) => Some(&fs.path),
        Ok(Backend::Vault(_) | Backend::Aws(_)) | Err(_) => None,
    }
}

/// The settings of a backend that this program has.
enum Backend<'a> {
    Embedded(&'a Embedded),
    Fs(&'a Fs),
    Vault(&'a Vault),
    Aws(&'a Aws),
}

fn backend(settings: &KeyStoreSettings) -> anyhow::Result<Backend<'_>> {
    match settings {
        KeyStoreSettings::Embedded(embedded) => Ok(Backend::Embedded(embedded)),
        KeyStoreSettings::Fs(fs) => Ok(Backend::Fs(fs)),
        KeyStoreSettings::Vault(vault) => Ok(Backend::Vault(vault)),
        KeyStoreSettings::Aws(aws) => Ok(Backend::Aws(aws)),
        KeyStoreSettings::Fortanix(_)
        | KeyStoreSettings::Gemalto(_)
        | KeyStoreSettings::Gcp(_)
        | KeyStoreSettings::Azure(_)
        | KeyStoreSettings::Entrust(_) => bail!(unbuilt(settings)),
    }
}

fn unbuilt(settings: &KeyStoreSettings) -> String {
    format!(
        "keystore.{} is configured, but this build has no such backend yet: it has keystore.embedded, keystore.fs, \
         keystore.vault and keystore.aws.secretsmanager",
        settings.kind()
    )
}

/// A key store that has been connected.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    connected: Connected,
    embedded: Option<Arc<EmbeddedStore>>,
    vault: Option<Arc<VaultStore>>,
}

impl Opened {
    /// The key store, for whoever uses it.
    pub(crate) fn connected(&self) -> Connected {
        self.connected.clone()
    }

    /// The key store, for whoever does not reload.
    pub(crate) fn into_connected(self) -> Connected {
        self.connected
    }

    /// The key store, if it is the embedded one, which can do more than others.
    pub(crate) fn embedded(&self) -> Option<Arc<EmbeddedStore>> {
        self.embedded.clone()
    }

    /// The key store, if it is one of Vault, which can tell what it permits.
    pub(crate) fn vault(&self) -> Option<Arc<VaultStore>> {
        self.vault.clone()
    }

    /// What the key store is and where.
    pub(crate) fn description(&self) -> String {
        self.connected.store.to_string()
    }

    /// How to take on `settings` without connecting anew, where that is how such a key store does it: a file that only one
    /// may have open. `None`: not here, it takes a connection of its own. Reads the seals, and changes nothing.
    pub(crate) fn change(&self, settings: &KeyStoreSettings) -> anyhow::Result<Option<Change>> {
        let (Some(store), KeyStoreSettings::Embedded(settings)) = (&self.embedded, settings) else {
            return Ok(None);
        };
        if !is_same_file(store.path(), &settings.path) {
            return Ok(None);
        }
        let kes_keystore_embedded::Config {
            path: _,
            seals,
            undelete,
        } = embedded_config(settings)?;
        Ok(Some(Change {
            store: Arc::clone(store),
            seals,
            undelete,
        }))
    }
}

/// Other settings for a key store that stays open.
#[derive(Debug)]
pub(crate) struct Change {
    store: Arc<EmbeddedStore>,
    seals: Seals,
    undelete: Duration,
}

impl Change {
    /// Has the key store take them on. What this does cannot be undone: a seal is dropped, or deleted keys are.
    ///
    /// # Errors
    /// The key store then goes on as it did.
    pub(crate) async fn make(self) -> anyhow::Result<()> {
        let Self {
            store,
            seals,
            undelete,
        } = self;
        // It logs by itself what changed.
        let _: Resealed = store
            .reconfigure(seals, undelete)
            .await
            .context("keystore.embedded")?;
        Ok(())
    }
}

impl From<Connected> for Opened {
    fn from(connected: Connected) -> Self {
        Self {
            connected,
            embedded: None,
            vault: None,
        }
    }
}

/// Whether two paths name one file, also one that has been removed since it was opened.
fn is_same_file(open: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).ok();
    let inode = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let both = |one: Option<_>, two| one.is_some() && one == two;
    both(absolute(open), absolute(other)) || inode(open).is_some_and(|open| inode(other) == Some(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_one_file_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, other) = (
            folder.path().join("keys.redb"),
            folder.path().join("link"),
            folder.path().join("other"),
        );
        assert!(is_same_file(&file, &file), "also while it is not there");
        assert!(!is_same_file(&file, &other), "two that are absent are two");
        assert!(is_same_file(&file, &folder.path().join("./keys.redb")));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(is_same_file(&file, &link));
        assert!(!is_same_file(&file, &other));
    }
}
