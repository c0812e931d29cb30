//! The store as servers use it: an engine whose values are sealed.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{
    Backup, Entry, EntryName, KeyStore, Maintenance, Page, StoreError, StoreGauges, StoreInfo,
};
use kes_seal::{OpenError, Resealed, Sealed, Seals};
use kes_types::Clock;

use crate::backup::{Backups, hex};
use crate::blocking::blocking;
use crate::engine::{Engine, Settings};
use crate::error::ConnectError;
use crate::file::{self, FileMedium, NewFile};
use crate::medium::Medium;

/// Where the store is, what it is sealed with, and what happens to deleted keys.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file. Its folder must exist.
    pub path: PathBuf,
    /// The first one wraps the root key, any one unwraps it.
    pub seals: Seals,
    /// How long deleted keys can be brought back.
    pub undelete: Duration,
}

impl Config {
    fn settings(&self) -> Settings {
        Settings {
            path: self.path.clone(),
            undelete: self.undelete,
        }
    }
}

/// A key store in one file that is encrypted at rest.
pub struct EmbeddedStore {
    sealed: Sealed<Engine>,
    backups: Backups,
    clock: Arc<dyn Clock>,
}

impl EmbeddedStore {
    /// Makes a new store. It appears under its name when it is whole.
    ///
    /// # Errors
    /// When there is something at the path, which stays as it is, or the store cannot be made.
    pub async fn create(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let new = {
            let path = config.path.clone();
            blocking(move || NewFile::create(&path)).await?
        };
        let store = Self::create_on(new.medium(), config, clock).await?;
        match blocking(move || new.publish()).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Opens a store that is there, and reseals it one step if its seals are not those of `config`.
    ///
    /// # Errors
    /// When there is none, another process has it open, it is damaged, or none of the seals unwraps its root key. Nothing is
    /// changed then.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let medium = {
            let path = config.path.clone();
            blocking(move || {
                file::remove_stale_beside(&path);
                FileMedium::open(&path)
            })
            .await?
        };
        Self::open_on(Arc::new(medium), config, clock).await
    }

    /// Opens a store that is there to read only, such as for copying it: not a byte of it is changed, also if its seals are
    /// not those of `config`, and writes fail.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn examine(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let medium = {
            let path = config.path.clone();
            blocking(move || FileMedium::open(&path)).await?
        };
        let engine = Engine::examine(Arc::new(medium), config.settings(), Arc::clone(&clock)).await?;
        let engine = Arc::new(engine);
        match Sealed::open(Arc::clone(&engine), &config.seals).await {
            Ok(sealed) => Ok(Self::of(sealed, clock)),
            Err(error) => {
                engine.close().await;
                Err(error.into())
            }
        }
    }

    /// Opens the store, or makes a new one where there is none, with a warning in the log.
    ///
    /// # Errors
    /// As for [`open`](Self::open) and [`create`](Self::create).
    pub async fn connect(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        match Self::open(config.clone(), Arc::clone(&clock)).await {
            Err(ConnectError::Absent { .. }) => {}
            result => return result,
        }
        let path = config.path.clone();
        match Self::create(config.clone(), Arc::clone(&clock)).await {
            Ok(store) => {
                tracing::warn!(
                    path = %path.display(),
                    "there was no key store: a new, empty one was made. If there should have been one, stop the server and find it"
                );
                Ok(store)
            }
            // Somebody was faster.
            Err(ConnectError::Exists { .. }) => Self::open(config, clock).await,
            Err(error) => Err(error),
        }
    }

    /// Makes a new store on an empty medium.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    #[doc(hidden)]
    pub async fn create_on(
        medium: Arc<dyn Medium>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let engine = Engine::create_on(medium, config.settings(), Arc::clone(&clock)).await?;
        let engine = Arc::new(engine);
        match Sealed::initialise(Arc::clone(&engine), &config.seals, clock.now()).await {
            Ok(sealed) => Ok(Self::of(sealed, clock)),
            Err(error) => {
                engine.close().await;
                Err(error.into())
            }
        }
    }

    /// Opens the store on a medium.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    #[doc(hidden)]
    pub async fn open_on(
        medium: Arc<dyn Medium>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let engine = Engine::open_on(medium, config.settings(), Arc::clone(&clock)).await?;
        let engine = Arc::new(engine);
        let opened = async {
            let sealed = Sealed::open(Arc::clone(&engine), &config.seals).await?;
            match sealed.reseal(&config.seals).await {
                Ok(_) => {}
                // As with keys: what cannot be written now does not keep from reading.
                Err(
                    error @ OpenError::Store {
                        source: StoreError::Backend { .. },
                        ..
                    },
                ) => {
                    tracing::error!(
                        store = %engine,
                        error = &error as &dyn std::error::Error,
                        "the store was not resealed, and will be with the next start or reload"
                    );
                }
                Err(error) => return Err(error),
            }
            Ok(sealed)
        };
        match opened.await {
            Ok(sealed) => {
                engine.purge().await;
                Ok(Self::of(sealed, clock))
            }
            Err(error) => {
                engine.close().await;
                Err(error.into())
            }
        }
    }

    fn of(sealed: Sealed<Engine>, clock: Arc<dyn Clock>) -> Self {
        Self {
            sealed,
            backups: Backups::new(),
            clock,
        }
    }

    /// Takes on other seals and another period, and reseals one step.
    ///
    /// # Errors
    /// When the header could not be replaced. The store goes on with the seals and the period that it had: a shorter one
    /// takes deleted keys away for good.
    pub async fn reconfigure(&self, seals: Seals, undelete: Duration) -> Result<Resealed, ConnectError> {
        let resealed = self.sealed.reseal(&seals).await?;
        self.engine().set_undelete(undelete).await;
        Ok(resealed)
    }

    /// Puts `value` in the place of what is stored under `name`, in one step: at no time is there neither. Servers never do
    /// that, since values are immutable; it is for whoever copies a store over another one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is nothing to replace. Nothing is changed then, or if it fails.
    pub async fn replace(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let sealed = self.sealed.key().seal_value(name.as_str(), value);
        let sealed = sealed.map_err(|source| StoreError::Backend {
            store: self.to_string(),
            source: Box::new(source),
        })?;
        self.engine().replace_value(name, sealed).await
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.engine().path()
    }

    fn engine(&self) -> &Arc<Engine> {
        self.sealed.store()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeyStore for EmbeddedStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.sealed.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.sealed.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.sealed.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.sealed.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.sealed.ping().await
    }

    async fn close(&self) {
        self.sealed.close().await;
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Maintenance for EmbeddedStore {
    async fn info(&self) -> Result<StoreInfo, StoreError> {
        let StoreGauges {
            keys,
            deleted,
            size,
            last_backup,
            commits: _,
        } = self.engine().gauges();
        Ok(StoreInfo {
            kind: KIND,
            location: self.path().display().to_string(),
            format: self.sealed.format(),
            id: hex(&self.sealed.key().store_id()),
            seals: self.sealed.seals(),
            keys,
            deleted,
            undelete: self.engine().undelete_period(),
            size,
            last_backup,
        })
    }

    async fn undelete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.engine().undelete(name).await
    }

    async fn backup(&self) -> Result<Backup, StoreError> {
        let engine = Arc::clone(self.engine());
        let clock = Arc::clone(&self.clock);
        let completed = async move {
            if let Err(error) = engine.record_backup(clock.now()).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(store = %engine, error, "the time of the backup was not written down");
            }
        };
        let snapshot = self.engine().snapshot();
        self.backups
            .begin(
                self.to_string(),
                Arc::clone(self.sealed.key()),
                snapshot,
                completed,
            )
            .await
    }

    fn gauges(&self) -> StoreGauges {
        self.engine().gauges()
    }
}

impl fmt::Display for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sealed.fmt(f)
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// What the configuration calls this kind of store.
const KIND: &str = "embedded";
