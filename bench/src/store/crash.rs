//! A process that writes to a store until it is killed, and what is in the store after that.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kes_keystore::{EntryName, KeyStore as _};
use kes_keystore_embedded::EmbeddedStore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::file::{StoreFile, record};
use super::rates::CALLERS;

/// How many acknowledged writes are waited for before the process is killed.
const WRITES: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// The process: prints the name of each key once its creation is acknowledged.
#[derive(Debug, clap::Args)]
pub(crate) struct Writer {
    path: PathBuf,
    seal: PathBuf,
    prefix: String,
}

impl Writer {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let file = StoreFile {
            path: self.path.clone(),
            seal: self.seal.clone(),
        };
        let store = Arc::new(file.open().await?);
        let value = Arc::new(record()?);
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (store, value, next) = (Arc::clone(&store), Arc::clone(&value), Arc::clone(&next));
            let prefix = self.prefix.clone();
            callers.spawn(async move {
                loop {
                    let name = format!("{prefix}-{}", next.fetch_add(1, Ordering::Relaxed));
                    store.create(&EntryName::parse(&name)?, &value).await?;
                    println!("{name}");
                }
            });
        }
        let ended: Option<Result<anyhow::Result<()>, _>> = callers.join_next().await;
        ended.context("there is nobody to write")??
    }
}

/// Lets a process write to the store and kills it in the middle. Gives the names of the keys that it has acknowledged.
pub(super) async fn kill_in_the_middle(file: &StoreFile, prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut child = Killed(
        Command::new(env::current_exe()?)
            .arg("store-writer")
            .args([&file.path, &file.seal])
            .arg(prefix)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let output = child.0.stdout.take().context("the writer has no output")?;
    let names = Arc::new(Mutex::new(Vec::new()));
    let reader = thread::spawn({
        let names = Arc::clone(&names);
        move || {
            // An acknowledgement that was cut off does not count. Each line of it is short, so that it is written at once.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                names.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }
    });
    let started = Instant::now();
    while names.lock().unwrap_or_else(PoisonError::into_inner).len() < WRITES {
        ensure!(
            child.0.try_wait()?.is_none() && started.elapsed() < PATIENCE,
            "the writer does not write"
        );
        sleep(Duration::from_millis(1)).await;
    }
    drop(child);
    reader.join().ok().context("reading from the writer")?;
    Ok(std::mem::take(
        &mut *names.lock().unwrap_or_else(PoisonError::into_inner),
    ))
}

/// Fails unless all acknowledged keys are there, and beside them and `before` no more than were being written. Gives how many
/// keys there are.
pub(super) async fn nothing_is_lost(
    store: &EmbeddedStore,
    before: u64,
    acknowledged: &[String],
    count: u64,
) -> anyhow::Result<u64> {
    for name in acknowledged {
        store
            .get(&EntryName::parse(name)?)
            .await
            .with_context(|| format!("the acknowledged key {name}"))?;
    }
    let least = before + acknowledged.len() as u64;
    ensure!(
        (least..=least + CALLERS as u64).contains(&count),
        "{count} keys after kill -9, of which {least} were acknowledged"
    );
    Ok(count)
}

/// A process that is killed when it is let go.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
