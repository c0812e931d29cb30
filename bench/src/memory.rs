//! Memory, the time to the first answer, and what an idle connection costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::Method;
use tokio::time::sleep;

use crate::compare::Plan;
use crate::load::{Generators, Pace, Target};
use crate::process::{Memory, SERVER_CORE, Server, pinned, raise_open_files};
use crate::scenario::{KEY, Operation, Shape};
use crate::setup::{Binaries, Site};
use crate::stats::median;

/// For `--only`.
pub(crate) const NAME: &str = "memory";

/// Keys in the store when the start is measured.
pub(crate) const KEYS: usize = 10_000;
/// Connections that do nothing.
const IDLE_CONNECTIONS: usize = 10_000;
/// File descriptors for everything but connections.
const OTHER_FILES: usize = 200;

/// What came out, in bytes.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Without memory locking, before the first request.
    pub(crate) idle: Memory,
    pub(crate) after_load: Memory,
    /// With memory locking, where the machine allows it, before the first request.
    pub(crate) idle_locked: Option<Memory>,
    /// From starting the process to the first answer, in seconds: median and worst.
    pub(crate) first_answer: (f64, f64),
    pub(crate) connections: usize,
    /// Resident memory of an idle connection, ours and the null server's.
    pub(crate) per_connection: (f64, f64),
}

pub(crate) async fn run(
    plan: Plan,
    site: &Site,
    binaries: &Binaries,
    generators: &Generators,
) -> anyhow::Result<Figures> {
    // Makes the key that requests name.
    let locked = site.start_kes(&binaries.kes, false).await?;
    drop(locked);
    let (command, addr) = site.kes(&binaries.kes, "keys", false)?;
    let locked = Server::start(command, addr, &site.path("kes.log")).await?;
    let idle_locked = Some(locked.memory()?).filter(|memory| memory.locked > 0);
    drop(locked);

    let (command, addr) = site.kes(&binaries.kes, "keys", false)?;
    let server = Server::start(unlocked(&command), addr, &site.path("kes.log")).await?;
    let idle = server.memory()?;
    ensure!(idle.locked == 0, "the server locked its memory all the same");
    eprintln!("memory: load");
    let body = site.path("body.json");
    fs::write(&body, site.client(addr).await?.body(Operation::Generate).await?)?;
    let answer = site.client(addr).await?.verify(Operation::Generate).await?;
    let shape = Shape::Http1 { connections: 64 };
    let target = Target {
        addr,
        operation: Operation::Generate,
        body: &body,
        shape,
        answer,
    };
    generators.run(&target, Pace::Closed { requests: 200_000 }, site)?;
    let after_load = server.memory()?;
    drop(server);

    eprintln!("memory: first answer with {KEYS} keys");
    fill(site)?;
    let mut starts = Vec::new();
    for _ in 0..plan.pairs {
        starts.push(first_answer(site, binaries).await?.as_secs_f64());
    }
    let worst = starts.iter().copied().fold(0.0, f64::max);

    let files = raise_open_files()?;
    // A server accepts connections for no more than 80 % of its files.
    let connections = usize::try_from(files)?.saturating_mul(4) / 5;
    let connections = connections.saturating_sub(OTHER_FILES).min(IDLE_CONNECTIONS);
    eprintln!("memory: {connections} idle connections");
    let (command, addr) = site.kes(&binaries.kes, "keys", false)?;
    let server = Server::start(unlocked(&command), addr, &site.path("kes.log")).await?;
    let ours = per_connection(site, &server, connections).await?;
    drop(server);
    let server = site.start_null(&binaries.null_server).await?;
    let null = per_connection(site, &server, connections).await?;

    Ok(Figures {
        idle,
        after_load,
        idle_locked,
        first_answer: (median(&starts), worst),
        connections,
        per_connection: (ours, null),
    })
}

/// The same command without what memory locking needs: the capability, which root has, and the limit.
pub(crate) fn unlocked(command: &Command) -> Command {
    let mut unlocked = if rustix::process::geteuid().is_root() {
        let mut wrapped = pinned(SERVER_CORE, Path::new("setpriv"));
        wrapped.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]);
        wrapped.args(["prlimit", "--memlock=65536:65536"]);
        wrapped
    } else {
        let mut wrapped = pinned(SERVER_CORE, Path::new("prlimit"));
        wrapped.arg("--memlock=65536:65536");
        wrapped
    };
    unlocked.arg(command.get_program()).args(command.get_args());
    unlocked
}

/// A folder of keys: copies of the one that there is.
fn fill(site: &Site) -> anyhow::Result<()> {
    let key = fs::read(site.path("keys").join(KEY)).context("reading the key that the server created")?;
    let folder: PathBuf = site.path("many-keys");
    fs::create_dir(&folder)?;
    for number in 1..KEYS {
        fs::write(folder.join(format!("bench-key-{number:05}")), &key)?;
    }
    fs::write(folder.join(KEY), &key)?;
    Ok(())
}

/// From starting a process to the answer to a `generate`, which has to read its key from the store.
async fn first_answer(site: &Site, binaries: &Binaries) -> anyhow::Result<Duration> {
    let (command, addr) = site.kes(&binaries.kes, "many-keys", false)?;
    let started = Instant::now();
    let _server = Server::launch(command, addr, &site.path("kes.log"))?;
    let mut client = loop {
        match site.client(addr).await {
            Ok(client) => break client,
            Err(error) => {
                ensure!(
                    started.elapsed() < Duration::from_secs(20),
                    "the server does not come up: {error:#}"
                );
                sleep(Duration::from_micros(200)).await;
            }
        }
    };
    client
        .send(Method::POST, &Operation::Generate.path(), "{}".to_owned())
        .await?;
    Ok(started.elapsed())
}

/// What a connection that has been used once makes the server hold.
async fn per_connection(site: &Site, server: &Server, connections: usize) -> anyhow::Result<f64> {
    // The first ones also make the server load and cache what all others share.
    let mut held = Vec::new();
    let mut before = server.memory()?;
    for number in 0..connections + 100 {
        if number == 100 {
            before = server.memory()?;
        }
        let mut client = site.client(server.addr).await?;
        client
            .send(Method::GET, &Operation::Version.path(), String::new())
            .await?;
        held.push(client);
    }
    let after = server.memory()?;
    let grown = after.resident.saturating_sub(before.resident);
    drop(held);
    Ok(grown as f64 / connections as f64)
}
