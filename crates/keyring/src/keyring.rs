//! [`Keyring`]: creating, importing, describing, deleting and listing keys, and the state of the store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kes_crypto::{Algorithm, ImportError, KeyVersion};
use kes_keystore::{Connected, EntryName, StoreError};
use kes_types::{Clock, KeyName, ListRequest, Timestamp};

use crate::cache::{CacheKey, CacheSettings, CacheStats, Scope};
use crate::error::share;
use crate::fetch::Core;
use crate::{Background, Doing, KeyringError, Upkeep};

/// How long the store may take to write. Long, because how a write that was given up has ended is unknown.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// Named master keys, over a key store and a cache of parsed keys. See the crate documentation.
///
/// What is dropped half-way does no harm: a write runs to its end, and a fetch to the end of those who still wait.
#[derive(Debug)]
pub struct Keyring {
    pub(crate) core: Arc<Core>,
}

/// What there is to know about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: KeyName,
    /// What it encrypts with.
    pub algorithm: Algorithm,
    /// When it was created.
    pub created_at: Timestamp,
    /// The identity that created it; empty if that was not recorded.
    pub created_by: String,
    /// Its newest version; `None` while it has only one.
    pub version: Option<String>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// Names in byte order.
    pub names: Vec<KeyName>,
    /// The text that asks for the next page ([`ListRequest::parse`]); `None` on the last one.
    pub continue_at: Option<String>,
}

