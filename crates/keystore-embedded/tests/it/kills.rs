//! `kill -9` at random moments, under many concurrent creates and deletes.
//!
//! `KES_KILL_ROUNDS` sets the number of rounds, `KES_KILL_SEED` what is random about them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::{Config, EmbeddedStore};
use tempfile::TempDir;

use crate::rig::{self, Process};
use crate::sim::Random;

const WORKERS: usize = 64;
const ROUNDS: u64 = 100;
const OPENING: &str = "@opening";

/// The writers, killed in the end; does nothing in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writers() {
    let Some((role, path)) = Process::role() else {
        return;
    };
    let seed: u64 = role.parse().unwrap();
    say(OPENING);
    let store = Arc::new(
        EmbeddedStore::connect(config(&path, seed), rig::clock())
            .await
            .unwrap(),
    );
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| tokio::spawn(write(Arc::clone(&store), worker, seed)))
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

/// Creates and deletes for ever, a few keys at a time.
async fn write(store: Arc<EmbeddedStore>, worker: usize, seed: u64) {
    const KEPT: usize = 5;
    let mut random = Random::new(seed ^ (worker as u64) << 32);
    let mut mine = rig::list(&*store, &prefix(worker)).await.unwrap();
    for count in 0_u64.. {
        if mine.len() > random.below(2 * KEPT) {
            let text = mine.swap_remove(random.below(mine.len()));
            say(&format!("{worker} - {text}"));
            store.delete(&rig::name(&text)).await.unwrap();
        } else {
            let text = format!("{}{seed:x}-{count}", prefix(worker));
            say(&format!("{worker} + {text}"));
            rig::create(&*store, &text).await.unwrap();
            mine.push(text);
        }
        say(&format!("{worker} done"));
    }
}

fn prefix(worker: usize) -> String {
    format!("worker-{worker}-")
}

/// One line in one write, which a kill cannot divide.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

