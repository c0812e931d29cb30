//! Servers as processes: started on one core, asked for their CPU time and their memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// The core that servers run on.
pub(crate) const SERVER_CORE: &str = "0";
/// The core that the load runs on.
pub(crate) const LOAD_CORE: &str = "1";

/// A server, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

/// The CPU time of each thread, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTime {
    threads: BTreeMap<String, u64>,
    /// Of the whole process, threads that have ended included, but only to a hundredth of a second.
    total: Duration,
}

/// What a process holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
    pub(crate) locked: u64,
}

/// A command that runs on one core.
pub(crate) fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core).arg(program);
    command
}

/// A loopback address that is free now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?)
}

/// Raises the limit of open files, for servers started later and for the connections held here.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

impl Server {
    /// Starts `command`, whose output goes to `log`, and waits until something listens at `addr`.
    pub(crate) async fn start(command: Command, addr: SocketAddr, log: &Path) -> anyhow::Result<Self> {
        let mut server = Self::launch(command, addr, log)?;
        let started = Instant::now();
        while TcpStream::connect(addr).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "the server ended with {status}:\n{}",
                    fs::read_to_string(log.with_extension("err"))?
                );
            }
            ensure!(
                started.elapsed() < Duration::from_secs(20),
                "the server does not listen at {addr}"
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(server)
    }

    /// Starts `command` and does not wait.
    pub(crate) fn launch(mut command: Command, addr: SocketAddr, log: &Path) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(File::create(log)?)
            .stderr(File::create(log.with_extension("err"))?);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, addr })
    }

    pub(crate) fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(&tasks).context("the server has ended")? {
            let task = task?;
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let on_cpu = text
                .split_whitespace()
                .next()
                .context("an empty schedstat")?
                .parse()?;
            threads.insert(task.file_name().to_string_lossy().into_owned(), on_cpu);
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in parentheses, may hold blanks.
        let (_, fields) = stat.rsplit_once(')').context("an odd stat")?;
        let ticks = |index| {
            fields
                .split_whitespace()
                .nth(index)
                .and_then(|field| field.parse::<u64>().ok())
        };
        let total = ticks(11)
            .zip(ticks(12))
            .map(|(user, system)| user + system)
            .context("an odd stat")?;
        Ok(CpuTime {
            threads,
            total: Duration::from_secs(total) / rustix::param::clock_ticks_per_second() as u32,
        })
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024)
                .with_context(|| format!("no {name} in the process status"))
        };
        Ok(Memory {
            resident: field("VmRSS")?,
            peak: field("VmHWM")?,
            locked: field("VmLck")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only its end matters, and there is nothing to be done about a process that cannot be ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl CpuTime {
    /// The time since `earlier`, to the nanosecond.
    ///
    /// # Errors
    /// When threads ended in between and took a part of it with them.
    pub(crate) fn since(&self, earlier: &Self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for (thread, now) in &self.threads {
            nanos += now.saturating_sub(earlier.threads.get(thread).copied().unwrap_or_default());
        }
        let exact = Duration::from_nanos(nanos);
        let coarse = self.total.saturating_sub(earlier.total);
        let lost = coarse.saturating_sub(exact);
        ensure!(
            lost < Duration::from_millis(40) + exact / 20,
            "the process used {coarse:?} of CPU time, its threads only {exact:?}"
        );
        Ok(exact)
    }
}
