//! Measures the server beside the null server, turn by turn, the embedded key store beside the file system, the server beside
//! the bare key stores behind a network, or commands beside a program that does nothing, and prints a table for `docs/performance.md`.

use std::env;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

mod check;
mod commands;
mod compare;
mod keystores;
mod load;
mod memory;
mod process;
mod report;
mod scenario;
mod setup;
mod stats;
mod store;

use crate::load::Generators;
use crate::report::Report;
use crate::scenario::SCENARIOS;
use crate::setup::{Binaries, Site};

/// Measures the server beside a server that does nothing but TLS and HTTP, and prints a Markdown table.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Three short pairs instead of eleven: to see that it works, not to learn how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only this measurement: a name of the table, or "memory". May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many times each server is measured.
    #[arg(long, value_name = "N", default_value_t = 11)]
    pairs: usize,
    /// How long one measurement takes.
    #[arg(long, value_name = "S", default_value_t = 3)]
    seconds: u32,
    /// Requests a second of the open loop.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u32,
    /// The null server in place of ours: every ratio should be 1, and how far it is from that is how much to believe.
    #[arg(long)]
    calibrate: bool,
    /// Measures what was built last.
    #[arg(long)]
    no_build: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures the embedded key store instead: writes beside the file system's, and everything with a million keys.
    Store(store::Options),
    /// Measures keys that are not cached instead: a data key from the server beside the bare call of the key store.
    Keystores(keystores::Options),
    /// Measures what it costs to start the program instead: commands beside a program that does nothing.
    Commands(commands::Options),
    /// Writes to a store until it is killed.
    #[command(hide = true)]
    StoreWriter(store::Writer),
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match &options.command {
        None => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(beside_null_server(&options)),
        // The store is used the way the server does it.
        Some(Command::Store(options)) => tokio::runtime::Runtime::new()?.block_on(store::run(options)),
        Some(Command::Keystores(options)) => {
            tokio::runtime::Runtime::new()?.block_on(keystores::run(options))
        }
        Some(Command::Commands(options)) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(commands::run(options)),
        Some(Command::StoreWriter(writer)) => tokio::runtime::Runtime::new()?.block_on(writer.run()),
    }
}

async fn beside_null_server(options: &Options) -> anyhow::Result<()> {
    let plan = compare::Plan {
        pairs: if options.quick { 3 } else { options.pairs },
        seconds: if options.quick { 1 } else { options.seconds },
        rate: options.rate,
        calibrate: options.calibrate,
    };
    ensure!((1..=1000).contains(&plan.pairs), "--pairs takes 1 to 1000");
    ensure!((1..=60).contains(&plan.seconds), "--seconds takes 1 to 60");
    for name in &options.only {
        let known = name == memory::NAME || SCENARIOS.iter().any(|scenario| scenario.name == name);
        ensure!(
            known,
            "there is no measurement {name:?}: take {}",
            scenario::names()
        );
    }

    let binaries = Binaries::build(options.no_build)?;
    let generators = Generators::install()?;
    let site = Site::new(&env::temp_dir())?;
    let mut report = Report::new(&binaries, plan);
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario.name)) {
        let comparison = compare::run(scenario, plan, &site, &binaries, &generators)
            .await
            .with_context(|| format!("measuring {}", scenario.name))?;
        report.comparisons.push((scenario, comparison));
    }
    if options.wants(memory::NAME) && !options.calibrate {
        let memory = memory::run(plan, &site, &binaries, &generators)
            .await
            .context("measuring memory")?;
        report.memory = Some(memory);
    }
    println!("{report}");
    Ok(())
}
