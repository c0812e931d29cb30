//! A key ring, the store under it, and the clock that it goes by.

use std::sync::Arc;
use std::time::Duration;

use kes_crypto::{Algorithm, KeyVersion};
use kes_keyring::{Background, CacheSettings, Keyring, KeyringError, Scope};
use kes_keystore::StoreOp;
use kes_testkit::FaultyStore;
use kes_types::{Clock as _, KeyName, ManualClock};

/// Long enough for everything that is ready to run to do so, and too short for any timer of the key ring.
const A_MOMENT: Duration = Duration::from_millis(1);

pub(crate) struct Rig {
    pub(crate) store: FaultyStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ring: Arc<Keyring>,
    pub(crate) background: Option<Background>,
}

impl Rig {
    /// With the default settings and without a background.
    pub(crate) fn new() -> Self {
        Self::with(CacheSettings::default())
    }

    pub(crate) fn with(settings: CacheSettings) -> Self {
        let (store, clock) = (FaultyStore::new(), Arc::new(ManualClock::default()));
        let ring = Arc::new(Keyring::new(Arc::new(store.clone()), settings, clock.clone()));
        Self {
            store,
            clock,
            ring,
            background: None,
        }
    }

    /// With a background, and with keys usable for an hour of an outage.
    pub(crate) fn watched() -> Self {
        let hour = Duration::from_secs(3600);
        Self::with(CacheSettings {
            offline: hour,
            ..CacheSettings::default()
        })
        .watch()
    }

    pub(crate) fn watch(mut self) -> Self {
        self.background = Some(self.ring.start());
        self
    }

    /// A key made by another server; `created_by` tells it from others of that name.
    pub(crate) fn put(&self, name: &str, created_by: &str) {
        self.store.put(name, key(created_by).encode().expose_secret());
    }

    /// Uses the key and says which one it was.
    pub(crate) async fn creator(&self, name: &str) -> Result<String, KeyringError> {
        creator(&self.ring, name).await
    }

    /// Lets the clock of the cache move on, but no timer.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Lets time pass for the cache and for timers alike.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::sleep(time).await;
    }

    /// Lets everything run that is ready to.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(A_MOMENT).await;
    }

    pub(crate) fn reads(&self) -> usize {
        self.store.calls(StoreOp::Get)
    }

    pub(crate) fn pings(&self) -> usize {
        self.store.calls(StoreOp::Ping)
    }
}

pub(crate) async fn creator(ring: &Keyring, name: &str) -> Result<String, KeyringError> {
    ring.describe(&Scope::default(), &named(name))
        .await
        .map(|info| info.created_by)
}

pub(crate) fn key(created_by: &str) -> KeyVersion {
    KeyVersion::generate(Algorithm::Aes256, ManualClock::default().now(), created_by).unwrap()
}

pub(crate) fn named(name: &str) -> KeyName {
    KeyName::parse(name).unwrap()
}

pub(crate) fn is_outage<T>(result: &Result<T, KeyringError>) -> bool {
    matches!(result, Err(KeyringError::Store { source, .. }) if source.is_outage())
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