impl Keyring {
    /// A key ring over `store`. Nothing is asked of the store before somebody asks for a key.
    #[must_use]
    pub fn new(store: impl Into<Connected>, settings: CacheSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            core: Arc::new(Core::new(store.into(), &settings, clock)),
        }
    }

    /// Starts what has to go on in the background, until the guard is dropped.
    pub fn start(&self) -> Background {
        Background::start(Arc::clone(&self.core))
    }

    /// Applies other settings to the cache as it is.
    pub fn reconfigure(&self, settings: CacheSettings) {
        self.core.cache.reconfigure(&settings);
    }

    /// Creates a random key with the algorithm that this machine does best.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn create(
        &self,
        scope: &Scope,
        name: &KeyName,
        created_by: &str,
    ) -> Result<KeyInfo, KeyringError> {
        let key = KeyVersion::generate(Algorithm::preferred(), self.core.clock().now(), created_by)?;
        self.store_key(scope, name, key).await
    }

    /// Stores a key that was made elsewhere.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn import(
        &self,
        scope: &Scope,
        name: &KeyName,
        key: &[u8],
        algorithm: Algorithm,
        created_by: &str,
    ) -> Result<KeyInfo, KeyringError> {
        let now = self.core.clock().now();
        let key = KeyVersion::import(key, algorithm, now, created_by).map_err(|error| match error {
            ImportError::KeySize => KeyringError::KeySize(algorithm),
            ImportError::Random(error) => KeyringError::Random(error),
        })?;
        self.store_key(scope, name, key).await
    }

    async fn store_key(
        &self,
        scope: &Scope,
        name: &KeyName,
        key: KeyVersion,
    ) -> Result<KeyInfo, KeyringError> {
        let info = describe(name, &key);
        let core = Arc::clone(&self.core);
        let cache_key = CacheKey {
            scope: scope.clone(),
            name: name.clone(),
        };
        let write = async move {
            let entry = EntryName::of_key(&cache_key.name);
            let outcome = core
                .within(WRITE_DEADLINE, core.store.create(&entry, &key.encode()))
                .await;
            // A fetch that began earlier may say that there is no such key. And a cached key of this name, if the write
            // succeeded, is one that another server has deleted. A failed write proves nothing about it.
            core.forget(&cache_key, outcome.is_ok());
            outcome
        };
        self.write(Doing::Create, name, write).await.map(|()| info)
    }

    /// What there is to know about a key. Counts as a use.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn describe(&self, scope: &Scope, name: &KeyName) -> Result<KeyInfo, KeyringError> {
        let entry = self.core.key(scope, name).await?;
        Ok(describe(name, entry.keys.newest()))
    }

    /// Deletes a key, from the cache first.
    ///
    /// # Errors
    /// See [`KeyringError`]. The key has left the cache also then.
    pub async fn delete(&self, scope: &Scope, name: &KeyName) -> Result<(), KeyringError> {
        let core = Arc::clone(&self.core);
        let key = CacheKey {
            scope: scope.clone(),
            name: name.clone(),
        };
        core.forget(&key, true);
        let write = async move {
            let outcome = core
                .within(WRITE_DEADLINE, core.store.delete(&EntryName::of_key(&key.name)))
                .await;
            // Somebody may have read the key while the store had it still.
            core.forget(&key, true);
            outcome
        };
        self.write(Doing::Delete, name, write).await
    }

    /// Lists at most `limit` keys.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn list(
        &self,
        scope: &Scope,
        request: &ListRequest,
        limit: NonZeroUsize,
    ) -> Result<KeyPage, KeyringError> {
        let _the_only_one = scope;
        let mut names: Vec<KeyName> = Vec::new();
        // The last text that is done with, and the last name: a position that a client made up need not be a name.
        let mut done = request.after().map(str::to_owned);
        let mut after = request.after().and_then(entry_at_or_before);
        loop {
            let Some(room) = NonZeroUsize::new(limit.get() - names.len()) else {
                let continue_at = names.last().map(|last| request.continue_after(last.as_str()));
                return Ok(KeyPage { names, continue_at });
            };
            let asked = self.core.now();
            let page = self
                .core
                .store
                .list(request.prefix(), after.as_ref(), room)
                .await
                .map_err(|error| {
                    self.core.suspect_since(asked, &error);
                    Doing::List.failed(error)
                })?;
            for name in page.names.iter().take(room.get()) {
                // A store that repeats itself or ignores the prefix must not lead clients astray.
                let follows = done.as_deref().is_none_or(|done| name.as_str() > done);
                if follows
                    && name.as_str().starts_with(request.prefix())
                    && let Ok(name) = KeyName::parse(name.as_str())
                {
                    done = Some(name.as_str().to_owned());
                    names.push(name);
                }
            }
            match page.next {
                None => {
                    return Ok(KeyPage {
                        names,
                        continue_at: None,
                    });
                }
                Some(next) if after.as_ref().is_none_or(|after| next > *after) => after = Some(next),
                Some(_) => return Err(Doing::List.failed(self.core.stuck())),
            }
        }
    }

    /// Whether the store answers. While it is known to be out of reach, says so without asking it.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.latency().await.map(drop)
    }

    /// How long the store takes to give a sign of life. Whoever asks while it is awaited shares it.
    ///
    /// # Errors
    /// Why it gives none, as [`Keyring::ready`].
    pub async fn latency(&self) -> Result<Duration, StoreError> {
        if let Some(outage) = self.core.reach.outage() {
            return Err(outage.error());
        }
        self.core.ping().await.map_err(|error| share(&error))
    }

    /// What operators ask of the store; `None` for a store that looks after itself.
    #[must_use]
    pub fn upkeep(&self) -> Option<Upkeep<'_>> {
        let maintenance = self.core.maintenance.as_ref()?;
        Some(Upkeep::new(self, maintenance))
    }

    /// How the cache is doing.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.core.stats()
    }

    /// Lets running writes end, stops everything else, and closes the store. To be called after the last request, once the
    /// [`Background`] is gone.
    pub async fn close(&self) {
        self.core.reads.abort_all();
        self.core.writes.join().await;
        self.core.store.close().await;
    }

    /// Runs a write to its end, whether or not the caller waits for it.
    pub(crate) async fn write(
        &self,
        doing: Doing,
        name: &KeyName,
        write: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) -> Result<(), KeyringError> {
        let name = name.clone();
        let unheard = move |outcome: Result<(), StoreError>| match outcome {
            Ok(()) => {
                tracing::warn!(?doing, key = %name, "succeeded after the client had gone or been answered")
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(?doing, key = %name, error, "failed after the client had gone or been answered");
            }
        };
        let outcome = self
            .core
            .writes
            .run(write, unheard)
            .await
            .unwrap_or_else(|| Err(self.core.lost_task()));
        outcome.map_err(|error| {
            self.core.suspect(&error);
            doing.failed(error)
        })
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // The tasks hold what they belong to, so they would not end with it by themselves.
        self.core.reads.abort_all();
        self.core.writes.abort_all();
    }
}

fn describe(name: &KeyName, key: &KeyVersion) -> KeyInfo {
    KeyInfo {
        name: name.clone(),
        algorithm: key.algorithm(),
        created_at: key.created_at(),
        created_by: key.created_by().to_owned(),
        version: None,
    }
}

/// The entry that no other one stands between and `position`, which may be one itself. `None` for the beginning.
///
/// No name ends in `-`, which is also the first of the characters that names have.
fn entry_at_or_before(position: &str) -> Option<EntryName> {
    EntryName::parse(position.trim_end_matches('-')).ok()
}
