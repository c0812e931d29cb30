//! Fills the cache with a million keys and prints what that costs: resident bytes an entry, the longest time for which
//! a task had to wait for the removal of expired entries, and the time of one use of a cached key. Times are those of the
//! processor, so that other processes do not count.
//!
//! `cargo run --profile dist -p kes-keyring --example million [KEYS]`

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kes_crypto::{Algorithm, KeyVersion, SecretBytes};
use kes_keyring::{CacheSettings, Keyring, Scope};
use kes_keystore::{Entry, EntryName, KeyStore, Page, StoreError};
use kes_types::{Clock as _, KeyName, SystemClock};
use rustix::time::{ClockId, clock_gettime};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys: usize = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |keys| keys.parse())?;
    let hour = Duration::from_secs(3600);
    // Entries are looked over every second.
    let settings = CacheSettings {
        any: hour,
        unused: hour,
        offline: hour,
        entries: keys,
    };
    let scope = Scope::default();
    let creator = "c".repeat(64);
    let value = KeyVersion::generate(Algorithm::Aes256, SystemClock.now(), &creator)?.encode();
    let keyring = Keyring::new(Arc::new(OneKey(value)), settings, Arc::new(SystemClock));
    keyring.describe(&scope, &name(0)?).await?;

    let before = resident_bytes()?;
    let filling = Instant::now();
    for i in 0..keys {
        keyring.describe(&scope, &name(i)?).await?;
    }
    let entries = keyring.stats().entries;
    let bytes = resident_bytes()? - before;
    println!(
        "{entries} keys of 64 characters in {:.1?}: {} bytes each",
        filling.elapsed(),
        bytes / entries.max(1)
    );

    // Not used for an hour is what every entry is looked at for; a second is the least that one look may be away.
    keyring.reconfigure(CacheSettings {
        unused: Duration::from_secs(1800),
        any: Duration::from_secs(2),
        ..settings
    });
    let background = keyring.start();
    let (watch, mut longest) = (Instant::now(), Duration::ZERO);
    while watch.elapsed() < Duration::from_secs(5) {
        let turn = on_cpu();
        tokio::task::yield_now().await;
        longest = longest.max(on_cpu() - turn);
    }
    drop(background);
    println!(
        "removing them: {} left, no task waited for longer than {longest:.1?}",
        keyring.stats().entries
    );

    keyring.reconfigure(settings);
    let key = name(7)?;
    keyring.describe(&scope, &key).await?;
    let (start, uses) = (on_cpu(), 1_000_000);
    for _ in 0..uses {
        std::hint::black_box(keyring.generate(&scope, &key, "", b"bucket/object").await?);
    }
    println!("one data key: {} ns", (on_cpu() - start).as_nanos() / uses);
    Ok(())
}

fn name(i: usize) -> Result<KeyName, kes_types::BadName> {
    KeyName::parse(&format!("{i:0>64}"))
}

/// The second number of this file counts the resident pages.
fn resident_bytes() -> Result<usize, Box<dyn std::error::Error>> {
    const PAGE: usize = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    Ok(pages
        .split_whitespace()
        .nth(1)
        .ok_or("no second field")?
        .parse::<usize>()?
        * PAGE)
}

/// For how long this thread has run, other processes left out.
fn on_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A store that has one key under every name.
struct OneKey(SecretBytes);

#[async_trait]
impl KeyStore for OneKey {
    async fn create(&self, _: &EntryName, _: &SecretBytes) -> Result<(), StoreError> {
        Err(StoreError::Exists)
    }

    async fn get(&self, _: &EntryName) -> Result<Entry, StoreError> {
        Ok(Entry {
            value: SecretBytes::copy_of(self.0.expose_secret()),
            revision: None,
        })
    }

    async fn delete(&self, _: &EntryName) -> Result<(), StoreError> {
        Err(StoreError::NotFound)
    }

    async fn list(&self, _: &str, _: Option<&EntryName>, _: NonZeroUsize) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

impl fmt::Display for OneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneKey")
    }
}

impl fmt::Debug for OneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneKey")
    }
}
