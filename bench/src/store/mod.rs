//! The embedded key store: how fast it writes beside the file system's, and everything with a million keys in it.

mod crash;
mod file;
mod million;
mod rates;
mod report;
mod served;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

pub(crate) use self::crash::Writer;
use crate::setup::{Binaries, Site};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A tenth of the keys, and few rounds: to see that it works, not to learn how fast it is.
    #[arg(long)]
    quick: bool,
    /// Keys in the large store [default: 1000000].
    #[arg(long, value_name = "N")]
    keys: Option<u64>,
    /// How many times everything is measured that can be measured more than once.
    #[arg(long, value_name = "N", default_value_t = 11)]
    rounds: usize,
    /// How long each measurement of writes takes.
    #[arg(long, value_name = "S", default_value_t = 2)]
    seconds: u32,
    /// Where the stores are made, and removed again: on a disk, not in memory [default: cargo's target folder].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Measures the server that was built last.
    #[arg(long)]
    no_build: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    keys: u64,
    rounds: usize,
    seconds: u32,
    /// Single reads, where each is measured by itself.
    reads: usize,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let quick = options.quick;
    let plan = Plan {
        keys: options.keys.unwrap_or(if quick { 100_000 } else { 1_000_000 }),
        rounds: if quick { 3 } else { options.rounds },
        seconds: if quick { 1 } else { options.seconds },
        reads: if quick { 5_000 } else { 50_000 },
    };
    ensure!(
        (1_000..=100_000_000).contains(&plan.keys),
        "--keys takes 1000 to 100000000"
    );
    ensure!((1..=100).contains(&plan.rounds), "--rounds takes 1 to 100");
    ensure!((1..=60).contains(&plan.seconds), "--seconds takes 1 to 60");

    let binaries = Binaries::build(options.no_build)?;
    let parent = match &options.folder {
        Some(folder) => folder.clone(),
        None => target_folder()?,
    };
    let site = Site::new(&parent)?;
    // Each part is printed once it is there: what has been measured is worth having, whatever becomes of the rest.
    println!("{}", crate::report::machine(&binaries));
    let sync = rates::sync_time(&site)?;
    println!("{}", report::Introduction { plan, sync });
    let rates = rates::run(plan, &site).await.context("measuring writes")?;
    println!("{rates}\n");
    let (store, million) = million::run(plan, &site)
        .await
        .context("measuring the large store")?;
    println!("{}", report::Heading(plan));
    println!("{million}");
    let served = served::run(plan, &site, &binaries, &store, million.keys)
        .await
        .context("measuring the server")?;
    println!("{served}");
    Ok(())
}

/// The folder that this program was built in.
fn target_folder() -> anyhow::Result<PathBuf> {
    let here = env::current_exe()?;
    let folder = here.parent().and_then(Path::parent);
    Ok(folder
        .context("the program is not in a target folder")?
        .to_owned())
}
