//! How a key gets from the store into the cache: once for everybody who waits for it.
//!
//! A fetch in flight is known by its name *and* a number. Whoever changes a key forgets the flight ([`Core::forget`]), so
//! that it lands for those who wait for it already, but neither fills the cache nor serves anybody who comes later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kes_keystore::{Connected, EntryName, KeyStore, Maintenance, StoreError};
use kes_types::{Clock, KeyName};
use tokio::sync::{Semaphore, watch};

use crate::cache::{Cache, CacheKey, CacheSettings, CacheStats, Cached, Instant, KeySet, Scope};
use crate::error::{Doing, KeyringError, share};
use crate::reach::{Begin, Reach};
use crate::tasks::Tasks;
use crate::upkeep::UNDELETES_AT_ONCE;

/// How long the store may take to answer a read. Below the time that a request has, so that its client learns why; above
/// what a store that bounds itself takes, since that knows better what it waited for.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(12);
/// How long the store may take to give a sign of life.
const PING_DEADLINE: Duration = Duration::from_secs(5);

type Outcome = Result<Arc<Cached>, Arc<StoreError>>;
type Flight = watch::Receiver<Option<Outcome>>;
type Ping = watch::Receiver<Option<Result<Duration, Arc<StoreError>>>>;

/// What requests and background tasks share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    pub(crate) cache: Cache,
    pub(crate) reach: Reach,
    /// Guards which fetch may fill which cache entry: an entry changes only while this is held.
    flights: Mutex<HashMap<CacheKey, (u64, Flight)>>,
    next_flight: AtomicU64,
    /// The latest ping.
    ping: Mutex<Option<Ping>>,
    pub(crate) reads: Tasks,
    pub(crate) writes: Tasks,
    hits: AtomicU64,
    misses: AtomicU64,
    pub(crate) maintenance: Option<Arc<dyn Maintenance>>,
    /// Turns to bring back deleted keys.
    pub(crate) undeletes: Semaphore,
}

impl Core {
    pub(crate) fn new(connected: Connected, settings: &CacheSettings, clock: Arc<dyn Clock>) -> Self {
        let Connected { store, maintenance } = connected;
        let now = clock.monotonic().into();
        Self {
            store,
            clock,
            cache: Cache::new(settings),
            reach: Reach::new(now),
            flights: Mutex::default(),
            next_flight: AtomicU64::new(0),
            ping: Mutex::default(),
            reads: Tasks::default(),
            writes: Tasks::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            maintenance,
            undeletes: Semaphore::new(UNDELETES_AT_ONCE),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.monotonic().into()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.cache.len(),
            evicted: self.cache.evicted(),
            online: self.reach.outage().is_none(),
        }
    }

    /// The key, from the cache or else from the store.
    pub(crate) async fn key(
        self: &Arc<Self>,
        scope: &Scope,
        name: &KeyName,
    ) -> Result<Arc<Cached>, KeyringError> {
        if let Some(entry) = self.cached(scope, name) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(entry);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        // In a box, so that the state of a request that hits stays small.
        Box::pin(self.missing_key(scope, name))
            .await
            .map_err(|error| Doing::Read.failed(error))
    }

    /// The key, if the cache has it and it may be used now. That is a use.
    fn cached(&self, scope: &Scope, name: &KeyName) -> Option<Arc<Cached>> {
        let entry = self.cache.get(scope, name)?;
        let now = self.now();
        if !self.cache.times.is_fresh(&entry, now) {
            let outage = self.reach.outage()?;
            let times = &self.cache.times;
            if !outage.begins().any(|begin| times.outlives(&entry, now, begin)) {
                return None;
            }
        }
        entry.touch(now);
        Some(entry)
    }

    async fn missing_key(self: &Arc<Self>, scope: &Scope, name: &KeyName) -> Result<Arc<Cached>, StoreError> {
        let mut outages = self.reach.subscribe();
        let outage = outages.borrow().clone();
        if let Some(outage) = outage {
            // It may have been found since the caller looked, and be what makes the entry usable.
            return self.cached(scope, name).ok_or_else(|| outage.error());
        }
        let mut flight = match self.join(
            CacheKey {
                scope: scope.clone(),
                name: name.clone(),
            },
            None,
        ) {
            Joined::Landed(entry) => return Ok(entry),
            Joined::Flight(flight) => flight,
        };
        let failure = tokio::select! {
            biased;
            landed = flight.wait_for(Option::is_some) => match landed.as_deref() {
                Ok(Some(Ok(entry))) => {
                    entry.touch(self.now());
                    return Ok(Arc::clone(entry));
                }
                Ok(Some(Err(error))) => share(error),
                Ok(None) | Err(_) => self.lost_task(),
            },
            // The flight may hang for long; the outage says already how it ends.
            Ok(outage) = outages.wait_for(Option::is_some) => match &*outage {
                Some(outage) => outage.error(),
                None => self.lost_task(),
            },
        };
        // The entry may have expired only because the store could not renew it.
        if failure.is_outage() {
            self.cached(scope, name).ok_or(failure)
        } else {
            Err(failure)
        }
    }

