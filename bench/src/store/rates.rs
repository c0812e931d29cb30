//! Creates per second: the embedded store and the file system's in turn, with one caller and with many.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kes_keystore::{EntryName, KeyStore};
use kes_keystore_fs::FsStore;
use tokio::task::JoinSet;

use super::Plan;
use super::file::{StoreFile, close, record};
use crate::setup::Site;
use crate::stats::{Interval, median, median_interval};

/// How many callers are many.
pub(super) const CALLERS: usize = 64;

/// Creates per second, all acknowledged as durable.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) embedded: Rate,
    pub(super) fs: Rate,
    /// Embedded over file system with one caller, and with many.
    pub(super) one_over_fs: Interval,
    pub(super) many_over_fs: Interval,
}

#[derive(Debug)]
pub(super) struct Rate {
    pub(super) one: f64,
    pub(super) many: f64,
    /// Many callers over one, round by round.
    pub(super) ratio: Interval,
}

pub(super) async fn run(plan: Plan, site: &Site) -> anyhow::Result<Rates> {
    let embedded = Arc::new(StoreFile::new(&site.path(""), "rates")?.create().await?);
    let config = kes_keystore_fs::Config {
        path: site.path("rates-fs"),
    };
    let fs = Arc::new(FsStore::connect(config).await?);
    let stores: [Arc<dyn KeyStore>; 2] = [embedded.clone(), fs];
    // One run of each first, which does not count: it makes the first tables and folders.
    let mut rates: [[Vec<f64>; 2]; 2] = Default::default();
    for round in 0..=plan.rounds {
        eprintln!("creates: round {round} of {}", plan.rounds);
        for (callers, rates) in [1, CALLERS].into_iter().zip(&mut rates) {
            let mut turn: Vec<_> = stores.iter().zip(rates).collect();
            // Whatever changes with time meets each of the two first equally often.
            if round % 2 == 1 {
                turn.reverse();
            }
            for (store, rates) in turn {
                let time = if round == 0 {
                    Duration::from_millis(200)
                } else {
                    Duration::from_secs(plan.seconds.into())
                };
                let rate = creates(store, &format!("round-{round}-of-{callers}"), callers, time).await?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
    }
    drop(stores);
    if let Some(embedded) = Arc::into_inner(embedded) {
        close(embedded).await;
    }
    let over = |left: &[f64], right: &[f64]| -> Interval {
        let ratios: Vec<_> = left.iter().zip(right).map(|(left, right)| left / right).collect();
        median_interval(&ratios)
    };
    let [[one, one_fs], [many, many_fs]] = &rates;
    Ok(Rates {
        embedded: Rate {
            one: median(one),
            many: median(many),
            ratio: over(many, one),
        },
        fs: Rate {
            one: median(one_fs),
            many: median(many_fs),
            ratio: over(many_fs, one_fs),
        },
        one_over_fs: over(one, one_fs),
        many_over_fs: over(many, many_fs),
    })
}

/// Each caller creates one key after another for some time.
async fn creates(
    store: &Arc<dyn KeyStore>,
    prefix: &str,
    callers: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let value = Arc::new(record()?);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (store, value) = (Arc::clone(store), Arc::clone(&value));
        let prefix = format!("{prefix}-{caller}");
        tasks.spawn(async move {
            let mut made = 0_u64;
            while started.elapsed() < time {
                let name = EntryName::parse(&format!("{prefix}-{made}"))?;
                store.create(&name, &value).await?;
                made += 1;
            }
            anyhow::Ok(made)
        });
    }
    let mut made = 0;
    while let Some(caller) = tasks.join_next().await {
        made += caller?.with_context(|| format!("creating keys in {store}"))?;
    }
    // The last ones are acknowledged after the time is over, so it is measured again.
    Ok(made as f64 / started.elapsed().as_secs_f64())
}

/// What the disk takes for one small durable write, in seconds: the median of many.
pub(super) fn sync_time(site: &Site) -> anyhow::Result<f64> {
    let mut file = File::create(site.path("sync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.rewind()?;
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(median(&times))
}
