//! The parsed keys in memory, and for how long each may be used.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kes_crypto::{CorruptRecord, KeyVersion};
use kes_types::{KeyName, Monotonic};
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, UnitWeighter};

use crate::KeyringError;
use crate::reach::Begin;

/// Whose keys are meant. There is one scope today; it is part of every cache key so that there can be more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(());

/// How long and how many parsed keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// A key is used at most this long after it was fetched. So this is also how long a deletion by another server can go
    /// unnoticed.
    pub any: Duration,
    /// A key that is not used for this long is dropped. Describing it is a use.
    pub unused: Duration,
    /// While the store is out of reach, a key that could be used when it was last within reach stays usable for this long
    /// from the moment the outage was found, even where `any` and `unused` would end sooner. They count on where they end
    /// later. An outage that begins before the keys that the last one kept have been fetched again continues that one. Zero
    /// for not at all.
    pub offline: Duration,
    /// The most keys to keep; beyond, those least recently used leave.
    pub entries: usize,
}

impl Default for CacheSettings {
    /// Five minutes, 30 seconds unused, no offline use, a million keys.
    fn default() -> Self {
        Self {
            any: Duration::from_secs(5 * 60),
            unused: Duration::from_secs(30),
            offline: Duration::ZERO,
            entries: 1_000_000,
        }
    }
}

/// How the cache is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Requests for a key that the cache had.
    pub hits: u64,
    /// Requests for a key that it had not.
    pub misses: u64,
    /// Keys in memory, those included that have expired and wait to be removed.
    pub entries: usize,
    /// Keys that had to leave because there was no more room.
    pub evicted: u64,
    /// Whether the store is within reach, as far as is known.
    pub online: bool,
}

/// All versions of one key; one today.
#[derive(Debug)]
pub(crate) struct KeySet {
    newest: KeyVersion,
}

impl KeySet {
    pub(crate) fn decode(value: &[u8]) -> Result<Self, CorruptRecord> {
        KeyVersion::decode(value).map(|newest| Self { newest })
    }

    pub(crate) const fn newest(&self) -> &KeyVersion {
        &self.newest
    }

    /// The version called `requested`, the newest one if that is empty.
    pub(crate) fn version(&self, requested: &str) -> Result<&KeyVersion, KeyringError> {
        if requested.is_empty() {
            Ok(&self.newest)
        } else {
            Err(KeyringError::NoSuchVersion)
        }
    }
}

/// A parsed key and its times.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) keys: KeySet,
    /// When the fetch began, so that what another server did while it lasted is not overlooked for longer than `any`.
    fetched: Instant,
    last_used: AtomicInstant,
}

impl Cached {
    pub(crate) const fn new(keys: KeySet, fetched: Instant, last_used: Instant) -> Self {
        Self {
            keys,
            fetched,
            last_used: AtomicInstant::new(last_used),
        }
    }

    pub(crate) fn touch(&self, now: Instant) {
        self.last_used.set(now);
    }

    pub(crate) fn last_used(&self) -> Instant {
        self.last_used.get()
    }
}

/// Nanoseconds of the injected clock: eight bytes an entry, and atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether no more than `time` has passed since `earlier`.
    pub(crate) fn is_within(self, time: Duration, earlier: Self) -> bool {
        self.since(earlier) <= nanos(time)
    }
}

impl From<Monotonic> for Instant {
    fn from(time: Monotonic) -> Self {
        Self(nanos(time.0))
    }
}

/// An [`Instant`] that many threads move.
#[derive(Debug)]
pub(crate) struct AtomicInstant(AtomicU64);

impl AtomicInstant {
    pub(crate) const fn new(instant: Instant) -> Self {
        Self(AtomicU64::new(instant.0))
    }

    pub(crate) fn get(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, instant: Instant) {
        self.0.store(instant.0, Ordering::Relaxed);
    }

