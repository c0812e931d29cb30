//! What a key costs that is not in the cache: the server's answer beside the bare call of the key store behind a network.

mod report;
mod services;

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use http::Method;
use kes_keystore::{EntryName, KeyStore};
use tokio::task::JoinSet;

use self::report::Heading;
use self::services::Service;
use crate::process::Server;
use crate::setup::{Binaries, Site};

/// Connections that ask for the same keys at once.
const CONNECTIONS: usize = 64;

/// Keys of which the time does not count: connections are made, and the services warm up.
const WARM_UP: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Few keys: to see that it works, not to learn how fast it is.
    #[arg(long)]
    quick: bool,
    /// Keys that are asked for one after the other.
    #[arg(long, value_name = "N", default_value_t = 200)]
    keys: usize,
    /// Keys that all connections ask for at once.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    crowd: usize,
    /// Measures the server that was built last.
    #[arg(long)]
    no_build: bool,
}

/// Times in seconds.
#[derive(Debug)]
struct Figures {
    service: &'static str,
    /// Of `get` of the store, for each key.
    bare: Vec<f64>,
    /// Of a data key from the server, for each key.
    served: Vec<f64>,
    /// Until as many `get`s at a time as there are connections have read every key of the crowd once.
    crowd_bare: f64,
    /// Until each connection has a data key from each key of the crowd.
    crowd_served: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let (keys, crowd) = if options.quick {
        (40, 100)
    } else {
        (options.keys, options.crowd)
    };
    ensure!((1..=10_000).contains(&keys), "--keys takes 1 to 10000");
    ensure!((1..=10_000).contains(&crowd), "--crowd takes 1 to 10000");
    let binaries = Binaries::build(options.no_build)?;
    let site = Site::new(&env::temp_dir())?;
    println!("{}", crate::report::machine(&binaries));
    println!("{}", Heading { keys, crowd });
    for service in services::ALL {
        let service = service(&site).await?;
        let figures = measure(&service, &site, &binaries, keys, crowd)
            .await
            .with_context(|| format!("measuring {}", service.name))?;
        println!("{figures}");
    }
    Ok(())
}

async fn measure(
    service: &Service,
    site: &Site,
    binaries: &Binaries,
    keys: usize,
    crowd: usize,
) -> anyhow::Result<Figures> {
    // On any core: of the server, the service and this program only one works at a time.
    let program = Command::new(&binaries.kes);
    let (command, addr) = site.administered_by(program, "served", &service.settings)?;
    let server = Server::start(command, addr, &site.path("served.log")).await?;

    let single = names("single", WARM_UP + keys)?;
    let many = names("crowd", crowd)?;
    create(site, &server, single.iter().chain(&many)).await?;

    let mut client = site.client(server.addr).await?;
    let (mut bare, mut served) = (Vec::new(), Vec::new());
    for (index, name) in single.iter().enumerate() {
        let path = format!("/v1/key/generate/{}", name.as_str());
        // Who comes second finds the service a little warmer: both do, in turn.
        for is_bare in if index % 2 == 0 {
            [true, false]
        } else {
            [false, true]
        } {
            let started = Instant::now();
            if is_bare {
                service.store.get(name).await?;
            } else {
                client.send(Method::POST, &path, String::new()).await?;
            }
            let times = if is_bare { &mut bare } else { &mut served };
            times.push(started.elapsed().as_secs_f64());
        }
    }
    let counted = |times: Vec<f64>| times.into_iter().skip(WARM_UP).collect();

    let many = Arc::new(many);
    let crowd_bare = together(|place| {
        let (store, names) = (Arc::clone(&service.store), Arc::clone(&many));
        async move { read(store, names, place).await }
    })
    .await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(site.client(server.addr).await?);
    }
    let mut clients = clients.into_iter();
    let crowd_served = together(|_| {
        let (client, names) = (clients.next(), Arc::clone(&many));
        async move {
            let mut client = client.context("a connection for each")?;
            for name in names.iter() {
                let path = format!("/v1/key/generate/{}", name.as_str());
                client.send(Method::POST, &path, String::new()).await?;
            }
            anyhow::Ok(())
        }
    })
    .await?;
    drop(server);
    service.store.close().await;
    Ok(Figures {
        service: service.name,
        bare: counted(bare),
        served: counted(served),
        crowd_bare,
        crowd_served,
    })
}

fn names(kind: &str, count: usize) -> anyhow::Result<Vec<EntryName>> {
    let name = |number| Ok(EntryName::parse(&format!("{kind}-{number:05}"))?);
    (0..count).map(name).collect()
}

/// Through the server, which makes the records; it caches none that it has made.
async fn create(site: &Site, server: &Server, names: impl Iterator<Item = &EntryName>) -> anyhow::Result<()> {
    let mut client = site.client(server.addr).await?;
    for name in names {
        let path = format!("/v1/key/create/{}", name.as_str());
        client.send(Method::POST, &path, String::new()).await?;
    }
    Ok(())
}

/// Reads a share of the keys.
async fn read(store: Arc<dyn KeyStore>, names: Arc<Vec<EntryName>>, place: usize) -> anyhow::Result<()> {
    for name in names.iter().skip(place).step_by(CONNECTIONS) {
        store.get(name).await?;
    }
    Ok(())
}

/// How long it takes until all of them have finished.
async fn together<F>(mut task: impl FnMut(usize) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for place in 0..CONNECTIONS {
        tasks.spawn(task(place));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(started.elapsed().as_secs_f64())
}
