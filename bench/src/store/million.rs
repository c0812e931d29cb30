//! What depends on how many keys there are: reading one, opening the store, opening it after kill -9.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::EmbeddedStore;
use tokio::task::JoinSet;

use super::file::{Numbers, StoreFile, close, name, record};
use super::{Plan, crash};
use crate::setup::Site;

/// Callers that fill the store together.
const FILLERS: usize = 4096;

/// Times in seconds.
#[derive(Debug)]
pub(super) struct Figures {
    /// In the end.
    pub(super) keys: u64,
    pub(super) size: u64,
    /// What filling took.
    pub(super) filled: f64,
    /// Reads of keys picked at random, right after opening.
    pub(super) reads: Vec<f64>,
    /// The same when the operating system has nothing of the file in memory.
    pub(super) reads_from_disk: Vec<f64>,
    pub(super) opened: Vec<f64>,
    pub(super) opened_after_kill: Vec<f64>,
    /// What was acknowledged before the kills, all of which is there.
    pub(super) acknowledged: usize,
}

pub(super) async fn run(plan: Plan, site: &Site) -> anyhow::Result<(StoreFile, Figures)> {
    let file = StoreFile::new(&site.path(""), "large")?;
    eprintln!("filling a store with {} keys", plan.keys);
    let started = Instant::now();
    let store = Arc::new(file.create().await?);
    fill(&store, plan.keys).await?;
    let filled = started.elapsed().as_secs_f64();
    close(Arc::into_inner(store).context("the store is still in use")?).await;

    eprintln!("opening, reading");
    let mut opened = Vec::new();
    for _ in 1..plan.rounds {
        let (store, time) = open(&file).await?;
        opened.push(time);
        close(store).await;
    }
    let (store, time) = open(&file).await?;
    opened.push(time);
    let reads = read(&store, plan, 1).await?;
    close(store).await;
    file.drop_from_memory()?;
    let (store, _) = open(&file).await?;
    let reads_from_disk = read(&store, plan, 2).await?;
    close(store).await;

    let mut opened_after_kill = Vec::new();
    let (mut keys, mut acknowledged) = (plan.keys, 0);
    for round in 0..plan.rounds {
        eprintln!("kill -9: round {} of {}", round + 1, plan.rounds);
        let names = crash::kill_in_the_middle(&file, &format!("killed-{round}")).await?;
        let (store, time) = open(&file).await?;
        opened_after_kill.push(time);
        let count = store.info().await?.keys;
        keys = crash::nothing_is_lost(&store, keys, &names, count).await?;
        acknowledged += names.len();
        close(store).await;
    }

    let figures = Figures {
        keys,
        size: file.size()?,
        filled,
        reads,
        reads_from_disk,
        opened,
        opened_after_kill,
        acknowledged,
    };
    Ok((file, figures))
}

async fn fill(store: &Arc<EmbeddedStore>, keys: u64) -> anyhow::Result<()> {
    let value = Arc::new(record()?);
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..FILLERS {
        let (store, value, next) = (Arc::clone(store), Arc::clone(&value), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= keys {
                    return anyhow::Ok(());
                }
                store.create(&name(number)?, &value).await?;
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}

async fn open(file: &StoreFile) -> anyhow::Result<(EmbeddedStore, f64)> {
    let started = Instant::now();
    let store = file.open().await?;
    Ok((store, started.elapsed().as_secs_f64()))
}

/// One key after another.
async fn read(store: &EmbeddedStore, plan: Plan, seed: u64) -> anyhow::Result<Vec<f64>> {
    let mut numbers = Numbers::new(seed);
    let mut times = Vec::with_capacity(plan.reads);
    for _ in 0..plan.reads {
        let name = name(numbers.below(plan.keys))?;
        let started = Instant::now();
        store.get(&name).await?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(times)
}