    /// Sets it, unless it is later already.
    pub(crate) fn advance_to(&self, instant: Instant) {
        self.0.fetch_max(instant.0, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The times of [`CacheSettings`], which a reload changes while requests read them.
#[derive(Debug)]
pub(crate) struct Times {
    any: AtomicU64,
    unused: AtomicU64,
    offline: AtomicU64,
}

impl Times {
    fn new(settings: &CacheSettings) -> Self {
        let times = Self {
            any: AtomicU64::new(0),
            unused: AtomicU64::new(0),
            offline: AtomicU64::new(0),
        };
        times.set(settings);
        times
    }

    fn set(&self, settings: &CacheSettings) {
        let CacheSettings {
            any,
            unused,
            offline,
            entries: _,
        } = *settings;
        self.any.store(nanos(any), Ordering::Relaxed);
        self.unused.store(nanos(unused), Ordering::Relaxed);
        self.offline.store(nanos(offline), Ordering::Relaxed);
    }

    pub(crate) fn offline(&self) -> Duration {
        Duration::from_nanos(self.offline.load(Ordering::Relaxed))
    }

    /// How often to look for expired entries: often enough that they do not outnumber the others, and no oftener.
    pub(crate) fn sweep_interval(&self) -> Duration {
        let shortest = self
            .any
            .load(Ordering::Relaxed)
            .min(self.unused.load(Ordering::Relaxed));
        Duration::from_nanos(shortest / 2).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// Whether `entry` may be used at `now` while the store is within reach.
    pub(crate) fn is_fresh(&self, entry: &Cached, now: Instant) -> bool {
        self.is_young(entry, now) && self.is_in_use(entry, now)
    }

    pub(crate) fn is_young(&self, entry: &Cached, now: Instant) -> bool {
        now.since(entry.fetched) <= self.any.load(Ordering::Relaxed)
    }

    pub(crate) fn is_in_use(&self, entry: &Cached, now: Instant) -> bool {
        now.since(entry.last_used()) <= self.unused.load(Ordering::Relaxed)
    }

    /// Whether `entry` may be used at `now` in an outage that began at `begin`. What expired between the last contact and the
    /// finding of it counts as usable: the outage may have begun in between, and an entry whose renewal is what finds the
    /// outage would otherwise be lost to it.
    pub(crate) fn outlives(&self, entry: &Cached, now: Instant, begin: Begin) -> bool {
        let offline = self.offline();
        !offline.is_zero() && now.is_within(offline, begin.found) && self.is_fresh(entry, begin.last_contact)
    }
}

/// The name of a key within its scope, whole: a hash of it would let two names share an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) scope: Scope,
    pub(crate) name: KeyName,
}

/// A [`CacheKey`] to look up, without cloning its parts.
struct Lookup<'a> {
    scope: &'a Scope,
    name: &'a KeyName,
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scope.hash(state);
        self.name.hash(state);
    }
}

impl Equivalent<CacheKey> for Lookup<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.scope == &key.scope && self.name == &key.name
    }
}

/// Parsed keys by name.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: quick_cache::sync::Cache<CacheKey, Arc<Cached>, UnitWeighter, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    /// The most entries seen. Going through all costs as much later on: the room that they had stays.
    most: AtomicUsize,
    pub(crate) times: Times,
}

impl Cache {
    pub(crate) fn new(settings: &CacheSettings) -> Self {
        let capacity = settings.entries.max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            // A shard is locked while it grows, so a million keys are spread over more of them than there are cores.
            .shards(64)
            // A fifth of the room for new keys, so that age decides more than in a cache tuned for scans.
            .hot_allocation(0.8)
            .ghost_allocation(0.1)
            .build()
            .expect("both capacities are set");
        let evictions = Evictions::default();
        let hasher = DefaultHashBuilder::default();
        Self {
            entries: quick_cache::sync::Cache::with_options(options, UnitWeighter, hasher, evictions.clone()),
            evictions,
            most: AtomicUsize::new(0),
            times: Times::new(settings),
        }
    }

    pub(crate) fn reconfigure(&self, settings: &CacheSettings) {
        self.times.set(settings);
        self.entries.set_capacity(settings.entries.max(1) as u64);
    }

    pub(crate) fn get(&self, scope: &Scope, name: &KeyName) -> Option<Arc<Cached>> {
        self.entries.get(&Lookup { scope, name })
    }

    pub(crate) fn insert(&self, key: CacheKey, entry: Arc<Cached>) {
        let mut inserted = Some(key.clone());
        self.entries.insert_with_lifecycle(key, entry, &mut inserted);
    }

    pub(crate) fn remove(&self, key: &CacheKey) {
        self.entries.remove(key);
    }

    /// Removes the entry if it is still `seen`.
    pub(crate) fn remove_same(&self, key: &CacheKey, seen: &Arc<Cached>) {
        self.entries.remove_if(key, |entry| Arc::ptr_eq(entry, seen));
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evictions.0.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether going through all entries takes long enough to keep others waiting.
    pub(crate) fn is_large(&self) -> bool {
        const LARGE: usize = 2048;
        let now = self.len();
        self.most.fetch_max(now, Ordering::Relaxed).max(now) > LARGE
    }

    /// All entries, one at a time, without keeping a lock in between.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CacheKey, Arc<Cached>)> + Send + '_ {
        self.entries.iter()
    }
}

/// Counts the entries that leave for want of room.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<CacheKey, Arc<Cached>> for Evictions {
    /// What is inserted: what it takes the place of leaves, too, but not for want of room.
    type RequestState = Option<CacheKey>;

    fn on_evict(&self, inserted: &mut Option<CacheKey>, leaves: CacheKey, _: Arc<Cached>) {
        if inserted.as_ref() != Some(&leaves) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
