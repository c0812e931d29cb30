//! Crashes and errors at each single write and sync of a run.
//!
//! `KES_CRASHES=all` lets each of them fail in every way, instead of in two of five.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests panic as the tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kes_keystore::{KeyStore as _, Maintenance as _, StoreError};
use kes_keystore_embedded::{Config, ConnectError, EmbeddedStore};
use kes_types::ManualClock;
use rustix::io::Errno;

use crate::rig::{self, UNDELETE};
use crate::sim::{Disk, Effect, Failure, Kind, Random};

/// One thing to do with a store.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create(&'static str),
    /// Several at once, which share commits.
    CreateMany(&'static [&'static str]),
    Delete(&'static str),
    Undelete(&'static str),
    Reseal(&'static [u8]),
    /// Time until the deleted ones are gone.
    Expire,
}

const STEPS: &[Step] = &[
    Step::Create("first"),
    Step::Create("second"),
    Step::CreateMany(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]),
    Step::Delete("second"),
    Step::Create("third"),
    Step::Delete("c"),
    Step::Undelete("second"),
    Step::Reseal(&[2, 1]),
    Step::Delete("first"),
    Step::Reseal(&[2]),
    Step::CreateMany(&["m", "n", "o", "p"]),
    Step::Expire,
    Step::Create("fourth"),
    Step::Create("first"),
    Step::Delete("first"),
    Step::Undelete("first"),
    Step::Delete("p"),
];

/// What a step leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    live: BTreeSet<&'static str>,
    deleted: BTreeSet<&'static str>,
    seals: Vec<u8>,
    elapsed: Duration,
}

impl Model {
    fn start() -> Self {
        Self {
            seals: vec![1],
            ..Self::default()
        }
    }

    fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Create(text) => {
                next.live.insert(text);
            }
            Step::CreateMany(texts) => next.live.extend(texts),
            Step::Delete(text) => {
                next.live.remove(text);
                next.deleted.insert(text);
            }
            Step::Undelete(text) => {
                next.deleted.remove(text);
                next.live.insert(text);
            }
            Step::Reseal(seals) => next.seals = seals.to_vec(),
            Step::Expire => {
                next.deleted.clear();
                next.elapsed += 2 * UNDELETE;
            }
        }
        next
    }
}

/// A store on a disk, with the clock that it has been given.
struct Rig {
    disk: Disk,
    clock: Arc<ManualClock>,
}

impl Rig {
    fn new(disk: Disk, elapsed: Duration) -> Self {
        let clock = rig::clock();
        clock.advance(elapsed);
        Self { disk, clock }
    }

    fn config(seals: &[u8]) -> Config {
        Config {
            seals: seals.iter().copied().map(rig::seal).collect(),
            ..rig::config(Path::new("sim"))
        }
    }

    async fn create(&self) -> Result<EmbeddedStore, ConnectError> {
        EmbeddedStore::create_on(
            Arc::new(self.disk.clone()),
            Self::config(&[1]),
            Arc::clone(&self.clock) as _,
        )
        .await
    }

    async fn open(&self, seals: &[u8]) -> Result<EmbeddedStore, ConnectError> {
        EmbeddedStore::open_on(
            Arc::new(self.disk.clone()),
            Self::config(seals),
            Arc::clone(&self.clock) as _,
        )
        .await
    }

    /// Does `step`. Of several creates, the error is that of any of them.
    async fn run(&self, store: &EmbeddedStore, step: Step) -> Result<(), String> {
        let failed = |error: StoreError| {
            assert!(
                !matches!(
                    error,
                    StoreError::Exists | StoreError::NotFound | StoreError::Corrupt { .. }
                ),
                "{step:?}: {error:?}"
            );
            rig::chain(&error)
        };
        match step {
            Step::Create(text) => rig::create(store, text).await.map_err(failed),
            Step::CreateMany(texts) => {
                let creates = texts.iter().map(|text| rig::create(store, text));
                let mut results = futures_util::future::join_all(creates).await;
                results.sort_by_key(Result::is_ok);
                results.swap_remove(0).map_err(failed)
            }
            Step::Delete(text) => store.delete(&rig::name(text)).await.map_err(failed),
            Step::Undelete(text) => store.undelete(&rig::name(text)).await.map_err(failed),
            Step::Reseal(seals) => {
                let seals = Self::config(seals).seals;
                match store.reconfigure(seals, UNDELETE).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(rig::chain(&error)),
                }
            }
            Step::Expire => {
                self.clock.advance(2 * UNDELETE);
                Ok(())
            }
        }
    }
}

