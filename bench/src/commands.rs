//! What it costs to start the program: commands beside a program that does nothing, turn by turn.

use std::env;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use http::Method;

use crate::process::Server;
use crate::report::met;
use crate::scenario::KEY;
use crate::setup::{Binaries, Site};
use crate::stats::{median, quantile};

/// The program that does nothing.
const NULL_PROGRAM: &str = "/bin/true";

/// Turns that do not count: files come into the system's memory.
const WARM_UP: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Few runs: to see that it works, not to learn how fast it is.
    #[arg(long)]
    quick: bool,
    /// How often each command is started.
    #[arg(long, value_name = "N", default_value_t = 200)]
    runs: usize,
    /// Measures what was built last.
    #[arg(long)]
    no_build: bool,
}

/// Something whose time is taken.
struct Candidate {
    name: &'static str,
    what: What,
    /// The most that it may take in milliseconds, besides [`Self::without`].
    target: Option<f64>,
    /// The name of what does not count.
    without: Option<&'static str>,
}

enum What {
    Program(Box<dyn Fn() -> Command>),
    /// A data key from the server, over a connection that is open.
    Request,
    /// The same over a new connection.
    Connection,
}

const REQUEST: &str = "the request for a data key itself, on an open connection";

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let runs = if options.quick { 20 } else { options.runs };
    ensure!((1..=10_000).contains(&runs), "--runs takes 1 to 10000");
    let binaries = Binaries::build(options.no_build)?;
    let site = Site::new(&env::temp_dir())?;
    // On any core: only one of the server and its client works at a time.
    let (command, addr) = site.kes_on(Command::new(&binaries.kes), "keys", false)?;
    let server = Server::start(command, addr, &site.path("kes.log")).await?;
    site.create_key(server.addr).await?;
    println!("{}", crate::report::machine(&binaries));

    let candidates = candidates(&site, &binaries, &server);
    let mut times = vec![Vec::new(); candidates.len()];
    let mut open = site.client(server.addr).await?;
    let path = format!("/v1/key/generate/{KEY}");
    for turn in 0..WARM_UP + runs {
        // Who comes after whom changes with every turn.
        for place in 0..candidates.len() {
            let index = (turn + place) % candidates.len();
            let (Some(candidate), Some(times)) = (candidates.get(index), times.get_mut(index)) else {
                continue;
            };
            let started = Instant::now();
            match &candidate.what {
                What::Program(command) => {
                    let status = command()
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .status()
                        .with_context(|| format!("starting {}", candidate.name))?;
                    ensure!(status.success(), "{}: {status}", candidate.name);
                }
                What::Request => drop(open.send(Method::POST, &path, String::new()).await?),
                What::Connection => {
                    let mut new = site.client(server.addr).await?;
                    new.send(Method::POST, &path, String::new()).await?;
                }
            }
            if turn >= WARM_UP {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    print!(
        "{}",
        Table {
            candidates,
            times,
            runs
        }
    );
    Ok(())
}

fn candidates(site: &Site, binaries: &Binaries, server: &Server) -> Vec<Candidate> {
    let kes = binaries.kes.clone();
    let program = move |arguments: &'static [&'static str], variables: Vec<(&'static str, String)>| {
        let kes = kes.clone();
        What::Program(Box::new(move || {
            let mut command = Command::new(&kes);
            let variables = variables.iter().map(|(name, value)| (name, value));
            command.args(arguments).env_clear().envs(variables);
            command
        }))
    };
    let path = |name: &str| site.path(name).display().to_string();
    let client = |more: &[(&'static str, String)]| {
        let own = [
            ("KES_SERVER", server.addr.to_string()),
            ("KES_CLIENT_KEY", path("client.key")),
            ("KES_CLIENT_CERT", path("client.pem")),
        ];
        own.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()
    };
    let shell = vec![
        ("SHELL", "/bin/bash".to_owned()),
        ("COMP_LINE", "kes key d".to_owned()),
    ];
    let candidate = |name, what, target| Candidate {
        name,
        what,
        target,
        without: None,
    };
    let data_key = |name, what| Candidate {
        without: Some(REQUEST),
        ..candidate(name, what, Some(15.0))
    };
    const DEK: &[&str] = &["key", "dek", KEY];
    vec![
        candidate(
            "`/bin/true`",
            What::Program(Box::new(|| Command::new(NULL_PROGRAM))),
            None,
        ),
        candidate("`kes --version`", program(&["--version"], Vec::new()), Some(10.0)),
        candidate("completion of `kes key d`", program(&[], shell), Some(10.0)),
        candidate(
            "`kes key dek --help`",
            program(&["key", "dek", "--help"], Vec::new()),
            None,
        ),
        candidate(REQUEST, What::Request, None),
        candidate("the same on a new connection", What::Connection, None),
        data_key(
            "`kes key dek`, the CA in `SSL_CERT_FILE`",
            program(DEK, client(&[("SSL_CERT_FILE", path("ca.pem"))])),
        ),
        data_key(
            "`kes key dek`, the CA in `MINIO_KMS_KES_CAPATH`, beside those of the system",
            program(DEK, client(&[("MINIO_KMS_KES_CAPATH", path("ca.pem"))])),
        ),
        data_key(
            "`kes key dek --insecure`",
            program(&["key", "dek", "--insecure", KEY], client(&[])),
        ),
    ]
}

struct Table {
    candidates: Vec<Candidate>,
    /// Of each candidate, in milliseconds.
    times: Vec<Vec<f64>>,
    runs: usize,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            candidates,
            times,
            runs,
        } = self;
        let null = times.first().map_or(0.0, |times| median(times));
        let of = |name: &str| {
            let found = candidates.iter().zip(times).find(|(other, _)| other.name == name);
            found.map_or(0.0, |(_, times)| median(times))
        };
        writeln!(f, "{runs} runs of each, turn by turn.\n")?;
        writeln!(
            f,
            "| | median (fastest, p90), ms | over `/bin/true` | target, ms | |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        for (candidate, times) in candidates.iter().zip(times) {
            let Candidate {
                name,
                what,
                target,
                without,
            } = candidate;
            let median = median(times);
            let over = match what {
                What::Program(_) => format!("{:.1}", median / null),
                What::Request | What::Connection => String::new(),
            };
            let (fastest, p90) = (quantile(times, 0.0), quantile(times, 0.9));
            write!(f, "| {name} | {median:.2} ({fastest:.2}, {p90:.2}) | {over} ")?;
            match (target, without) {
                (Some(target), None) => writeln!(f, "| {target} | {} |", met(median <= *target))?,
                (Some(target), Some(without)) => {
                    let added = median - of(without);
                    writeln!(f, "| {target}; it adds {added:.2} | {} |", met(added <= *target))?;
                }
                (None, _) => writeln!(f, "| | |")?,
            }
        }
        Ok(())
    }
}
