//! Any sequence of events against a model that does one thing at a time.
//!
//! Timers stand still: the only time that passes, other than where the store comes back, is that of the cache's clock.

use std::collections::HashMap;
use std::sync::Arc;

use kes_keyring::{CacheSettings, KeyringError, Scope};
use kes_keystore::StoreOp;
use kes_testkit::{Failure, Gate, Step};
use proptest::prelude::*;
use tokio::task::JoinHandle;

use crate::rig::{Rig, creator, is_outage, named, seconds};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ANY: u64 = 100;
const UNUSED: u64 = 40;

#[derive(Clone, Debug)]
enum Event {
    Use(&'static str),
    Create(&'static str),
    Delete(&'static str),
    CreateElsewhere(&'static str),
    DeleteElsewhere(&'static str),
    Advance(u64),
    /// The store stops to answer; nobody knows yet.
    GoDown,
    /// Somebody asks whether the store is there.
    Poll,
    /// The store answers again, and it has been found.
    ComeBack,
    /// A fetch begins whose answer takes long.
    BeginSlowFetch(&'static str),
    /// All such answers arrive.
    Land,
}

fn event() -> impl Strategy<Value = Event> {
    let name = proptest::sample::select(&NAMES[..]);
    prop_oneof![
        8 => name.clone().prop_map(Event::Use),
        3 => name.clone().prop_map(Event::Create),
        2 => name.clone().prop_map(Event::Delete),
        1 => name.clone().prop_map(Event::CreateElsewhere),
        1 => name.clone().prop_map(Event::DeleteElsewhere),
        5 => prop_oneof![1..UNUSED, Just(UNUSED), UNUSED + 1..ANY + 20].prop_map(Event::Advance),
        1 => Just(Event::GoDown),
        1 => Just(Event::Poll),
        1 => Just(Event::ComeBack),
        2 => name.prop_map(Event::BeginSlowFetch),
        2 => Just(Event::Land),
    ]
}

#[derive(Clone, Debug)]
struct CachedKey {
    creator: String,
    fetched: u64,
    used: u64,
}

struct SlowFetch {
    name: &'static str,
    gate: Gate,
    waiter: JoinHandle<Result<String, KeyringError>>,
    read: Option<String>,
    start: u64,
    /// False once the key has been written to.
    counts: bool,
    /// What the one who waits has been told before the answer came.
    told: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Key(String),
    Missing,
    Outage,
}

impl Told {
    fn of(result: &Result<String, KeyringError>) -> Self {
        match result {
            Ok(creator) => Self::Key(creator.clone()),
            Err(KeyringError::NotFound) => Self::Missing,
            other if is_outage(other) => Self::Outage,
            other => panic!("{other:?}"),
        }
    }
}

struct Model {
    now: u64,
    offline: u64,
    stored: HashMap<&'static str, String>,
    cached: HashMap<&'static str, CachedKey>,
    down: bool,
    last_contact: u64,
    /// Found when, and the last contact before.
    outage: Option<(u64, u64)>,
    slow: Vec<SlowFetch>,
}

impl Model {
    fn is_fresh(key: &CachedKey, at: u64) -> bool {
        at.saturating_sub(key.fetched) <= ANY && at.saturating_sub(key.used) <= UNUSED
    }

    fn use_cached(&mut self, name: &str) -> Option<Told> {
        let (now, offline, outage) = (self.now, self.offline, self.outage);
        let key = self.cached.get_mut(name)?;
        let kept = outage.is_some_and(|(found, last_contact)| {
            offline > 0 && now - found <= offline && Self::is_fresh(key, last_contact)
        });
        if !kept && !Self::is_fresh(key, now) {
            return None;
        }
        key.used = now;
        Some(Told::Key(key.creator.clone()))
    }

    fn is_slow(&self, name: &str) -> bool {
        self.slow.iter().any(|slow| slow.name == name && slow.counts)
    }

    /// Those who wait are told, and may have a key that the outage makes usable.
    fn lose(&mut self) {
        if self.outage.is_some() {
            return;
        }
        self.outage = Some((self.now, self.last_contact));
        let mut slow = std::mem::take(&mut self.slow);
        for slow in slow.iter_mut().filter(|slow| slow.told.is_none()) {
            slow.told = Some(self.use_cached(slow.name).unwrap_or(Told::Outage));
        }
        self.slow = slow;
    }

    fn use_key(&mut self, name: &'static str) -> Told {
        if let Some(told) = self.use_cached(name) {
            return told;
        }
        if self.outage.is_some() {
            return Told::Outage;
        }
        if self.down {
            self.lose();
            return self.use_cached(name).unwrap_or(Told::Outage);
        }
        self.last_contact = self.now;
        self.fill(name, self.stored.get(name).cloned(), self.now, self.now)
    }

    fn fill(&mut self, name: &'static str, read: Option<String>, fetched: u64, used: u64) -> Told {
        match read {
            Some(creator) => {
                self.cached.insert(
                    name,
                    CachedKey {
                        creator: creator.clone(),
                        fetched,
                        used,
                    },
                );
                Told::Key(creator)
            }
            None => {
                self.cached.remove(name);
                Told::Missing
            }
        }
    }

    fn written(&mut self, name: &str) {
        for slow in self.slow.iter_mut().filter(|slow| slow.name == name) {
            slow.counts = false;
        }
    }

    fn come_back(&mut self) {
        self.down = false;
        self.last_contact = self.now;
        if self.outage.take().is_none() {
            return;
        }
        for name in NAMES {
            let Some(key) = self.cached.get(name).cloned() else {
                continue;
            };
            if self.now - key.fetched > ANY && self.now - key.used <= UNUSED {
                self.fill(name, self.stored.get(name).cloned(), self.now, key.used);
            }
        }
    }
}

struct Run {
    rig: Rig,
    model: Model,
    made: usize,
}

impl Run {
    fn new(offline: u64) -> Self {
        let settings = CacheSettings {
            any: seconds(ANY),
            unused: seconds(UNUSED),
            offline: seconds(offline),
            ..CacheSettings::default()
        };
        let model = Model {
            now: 0,
            offline,
            stored: HashMap::new(),
            cached: HashMap::new(),
            down: false,
            last_contact: 0,
            outage: None,
            slow: Vec::new(),
        };
        Self {
            rig: Rig::with(settings).watch(),
            model,
            made: 0,
        }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Use(name) => {
                // It would wait for the slow one.
                if !self.model.is_slow(name) || self.model.outage.is_some() {
                    let answer = self.rig.creator(name).await;
                    assert_eq!(Told::of(&answer), self.model.use_key(name));
                }
            }
            Event::Create(name) => self.create(name).await,
            Event::Delete(name) => self.delete(name).await,
            Event::CreateElsewhere(name) => {
                let creator = self.next_creator();
                if !self.model.stored.contains_key(name) {
                    self.rig.put(name, &creator);
                    self.model.stored.insert(name, creator);
                }
            }
            Event::DeleteElsewhere(name) => {
                self.rig.store.remove(name);
                self.model.stored.remove(name);
            }
            Event::Advance(by) => {
                self.rig.advance(by);
                self.model.now += by;
            }
            Event::GoDown => {
                self.rig.store.fail(Failure::Unreachable);
                self.model.down = true;
            }
            Event::Poll => {
                let answer = self.rig.ring.ready().await;
                assert_eq!(answer.is_err(), self.model.down || self.model.outage.is_some());
                if self.model.down {
                    self.model.lose();
                } else if self.model.outage.is_none() {
                    self.model.last_contact = self.model.now;
                }
            }
            Event::ComeBack => {
                self.land().await;
                self.rig.store.heal();
                tokio::time::sleep(seconds(11)).await;
                self.model.come_back();
            }
            Event::BeginSlowFetch(name) => self.begin_slow_fetch(name).await,
            Event::Land => self.land().await,
        }
        // Lets those who wait be told.
        self.rig.settle().await;
        assert_eq!(self.rig.ring.stats().online, self.model.outage.is_none());
    }

    async fn create(&mut self, name: &'static str) {
        let creator = self.next_creator();
        let answer = self
            .rig
            .ring
            .create(&Scope::default(), &named(name), &creator)
            .await;
        if self.model.down {
            assert!(is_outage(&answer), "{answer:?}");
            self.model.written(name);
            self.rig.settle().await;
            self.model.lose();
        } else if self.model.stored.contains_key(name) {
            assert!(matches!(answer, Err(KeyringError::Exists)), "{answer:?}");
            self.model.written(name);
        } else {
            assert_eq!(answer.unwrap().created_by, creator);
            self.model.stored.insert(name, creator);
            self.model.cached.remove(name);
            self.model.written(name);
            // A store that answers a write is not found by it.
        }
    }

    async fn delete(&mut self, name: &'static str) {
        let answer = self.rig.ring.delete(&Scope::default(), &named(name)).await;
        self.model.cached.remove(name);
        self.model.written(name);
        if self.model.down {
            assert!(is_outage(&answer), "{answer:?}");
            self.rig.settle().await;
            self.model.lose();
        } else if self.model.stored.remove(name).is_some() {
            answer.unwrap();
        } else {
            assert!(matches!(answer, Err(KeyringError::NotFound)), "{answer:?}");
        }
    }

    async fn begin_slow_fetch(&mut self, name: &'static str) {
        let model = &mut self.model;
        let cached = model
            .cached
            .get(name)
            .is_some_and(|key| Model::is_fresh(key, model.now));
        if cached || model.outage.is_some() || model.down || model.is_slow(name) {
            return;
        }
        let gate = Gate::new();
        self.rig.store.next(StoreOp::Get, Step::WaitAfter(gate.clone()));
        let ring = Arc::clone(&self.rig.ring);
        let waiter = tokio::spawn(async move { creator(&ring, name).await });
        gate.reached().await;
        let (read, start) = (model.stored.get(name).cloned(), model.now);
        model.slow.push(SlowFetch {
            name,
            gate,
            waiter,
            read,
            start,
            counts: true,
            told: None,
        });
    }

    async fn land(&mut self) {
        for slow in std::mem::take(&mut self.model.slow) {
            slow.gate.open();
            let answer = slow.waiter.await.unwrap();
            self.rig.settle().await;
            let model = &mut self.model;
            model.last_contact = model.last_contact.max(slow.start);
            let by_now = slow.read.clone().map_or(Told::Missing, Told::Key);
            // Who waited to the end has used the key; who was told earlier has not.
            let used = if slow.told.is_none() {
                model.now
            } else {
                slow.start
            };
            if slow.counts {
                model.fill(slow.name, slow.read, slow.start, used);
            }
            assert_eq!(Told::of(&answer), slow.told.unwrap_or(by_now));
        }
    }

    fn next_creator(&mut self) -> String {
        self.made += 1;
        format!("creator{}", self.made)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_key_ring_does_what_the_model_does(
        offline in prop_oneof![Just(0), Just(30), Just(1000)],
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(offline);
            for event in events {
                run.happen(event).await;
            }
            run.land().await;
        });
    }
}