/// Opens what a crash has left in the step from `before` to `after` and checks all of it: each key is as it was before or
/// after, and the store goes on from there.
async fn check(image: Vec<u8>, before: &Model, after: &Model, context: &str) -> Disk {
    let rig = Rig::new(Disk::holding(image), after.elapsed);
    let store = match rig.open(&after.seals).await {
        Ok(store) => store,
        // Seals are changed in one step that has happened or not.
        Err(error) => rig
            .open(&before.seals)
            .await
            .unwrap_or_else(|_| panic!("{context}: {}", rig::chain(&error))),
    };
    let found = rig::contents(&store).await;
    let found: BTreeSet<_> = found.iter().map(String::as_str).collect();
    for text in before
        .live
        .union(&after.live)
        .chain(&before.deleted)
        .chain(&after.deleted)
    {
        let (was, is) = (before.live.contains(text), after.live.contains(text));
        let there = found.contains(text);
        assert!(
            there == was || there == is,
            "{context}: {text} is{} there",
            if there { "" } else { " not" }
        );
        assert_eq!(
            rig::present(&store, text).await.unwrap(),
            there,
            "{context}: {text}, asked for by name"
        );
    }
    for text in &found {
        assert!(
            before.live.contains(text) || after.live.contains(text),
            "{context}: {text} came from nowhere"
        );
    }
    let info = store.info().await.unwrap();
    assert_eq!(
        info.keys,
        found.len() as u64,
        "{context}: the count is that of the listing"
    );
    if let Some(text) = before.deleted.intersection(&after.deleted).next() {
        store.undelete(&rig::name(text)).await.unwrap();
        assert!(
            rig::present(&store, text).await.unwrap(),
            "{context}: {text} did not come back"
        );
        store.delete(&rig::name(text)).await.unwrap();
    }
    rig::create(&store, "after-the-crash").await.unwrap();
    store.close().await;
    rig.disk
}

/// All states that `STEPS` go through, the first one being that of a new store.
fn models() -> Vec<Model> {
    let mut models = vec![Model::start()];
    for step in STEPS {
        models.push(models.last().unwrap().after(*step));
    }
    models
}

/// The history of a run of `STEPS` from an empty disk. Mark `2n + 1` says that step `n` has begun, and `2n + 2` that it is done.
async fn run_without_errors() -> Disk {
    let rig = Rig::new(Disk::new(), Duration::ZERO);
    let store = rig.create().await.unwrap();
    rig.disk.mark(0);
    for (number, step) in STEPS.iter().enumerate() {
        rig.disk.mark(2 * number + 1);
        rig.run(&store, *step).await.unwrap();
        rig.disk.mark(2 * number + 2);
    }
    store.close().await;
    rig.disk
}