    /// The flight that fetches `key`; a new one if there is none. A refresh names the entry that it renews: fetching it
    /// again is not a use.
    fn join(self: &Arc<Self>, key: CacheKey, renewed: Option<&Cached>) -> Joined {
        let mut flights = self.flights();
        // One may have landed since the caller looked.
        if renewed.is_none()
            && let Some(entry) = self.cached(&key.scope, &key.name)
        {
            return Joined::Landed(entry);
        }
        if let Some((_, flight)) = flights.get(&key) {
            return Joined::Flight(flight.clone());
        }
        let number = self.next_flight.fetch_add(1, Ordering::Relaxed);
        let (outcome, flight) = watch::channel(None);
        flights.insert(key.clone(), (number, flight.clone()));
        let start = self.now();
        let last_used = renewed.map_or(start, Cached::last_used);
        // Made here and moved into the task, so that it acts even if the task never runs.
        let landing = Landing {
            core: Arc::clone(self),
            key,
            number,
        };
        self.reads.spawn(async move {
            let fetched = landing.core.fetch(&landing.key, start, last_used).await;
            landing.land(&fetched, start);
            outcome.send_replace(Some(fetched));
        });
        Joined::Flight(flight)
    }

    async fn fetch(&self, key: &CacheKey, start: Instant, last_used: Instant) -> Outcome {
        let name = EntryName::of_key(&key.name);
        let entry = self.within(READ_DEADLINE, self.store.get(&name)).await;
        match &entry {
            Ok(_) | Err(StoreError::NotFound) => self.reach.answered(start),
            Err(_) => {}
        }
        let keys = KeySet::decode(entry.map_err(Arc::new)?.value.expose_secret()).map_err(|error| {
            Arc::new(StoreError::Corrupt {
                reason: error.to_string(),
            })
        })?;
        Ok(Arc::new(Cached::new(keys, start, last_used)))
    }