/// Every other round, deleted keys are gone at once.
fn config(path: &Path, seed: u64) -> Config {
    Config {
        undelete: if seed.is_multiple_of(2) {
            Duration::ZERO
        } else {
            rig::UNDELETE
        },
        ..rig::config(path)
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let rounds = std::env::var("KES_KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let seed =
        std::env::var("KES_KILL_SEED").map_or_else(|_| rig::arbitrary() >> 20, |text| text.parse().unwrap());
    println!("KES_KILL_SEED={seed}");
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("keys.redb");
    let mut random = Random::new(seed);
    let mut kept = BTreeSet::new();
    let (mut acknowledged, mut in_flight) = (0, 0);

    for round in 0..rounds {
        let seed = seed + round;
        let mut seen = Seen::default();
        let mut process = Process::start(&[], "kills::child_writers", &seed.to_string(), &path);
        process.read_until(OPENING);
        if round % 10 == 5 {
            // While it opens the store and recovers from the last kill.
            pass(Duration::from_micros(random.below(20_000) as u64));
        } else {
            for _ in 0..random.below(1500) {
                seen.line(&process.line().unwrap());
            }
            pass(Duration::from_micros(random.below(3000) as u64));
        }
        process.child.kill().unwrap();
        while let Some(line) = process.line() {
            seen.line(&line);
        }
        process.child.wait().unwrap();

        let store = EmbeddedStore::connect(config(&path, seed), rig::clock())
            .await
            .unwrap();
        let found = rig::contents(&store).await;
        let unknown: BTreeSet<_> = seen.in_flight.values().cloned().collect();
        let expected: BTreeSet<_> = seen.applied_to(&kept);
        let wrong: Vec<_> = expected
            .symmetric_difference(&found)
            .filter(|text| !unknown.contains(*text))
            .collect();
        assert!(
            wrong.is_empty(),
            "round {round}: {wrong:?} should {}be there",
            if wrong.iter().all(|text| expected.contains(*text)) {
                ""
            } else {
                "not all "
            }
        );
        for text in kept.union(&seen.touched) {
            let is_there = rig::present(&store, text).await.unwrap();
            assert_eq!(
                is_there,
                found.contains(text),
                "round {round}: {text} is listed if and only if it is there"
            );
        }
        if config(&path, seed).undelete > Duration::ZERO {
            seen.comes_back(&store, &found).await;
        }
        acknowledged += seen.acknowledged;
        in_flight += unknown.len();
        kept = rig::contents(&store).await;
        let info = store.info().await.unwrap();
        assert_eq!(
            info.keys,
            kept.len() as u64,
            "round {round}: the count is that of the listing"
        );
        store.close().await;
    }
    println!("{rounds} kills, {acknowledged} acknowledged writes, {in_flight} in flight");
    assert!(
        acknowledged > rounds * 100,
        "{acknowledged} writes in {rounds} rounds: too few to mean anything"
    );
    assert!(in_flight > 0, "no kill came in the middle of anything");
}

/// What a process has said.
#[derive(Default)]
struct Seen {
    /// By worker, what it has begun.
    in_flight: BTreeMap<String, String>,
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
    touched: BTreeSet<String>,
    begun: BTreeMap<String, bool>,
    acknowledged: u64,
}

impl Seen {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (worker, what) = (words.next().unwrap().to_owned(), words.next().unwrap());
        match (what, words.next()) {
            ("done", None) => {
                let text = self.in_flight.remove(&worker).unwrap();
                if self.begun.remove(&text).unwrap() {
                    self.created.insert(text);
                } else {
                    self.deleted.insert(text);
                }
                self.acknowledged += 1;
            }
            ("+" | "-", Some(text)) => {
                self.touched.insert(text.to_owned());
                self.begun.insert(text.to_owned(), what == "+");
                self.in_flight.insert(worker, text.to_owned());
            }
            _ => panic!("the other process said {line:?}"),
        }
    }

    fn applied_to(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        before
            .union(&self.created)
            .filter(|text| !self.deleted.contains(*text))
            .cloned()
            .collect()
    }

    /// Some of what was deleted comes back with its value.
    async fn comes_back(&self, store: &EmbeddedStore, found: &BTreeSet<String>) {
        for text in self.deleted.iter().filter(|text| !found.contains(*text)).take(5) {
            store.undelete(&rig::name(text)).await.unwrap();
            assert!(
                rig::present(store, text).await.unwrap(),
                "{text} did not come back"
            );
            store.delete(&rig::name(text)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_kill_while_the_store_is_made_leaves_a_store_or_none() {
    let mut random = Random::new(rig::arbitrary());
    let (mut made, mut absent) = (0, 0);
    for round in 0..30_u64 {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("keys.redb");
        let mut process = Process::start(&[], "kills::child_writers", "1", &path);
        process.read_until(OPENING);
        pass(Duration::from_micros(random.below(30_000) as u64));
        process.child.kill().unwrap();
        let mut seen = Seen::default();
        while let Some(line) = process.line() {
            seen.line(&line);
        }
        process.child.wait().unwrap();

        if path.exists() {
            made += 1;
        } else {
            absent += 1;
            assert_eq!(seen.acknowledged, 0, "round {round}: there was a store");
        }
        let store = EmbeddedStore::connect(config(&path, 1), rig::clock())
            .await
            .unwrap();
        let found = rig::contents(&store).await;
        for text in seen.applied_to(&BTreeSet::new()) {
            let deleting = seen.in_flight.values().any(|other| *other == text);
            assert!(deleting || found.contains(&text), "round {round}: {text} is lost");
        }
        store.close().await;
        let left: Vec<_> = std::fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "keys.redb")
            .collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    println!("{made} times there was a store, {absent} times none");
}

/// Lets this much time pass: a kill has to come at a moment that nothing announces.
pub(crate) fn pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}
