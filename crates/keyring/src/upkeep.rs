//! [`Upkeep`]: what operators ask of a key store that is this program's own to look after.

use std::sync::Arc;

use kes_keystore::{Backup, EntryName, Maintenance, StoreError, StoreGauges, StoreInfo};
use kes_types::KeyName;

use crate::cache::{CacheKey, Scope};
use crate::fetch::READ_DEADLINE;
use crate::keyring::WRITE_DEADLINE;
use crate::{Doing, Keyring, KeyringError};

/// How many deleted keys are brought back at once, besides what is created and deleted. Whoever wants more waits.
pub(crate) const UNDELETES_AT_ONCE: usize = 16;

/// What operators ask of a key store that is this program's own to look after ([`Keyring::upkeep`]).
#[derive(Clone, Copy, Debug)]
pub struct Upkeep<'a> {
    keyring: &'a Keyring,
    maintenance: &'a Arc<dyn Maintenance>,
}

impl<'a> Upkeep<'a> {
    pub(crate) const fn new(keyring: &'a Keyring, maintenance: &'a Arc<dyn Maintenance>) -> Self {
        Self { keyring, maintenance }
    }

    /// Makes a deleted key usable again. Like every write, it runs to its end although the caller goes away.
    ///
    /// # Errors
    /// [`KeyringError::NotFound`] if the key was not deleted or is gone for good, [`KeyringError::Exists`] if it is there,
    /// else see [`KeyringError`].
    pub async fn undelete(&self, scope: &Scope, name: &KeyName) -> Result<(), KeyringError> {
        let core = Arc::clone(&self.keyring.core);
        let maintenance = Arc::clone(self.maintenance);
        let key = CacheKey {
            scope: scope.clone(),
            name: name.clone(),
        };
        let write = async move {
            let entry = EntryName::of_key(&key.name);
            let in_turn = async {
                let _turn = core.undeletes.acquire().await;
                maintenance.undelete(&entry).await
            };
            let outcome = core.within(WRITE_DEADLINE, in_turn).await;
            // A fetch that began earlier may say that there is no such key.
            core.forget(&key, outcome.is_ok());
            outcome
        };
        self.keyring.write(Doing::Undelete, name, write).await
    }

    /// What there is to know about the store.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn info(&self) -> Result<StoreInfo, KeyringError> {
        self.ask(Doing::Info, self.maintenance.info()).await
    }

    /// Begins a backup. A [`StoreError::Throttled`] says that one is under way already.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn backup(&self) -> Result<Backup, KeyringError> {
        self.ask(Doing::Backup, self.maintenance.backup()).await
    }

    /// Measurements of the store.
    #[must_use]
    pub fn gauges(&self) -> StoreGauges {
        self.maintenance.gauges()
    }

    async fn ask<T>(
        &self,
        doing: Doing,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, KeyringError> {
        let core = &self.keyring.core;
        let asked = core.now();
        core.within(READ_DEADLINE, answer).await.map_err(|error| {
            core.suspect_since(asked, &error);
            doing.failed(error)
        })
    }
}
