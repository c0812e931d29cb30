//! The large store behind a server: listing it through the API, what the server holds of it in memory, and its backup.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use http::Method;
use kes_types::SystemClock;
use serde_json::Value;

use super::Plan;
use super::file::{Numbers, StoreFile, name};
use crate::memory::unlocked;
use crate::process::{Memory, Server};
use crate::setup::{Binaries, Site};
use crate::stats::median;

/// Keys in the cache of the server, which has a million without this.
pub(super) const CACHE: usize = 1_000;

/// How often everything is listed.
const LISTINGS: usize = 3;

/// Times in seconds, sizes in bytes.
#[derive(Debug)]
pub(super) struct Figures {
    /// Pages of a listing of all keys: the median of several listings for each page.
    pub(super) pages: Vec<f64>,
    /// The server's CPU time for one of them.
    pub(super) page_cpu: f64,
    /// A server with an empty store, before the first request.
    pub(super) idle: Memory,
    /// The server after the listing, and after a data key from each of many keys.
    pub(super) after_use: Memory,
    pub(super) after_backup: Memory,
    pub(super) backup: u64,
    pub(super) backed_up: f64,
    pub(super) verified: f64,
    pub(super) restored: f64,
}

pub(super) async fn run(
    plan: Plan,
    site: &Site,
    binaries: &Binaries,
    store: &StoreFile,
    keys: u64,
) -> anyhow::Result<Figures> {
    let empty = StoreFile::new(&site.path(""), "empty")?;
    let idle = start(site, binaries, "empty", &empty).await?.memory()?;

    let server = start(site, binaries, "large", store).await?;
    let before = server.cpu_time()?;
    let mut listings = Vec::new();
    for round in 0..LISTINGS {
        eprintln!("listing: round {} of {LISTINGS}", round + 1);
        listings.push(list_all(site, &server, keys).await?);
    }
    let cpu = server.cpu_time()?.since(&before)?;
    // What else the machine does at some moment is not a page's fault.
    let pages: Vec<f64> = (0..listings.iter().map(Vec::len).min().unwrap_or_default())
        .map(|page| {
            let times = listings.iter().filter_map(|times| times.get(page).copied());
            median(&times.collect::<Vec<_>>())
        })
        .collect();
    let page_cpu = cpu.as_secs_f64() / listings.iter().map(Vec::len).sum::<usize>() as f64;
    eprintln!("a data key from each of {} keys", plan.reads);
    let mut client = site.client(server.addr).await?;
    let mut numbers = Numbers::new(3);
    for _ in 0..plan.reads {
        let key = name(numbers.below(plan.keys))?;
        client
            .send(
                Method::POST,
                &format!("/v1/key/generate/{}", key.as_str()),
                String::new(),
            )
            .await?;
    }
    let after_use = server.memory()?;

    eprintln!("backup, verification, restoration");
    let backup = site.path("backup");
    let started = Instant::now();
    let output = Command::new(&binaries.kes)
        .args(["store", "backup"])
        .arg(&backup)
        .env("KES_SERVER", format!("https://{}", server.addr))
        .env("KES_CLIENT_KEY", site.path("client.key"))
        .env("KES_CLIENT_CERT", site.path("client.pem"))
        .env("MINIO_KMS_KES_CAPATH", site.path("ca.pem"))
        .output()
        .context("starting kes store backup")?;
    let backed_up = started.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "kes store backup: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let after_backup = server.memory()?;
    drop(server);

    let progress = || Arc::new(|_| ());
    let started = Instant::now();
    let report = kes_keystore_embedded::verify(&backup, &store.seals()?, progress()).await?;
    let verified = started.elapsed().as_secs_f64();
    ensure!(
        report.keys == keys,
        "the backup has {} of {keys} keys",
        report.keys
    );
    let copy = StoreFile {
        path: site.path("copy.redb"),
        seal: store.seal.clone(),
    };
    let started = Instant::now();
    let restoration =
        kes_keystore_embedded::restore(&backup, copy.config()?, Arc::new(SystemClock), progress()).await?;
    let restored = started.elapsed().as_secs_f64();
    ensure!(
        restoration == report,
        "{restoration:?} was restored from {report:?}"
    );

    Ok(Figures {
        pages,
        page_cpu,
        idle,
        after_use,
        after_backup,
        backup: backup.metadata()?.len(),
        backed_up,
        verified,
        restored,
    })
}

/// Without memory locking, which rounds up what is resident.
async fn start(site: &Site, binaries: &Binaries, name: &str, store: &StoreFile) -> anyhow::Result<Server> {
    let settings = format!("cache: {{ entries: {CACHE} }}\n{}", store.yaml());
    let (command, addr) = site.administered(&binaries.kes, name, &settings)?;
    Server::start(unlocked(&command), addr, &site.path(&format!("{name}.log"))).await
}

/// All pages, one after the other, as a client gets them.
async fn list_all(site: &Site, server: &Server, keys: u64) -> anyhow::Result<Vec<f64>> {
    let mut client = site.client(server.addr).await?;
    let (mut times, mut count, mut last) = (Vec::new(), 0, String::new());
    let mut next = String::new();
    loop {
        let started = Instant::now();
        let answer = client
            .send(Method::GET, &format!("/v1/key/list/{next}"), String::new())
            .await?;
        times.push(started.elapsed().as_secs_f64());
        let page: Value = serde_json::from_slice(&answer)?;
        let names = page.get("names").and_then(Value::as_array).context("no names")?;
        for name in names.iter().filter_map(Value::as_str) {
            ensure!(last.as_str() < name, "{name} is listed after {last}");
            name.clone_into(&mut last);
            count += 1;
        }
        match page.get("continue_at").and_then(Value::as_str) {
            Some(position) if !position.is_empty() => position.clone_into(&mut next),
            _ => break,
        }
    }
    ensure!(count == keys, "{count} of {keys} keys are listed");
    Ok(times)
}