    /// Fetches again what has outlived its time, unless somebody has done so or it is gone. Whether that is settled: a
    /// store that only failed to answer has to be asked again.
    pub(crate) async fn refresh(self: &Arc<Self>, key: CacheKey) -> bool {
        let Some(entry) = self.cache.get(&key.scope, &key.name) else {
            return true;
        };
        if self.cache.times.is_young(&entry, self.now()) {
            return true;
        }
        let Joined::Flight(mut flight) = self.join(key, Some(&entry)) else {
            return true;
        };
        match flight.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(_))) => true,
            Ok(Some(Err(error))) => forbids_use(error),
            Ok(None) | Err(_) => false,
        }
    }

    /// Makes sure that what was read of the key so far is not used any longer by anybody who asks from now on: neither
    /// from a fetch in flight nor, if `cached_too`, from the cache.
    pub(crate) fn forget(&self, key: &CacheKey, cached_too: bool) {
        let mut flights = self.flights();
        flights.remove(key);
        if cached_too {
            self.cache.remove(key);
        }
    }

    /// Removes an entry that nobody may use any longer.
    pub(crate) fn expire(&self, key: &CacheKey, entry: &Arc<Cached>) {
        let now = self.now();
        let times = &self.cache.times;
        let outlives = |begin| times.outlives(entry, now, begin);
        let may_be_used = match self.reach.outage() {
            _ if times.is_fresh(entry, now) => true,
            Some(outage) => outage.begins().any(outlives),
            // An outage that nobody has found yet may make it usable again.
            None => {
                let unfound = Begin {
                    found: now,
                    last_contact: self.reach.last_contact(),
                };
                outlives(unfound) || self.reach.unrefreshed().is_some_and(outlives)
            }
        };
        if !may_be_used {
            self.cache.remove_same(key, entry);
        }
    }

    /// Asks the store for a sign of life and draws the conclusions. Says how long the answer took. Whoever asks while a ping
    /// is under way shares it.
    pub(crate) async fn ping(self: &Arc<Self>) -> Result<Duration, Arc<StoreError>> {
        let mut ping = self.join_ping();
        match ping.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(Arc::new(self.lost_task())),
        }
    }

    /// The ping under way; a new one if there is none.
    fn join_ping(self: &Arc<Self>) -> Ping {
        // Guards one value, which no panic leaves half changed.
        let mut current = self.ping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ping) = &*current {
            // One that panicked or was stopped has nobody any more who could send its outcome.
            let is_under_way = ping.borrow().is_none() && ping.has_changed().is_ok();
            if is_under_way {
                return ping.clone();
            }
        }
        let (outcome, ping) = watch::channel(None);
        *current = Some(ping.clone());
        let core = Arc::clone(self);
        self.reads.spawn(async move {
            let answer = core.ping_alone().await;
            outcome.send_replace(Some(answer));
        });
        ping
    }

    async fn ping_alone(&self) -> Result<Duration, Arc<StoreError>> {
        let start = self.clock.monotonic();
        let asked = start.into();
        match self.within(PING_DEADLINE, self.store.ping()).await {
            Ok(()) => {
                self.reach.answered(asked);
                Ok(self.clock.monotonic().since(start))
            }
            Err(error) => {
                let error = Arc::new(error);
                // One that is told late says nothing about a store that has answered since; the next poll will tell.
                if error.is_outage() && !self.reach.answered_after(asked) {
                    self.reach.lost(&error, self.now());
                }
                Err(error)
            }
        }
    }

    /// Waits for the store, but not for ever.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| {
            let source = format!("no answer within {} seconds", deadline.as_secs()).into();
            Err(StoreError::Unreachable {
                store: self.store.to_string(),
                source,
            })
        })
    }

    /// Has the store looked at, if `error` makes one think that it is out of reach.
    pub(crate) fn suspect(&self, error: &StoreError) {
        if error.is_outage() {
            self.reach.suspect();
        }
    }

    /// As [`Self::suspect`], unless the store has answered a question that was put after `asked`.
    pub(crate) fn suspect_since(&self, asked: Instant, error: &StoreError) {
        if !self.reach.answered_after(asked) {
            self.suspect(error);
        }
    }

    /// The error for a listing that does not get on.
    pub(crate) fn stuck(&self) -> StoreError {
        StoreError::Backend {
            store: self.store.to_string(),
            source: "the listing does not advance".into(),
        }
    }

    /// The error for a task that panicked or was stopped before it could answer.
    pub(crate) fn lost_task(&self) -> StoreError {
        StoreError::Backend {
            store: self.store.to_string(),
            source: "the operation was interrupted".into(),
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<CacheKey, (u64, Flight)>> {
        // No panic leaves the map half changed.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Joined {
    Landed(Arc<Cached>),
    Flight(Flight),
}

/// Takes a flight off the list, however it ends.
struct Landing {
    core: Arc<Core>,
    key: CacheKey,
    number: u64,
}

impl Landing {
    /// Draws the conclusions of a fetch, before anybody hears of it.
    fn land(&self, outcome: &Outcome, asked: Instant) {
        let mut flights = self.core.flights();
        if self.take_off(&mut flights) {
            match outcome {
                Ok(entry) => self.core.cache.insert(self.key.clone(), Arc::clone(entry)),
                Err(error) if forbids_use(error) => self.core.cache.remove(&self.key),
                Err(_) => {}
            }
        }
        drop(flights);
        if let Err(error) = outcome
            && error.is_outage()
        {
            if self.core.reach.answered_after(asked) {
                self.core.reach.suspect();
            } else {
                self.core.reach.lost(error, self.core.now());
            }
        }
    }

    /// Whether the flight was still on the list.
    fn take_off(&self, flights: &mut HashMap<CacheKey, (u64, Flight)>) -> bool {
        let listed = flights
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number);
        if listed {
            flights.remove(&self.key);
        }
        listed
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.core.flights();
        self.take_off(&mut flights);
    }
}

/// Whether the failure says that the key must not be used any longer, not even in an outage that may follow.
fn forbids_use(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound
        | StoreError::Disabled { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Denied { .. } => true,
        StoreError::Exists
        | StoreError::Unreachable { .. }
        | StoreError::Sealed { .. }
        | StoreError::Throttled { .. }
        | StoreError::AuthFailed { .. }
        | StoreError::InvalidName { .. }
        | StoreError::Backend { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use kes_crypto::{Algorithm, KeyVersion};
    use kes_keystore::MemoryStore;
    use kes_types::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_key_is_usable_also_when_the_outage_is_found_after_the_cache_was_asked() {
        let clock = Arc::new(ManualClock::default());
        let settings = CacheSettings {
            offline: Duration::from_secs(3600),
            ..CacheSettings::default()
        };
        let core = Arc::new(Core::new(
            Arc::new(MemoryStore::new()).into(),
            &settings,
            clock.clone(),
        ));
        core.reach.monitor_started();
        let (scope, name) = (Scope::default(), KeyName::parse("key").unwrap());
        let version = KeyVersion::generate(Algorithm::Aes256, clock.now(), "me").unwrap();
        let keys = KeySet::decode(version.encode().expose_secret()).unwrap();
        let entry = Cached::new(keys, core.now(), core.now());
        let key = CacheKey {
            scope: scope.clone(),
            name: name.clone(),
        };
        core.cache.insert(key, Arc::new(entry));

        clock.advance(Duration::from_secs(31));
        assert!(core.cached(&scope, &name).is_none());
        let cause = Arc::new(StoreError::Sealed {
            store: "store".to_owned(),
        });
        core.reach.lost(&cause, core.now());
        core.missing_key(&scope, &name).await.unwrap();
    }
}
