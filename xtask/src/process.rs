//! Child processes that end with their owner, conditions that are waited for, ports that nobody else takes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a condition is waited for that normally holds within a second or two. Long, because CI machines stall.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server under test, killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
}

impl Server {
    /// Starts `command` with its two outputs appended to files.
    pub(crate) fn start(name: &str, command: &mut Command, stdout: &Path, stderr: &Path) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(append(stdout)?)
            .stderr(append(stderr)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// Fails if the process has ended, so that nobody waits for what cannot come any more.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.name),
        }
    }

    /// Asks the process to stop and waits until it has.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait_until(&format!("{} to stop", self.name), PATIENCE, || {
            Ok(self.child.try_wait()?)
        })
    }

    /// Takes the process away without a warning.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("signalling {}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// What a command that ran to its end has left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    line: String,
}

impl Finished {
    /// The standard output of a command that must succeed.
    pub(crate) fn expect_success(self) -> Result<String> {
        if self.success {
            Ok(self.stdout)
        } else {
            Err(self.explained("failed"))
        }
    }

    /// Everything a command has said that must fail.
    pub(crate) fn expect_failure(self) -> Result<String> {
        if self.success {
            Err(self.explained("succeeded"))
        } else {
            Ok(format!("{}{}", self.stdout, self.stderr))
        }
    }

    fn explained(&self, how: &str) -> anyhow::Error {
        anyhow!(
            "{how}: {}\n{}{}",
            self.line,
            tail(&self.stdout, 30),
            tail(&self.stderr, 30)
        )
    }
}

/// Runs a command to its end, at most for `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {line}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = wait_until(&format!("{line} to end"), limit, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let success = ended?.success();
    Ok(Finished {
        success,
        stdout: joined(stdout),
        stderr: joined(stderr),
        line,
    })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // An error here means that the command has gone: what came so far is all there is.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn joined(reader: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = command
        .get_args()
        .take(12)
        .map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program.to_string_lossy().into_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Asks again and again until there is an answer; the error names what was waited for.
pub(crate) fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().with_context(|| format!("while waiting for {what}"))? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the interval between two looks at a condition"
)]
fn pause() {
    thread::sleep(Duration::from_millis(20));
}

/// A port on the loopback interface that is free and below the range the system takes client ports from: a server that restarts
/// on its port must not find it taken by somebody's outgoing connection.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 1_000)? * 20;
    for _ in 0..2_000 {
        let port = 10_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// The status of a plain HTTP `GET`, or nothing while nobody answers.
pub(crate) fn http_status(port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(&answer).ok()?.split(' ').nth(1)?.parse().ok()
}

/// The lines that a program prints for pasting into a shell: those that export variables, each ended.
pub(crate) fn exports(text: &str) -> String {
    text.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("export "))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    all.into_iter()
        .skip(skipped)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The last lines of a file under its name, or why they cannot be read.
pub(crate) fn file_tail(path: &PathBuf, lines: usize) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match fs::read(path) {
        Ok(bytes) => format!(
            "--- end of {name}\n{}",
            tail(&String::from_utf8_lossy(&bytes), lines)
        ),
        Err(error) => format!("--- {name}: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_past_its_limit_is_stopped_and_named() {
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(format!("{error:#}").contains("sleep 60 to end"), "{error:#}");
    }

    #[test]
    fn a_failure_shows_what_the_command_said() {
        let finished = run(
            Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]),
            PATIENCE,
        )
        .unwrap();
        let text = finished.expect_success().unwrap_err().to_string();
        assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
    }

    #[test]
    fn a_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a", 5), "a\n");
    }

    #[test]
    fn ports_are_below_the_client_range_and_distinct() {
        let (first, second) = (free_port().unwrap(), free_port().unwrap());
        assert!(first != second && first < 32_768 && second < 32_768);
    }
}