/// The places in `models` of the state before and after what was going on when `mark` was the last mark.
const fn states(mark: usize) -> (usize, usize) {
    (mark / 2, mark.div_ceil(2))
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_every_key_as_before_or_after() {
    const IMAGES: RangeInclusive<u64> = 0..=4;
    let models = models();
    let history = run_without_errors().await.history();
    let mut steps = BTreeSet::new();
    let mut images = 0;
    for crash in history.crashes() {
        let Some(mark) = crash.mark else {
            // Nobody has been told of the store yet. It is made under another name, so this is not even seen.
            let rig = Rig::new(Disk::holding(crash.image(crash.step as u64)), Duration::ZERO);
            if let Ok(store) = rig.open(&[1]).await {
                assert_eq!(rig::contents(&store).await, BTreeSet::new());
            }
            continue;
        };
        steps.insert(mark);
        let (before, after) = states(mark);
        for seed in IMAGES {
            // The extremes, and others each time.
            let seed = if seed < 2 {
                seed
            } else {
                seed + 8 * crash.step as u64
            };
            let context = format!("change {} (mark {mark}), image {seed}", crash.step);
            let disk = check(crash.image(seed), &models[before], &models[after], &context).await;
            images += 1;
            // And again, once the store has been used.
            let (mut before, mut after) = (models[before].clone(), models[after].clone());
            before.live.insert("after-the-crash");
            after.live.insert("after-the-crash");
            check_only_reads(disk.crash(seed), &before, &after, &context).await;
        }
    }
    assert!(
        steps.len() + 1 >= STEPS.len(),
        "writes in {} of {} steps",
        steps.len(),
        STEPS.len()
    );
    assert!(images > 1000, "only {images} images");
}

async fn check_only_reads(image: Vec<u8>, before: &Model, after: &Model, context: &str) {
    let rig = Rig::new(Disk::holding(image), after.elapsed);
    let seals: Vec<_> = after.seals.iter().chain(&before.seals).copied().collect();
    let store = rig.open(&seals).await.unwrap();
    let found = rig::contents(&store).await;
    for text in before.live.intersection(&after.live) {
        assert!(found.contains(*text), "{context}: {text} is not there");
    }
    store.close().await;
}

#[tokio::test]
async fn a_crash_while_a_crash_is_recovered_from_is_as_good_as_one() {
    let models = models();
    let history = run_without_errors().await.history();
    let mut crashes = 0;
    for crash in history.crashes().filter(|crash| crash.step % 5 == 0) {
        let Some(mark) = crash.mark else { continue };
        let (before, after) = states(mark);
        let (before, after) = (&models[before], &models[after]);
        let rig = Rig::new(Disk::holding(crash.image(crash.step as u64)), after.elapsed);
        let seals: Vec<_> = after.seals.iter().chain(&before.seals).copied().collect();
        let store = rig.open(&seals).await.unwrap();
        rig::create(&store, "after-the-crash").await.unwrap();
        store.close().await;
        for again in rig.disk.history().crashes() {
            let seed = again.step as u64;
            let context = format!("change {}, then {}", crash.step, again.step);
            check_only_reads(again.image(seed), before, after, &context).await;
            crashes += 1;
        }
    }
    assert!(crashes > 500, "only {crashes}");
}

#[tokio::test]
async fn an_error_at_any_write_is_reported_and_survived() {
    let total = run_without_errors().await.changes();
    let mut reported = 0;
    for number in first_change().await..total {
        for (place, effect) in effects(number).enumerate() {
            let errors = [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::DQUOT, Errno::PERM];
            let failure = Failure {
                changes: number..number + 1,
                only: None,
                error: errors[(usize::try_from(number).unwrap() + place) % errors.len()],
                effect,
            };
            reported += u64::from(Failing::new(failure).run().await);
        }
    }
    assert!(
        reported > total,
        "{reported} errors of {total} changes were reported"
    );
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_is_read_meanwhile() {
    let total = run_without_errors().await.changes();
    for number in (first_change().await..total).step_by(9) {
        for effect in effects(number / 9) {
            let kinds = [None, Some(Kind::Sync), Some(Kind::SetSize), Some(Kind::Write)];
            for only in kinds.into_iter().skip(usize::from(number % 2 == 0) * 2).take(2) {
                let failure = Failure {
                    changes: number..u64::MAX,
                    only,
                    error: Errno::NOSPC,
                    effect,
                };
                Failing::new(failure).run().await;
            }
        }
    }
}

/// Two effects of a failure, other ones for the next change; all of them if `KES_CRASHES=all`.
fn effects(number: u64) -> impl Iterator<Item = Effect> {
    let all = std::env::var("KES_CRASHES").is_ok_and(|text| text == "all");
    let first = usize::try_from(number).unwrap() * 2;
    let count = if all { Effect::ALL.len() } else { 2 };
    (first..first + count).map(|place| Effect::ALL[place % Effect::ALL.len()])
}

/// The number of the first change after the store was made.
async fn first_change() -> u64 {
    let rig = Rig::new(Disk::new(), Duration::ZERO);
    let store = rig.create().await.unwrap();
    let changes = rig.disk.changes();
    store.close().await;
    changes
}

/// A run on a disk that fails.
struct Failing {
    rig: Rig,
    failure: Failure,
    models: Vec<Model>,
}

impl Failing {
    fn new(failure: Failure) -> Self {
        Self {
            rig: Rig::new(Disk::new(), Duration::ZERO),
            failure,
            models: models(),
        }
    }

    /// Whether any step has reported an error.
    async fn run(&self) -> bool {
        let Self { rig, failure, models } = self;
        let store = rig.create().await.unwrap();
        rig.disk.fail(failure.clone());
        let mut reported = false;
        let mut checked = false;
        for (number, step) in STEPS.iter().enumerate() {
            let (before, after) = (&models[number], &models[number + 1]);
            let context = format!("{failure:?}, step {number} {step:?}");
            match rig.run(&store, *step).await {
                Ok(()) => {
                    // Whatever has failed in between: what was reported as done survives.
                    if !checked && rig.disk.changes() > failure.changes.start {
                        checked = true;
                        self.crash(after, after, &BTreeMap::new(), &context).await;
                    }
                }
                Err(error) => {
                    reported = true;
                    checked = true;
                    assert!(
                        error.contains(&std::io::Error::from(failure.error).to_string()),
                        "{context}: the reason is not in {error:?}"
                    );
                    let served = self.serves(&store, before, after, &context).await;
                    self.crash(before, after, &served, &context).await;
                    rig.disk.heal();
                    self.again(&store, *step, &served, &context).await;
                    let served = self.serves(&store, after, after, &context).await;
                    self.crash(after, after, &served, &context).await;
                }
            }
        }
        rig.disk.heal();
        let last = &models[STEPS.len()];
        let served = self.serves(&store, last, last, "at the end").await;
        store.close().await;
        self.crash(last, last, &served, &format!("{failure:?}, at the end"))
            .await;
        reported
    }

    /// What the store answers now: durable keys are there.
    async fn serves(
        &self,
        store: &EmbeddedStore,
        before: &Model,
        after: &Model,
        context: &str,
    ) -> BTreeMap<&'static str, bool> {
        let found = rig::contents(store).await;
        let mut served = BTreeMap::new();
        for text in before
            .live
            .union(&after.live)
            .chain(&before.deleted)
            .chain(&after.deleted)
        {
            let there = rig::present(store, text)
                .await
                .unwrap_or_else(|error| panic!("{context}: {text} cannot be read: {}", rig::chain(&error)));
            let (was, is) = (before.live.contains(text), after.live.contains(text));
            assert!(
                there == was || there == is,
                "{context}: {text} is served as {there}"
            );
            assert_eq!(found.contains(*text), there, "{context}: {text} is listed");
            served.insert(*text, there);
        }
        served
    }

    /// Does again what has failed; the disk is well now, so it must work, without opening the store anew.
    async fn again(
        &self,
        store: &EmbeddedStore,
        step: Step,
        served: &BTreeMap<&'static str, bool>,
        context: &str,
    ) {
        match step {
            Step::CreateMany(texts) => {
                for text in texts {
                    let result = rig::create(store, text).await;
                    match result {
                        Ok(()) => {}
                        Err(StoreError::Exists) if served[text] => {}
                        Err(error) => panic!("{context}: {text} again: {}", rig::chain(&error)),
                    }
                }
            }
            Step::Create(text) | Step::Undelete(text) if served[text] => {}
            Step::Delete(text) if !served[text] => {}
            Step::Create(_) | Step::Delete(_) | Step::Undelete(_) | Step::Reseal(_) | Step::Expire => {
                if let Err(error) = self.rig.run(store, step).await {
                    panic!("{context}: again, on a disk that is well: {error}");
                }
            }
        }
    }

    /// After a crash now, everything is as it was before or after the step, and what was served is there.
    async fn crash(
        &self,
        before: &Model,
        after: &Model,
        served: &BTreeMap<&'static str, bool>,
        context: &str,
    ) {
        for seed in [0, 1, 2, 3] {
            let image = self.rig.disk.crash(seed);
            let rig = Rig::new(Disk::holding(image), after.elapsed);
            let seals: Vec<_> = after.seals.iter().chain(&before.seals).copied().collect();
            let context = format!("{context}, crash {seed}");
            let store = match rig.open(&seals).await {
                Ok(store) => store,
                Err(error) => panic!("{context}: {}", rig::chain(&error)),
            };
            let found = rig::contents(&store).await;
            for text in before
                .live
                .union(&after.live)
                .chain(&before.deleted)
                .chain(&after.deleted)
            {
                let there = found.contains(*text);
                let (was, is) = (before.live.contains(text), after.live.contains(text));
                assert!(there == was || there == is, "{context}: {text} is there: {there}");
                if was != is && served.get(text) == Some(&is) {
                    assert_eq!(
                        there, is,
                        "{context}: {text} was served, and the crash has taken it back"
                    );
                }
            }
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_read_that_fails_is_an_error_once() {
    let disk = run_without_errors().await;
    let models = models();
    let last = &models[STEPS.len()];
    let mut failed = 0;
    for number in 0..200 {
        let rig = Rig::new(Disk::holding(disk.image()), last.elapsed);
        rig.disk.fail_reads(number..number + 1);
        let Ok(store) = rig.open(&last.seals).await else {
            // In the middle of opening it. Nothing is harmed:
            rig.disk.heal();
            rig.open(&last.seals).await.unwrap().close().await;
            failed += 1;
            continue;
        };
        for text in &last.live {
            match rig::present(&store, text).await {
                Ok(there) => assert!(there, "read {number}: {text} has vanished"),
                Err(StoreError::NotFound | StoreError::Exists) => unreachable!(),
                Err(_) => {
                    failed += 1;
                    assert!(
                        rig::present(&store, text).await.unwrap(),
                        "read {number}: {text}, the second time"
                    );
                }
            }
        }
        if let Err(error) = rig::create(&store, "and-it-goes-on").await {
            failed += 1;
            assert!(
                !matches!(error, StoreError::Exists | StoreError::NotFound),
                "read {number}: {error:?}"
            );
            rig::create(&store, "and-it-goes-on").await.unwrap();
        }
        store.close().await;
        if rig.disk.reads() < number {
            break;
        }
    }
    assert!(failed > 5, "{failed} reads failed");
}

#[tokio::test]
async fn a_store_whose_making_fails_is_an_error() {
    for number in 0..first_change().await {
        for effect in Effect::ALL {
            let rig = Rig::new(Disk::new(), Duration::ZERO);
            rig.disk.fail(Failure {
                changes: number..number + 1,
                only: None,
                error: Errno::NOSPC,
                effect,
            });
            let Err(error) = rig.create().await else {
                panic!("change {number} failed, and it was reported as made");
            };
            let error = rig::chain(&error);
            assert!(
                error.contains("sim") && error.contains("No space left"),
                "{error}"
            );
        }
    }
}

/// Under concurrent writers, whose commits are shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_writes_those_that_succeed_survive_errors_and_crashes() {
    const WRITERS: usize = 16;
    const EACH: usize = 12;
    for seed in 0..60_u64 {
        let rig = Rig::new(Disk::new(), Duration::ZERO);
        let store = Arc::new(rig.create().await.unwrap());
        let mut random = Random::new(seed);
        let first = rig.disk.changes() + random.below(150) as u64;
        let effect = Effect::ALL[random.below(Effect::ALL.len())];
        rig.disk.fail(Failure {
            changes: first..first + 1 + random.below(40) as u64,
            only: None,
            error: Errno::IO,
            effect,
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut outcomes = Vec::new();
                    for number in 0..EACH {
                        let text = format!("writer-{writer}-{number}");
                        let created = rig::create(&*store, &text).await.is_ok();
                        let deleted = if created && number % 3 == 0 {
                            Some(store.delete(&rig::name(&text)).await.is_ok())
                        } else {
                            None
                        };
                        outcomes.push((text, created, deleted));
                    }
                    outcomes
                })
            })
            .collect();
        let mut outcomes = Vec::new();
        for writer in writers {
            outcomes.extend(writer.await.unwrap());
        }
        let served = rig::contents(&*store).await;
        for crash in 0..4 {
            let again = Rig::new(Disk::holding(rig.disk.crash(crash)), Duration::ZERO);
            let reopened = again.open(&[1]).await.unwrap();
            let found = rig::contents(&reopened).await;
            for (text, created, deleted) in &outcomes {
                let there = found.contains(text);
                let context = format!("seed {seed} ({effect:?}), crash {crash}: {text}");
                match (created, deleted) {
                    (true, None) => assert!(there, "{context} is lost"),
                    (true, Some(true)) => assert!(!there, "{context} is back"),
                    (true, Some(false)) | (false, _) => {
                        assert!(
                            there || !served.contains(text),
                            "{context} was served, and is lost"
                        );
                    }
                }
            }
            reopened.close().await;
        }
        rig.disk.heal();
        rig::create(&*store, "and-it-goes-on").await.unwrap();
        store.close().await;
    }
}
