//! Child processes that end with their owner, conditions that are waited for, ports that nobody else takes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a condition is waited for that normally holds within a second or two. Long, because CI machines stall.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A server under test, killed on drop, and also when this process ends without dropping it.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    watch: Option<Watch>,
}

impl Server {
    /// Starts `command` with its two outputs appended to files.
    ///
    /// # Errors
    ///
    /// If a file cannot be opened or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, stdout: &Path, stderr: &Path) -> Result<Self> {
        Self::spawn(name, command, stdout, stderr, Watch::start(None)?)
    }

    /// The same with both outputs in one file, and with a folder that is removed if this process ends without removing it.
    pub(crate) fn start_in(folder: &Path, name: &str, command: &mut Command, output: &Path) -> Result<Self> {
        Self::spawn(name, command, output, output, Watch::start(Some(folder))?)
    }

    fn spawn(name: &str, command: &mut Command, stdout: &Path, stderr: &Path, watch: Watch) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(append(stdout)?)
            .stderr(append(stderr)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut server = Self {
            name: name.to_owned(),
            child,
            watch: Some(watch),
        };
        if let Some(watch) = &mut server.watch {
            watch.over(server.child.id())?;
        }
        Ok(server)
    }

    /// Fails if the process has ended, so that nobody waits for what cannot come any more.
    ///
    /// # Errors
    ///
    /// With how it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.name),
        }
    }

    /// Asks the process to stop and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not within [`PATIENCE`].
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait_until(&format!("{} to stop", self.name.clone()), PATIENCE, || {
            self.ended()
        })
    }

    /// Takes the process away without a warning.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.watch = None;
        self.child.wait()?;
        Ok(())
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("signalling {}", self.name))
    }

    /// Whether the process has ended, and how. From then on its number may be somebody else's, so nobody watches it any more.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.watch = None;
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended already. The watch ends in between: a number that was waited for is free again.
        let _ = self.child.kill();
        self.watch = None;
        let _ = self.child.wait();
    }
}

/// A shell that kills a process when this one has gone.
///
/// A value in a `static` is never dropped, and nothing is when a test is aborted or killed. What always happens then is that the
/// system closes our end of the shell's standard input. (`PR_SET_PDEATHSIG` would act when the *thread* ends that started the
/// process: a test's thread, long before the last test.)
#[derive(Debug)]
struct Watch {
    shell: Child,
}

impl Watch {
    /// Starts one that watches nothing yet, and removes `folder` after all.
    fn start(folder: Option<&Path>) -> Result<Self> {
        // An interrupt from the terminal reaches the shell as well: its work is still to come then.
        let script = r#"trap '' HUP INT TERM
            read -r process && { read -r word; kill -KILL "$process"; }
            [ -z "$1" ] || rm -rf -- "$1""#;
        let shell = Command::new("sh")
            .args(["-c", script, "watch"])
            .arg(folder.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sh, which stops what tests leave behind")?;
        Ok(Self { shell })
    }

    /// Says which process is meant.
    fn over(&mut self, process: u32) -> Result<()> {
        let stdin = self.shell.stdin.as_mut().context("the watch has no input")?;
        writeln!(stdin, "{process}").context("telling the watch whom to watch")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In time: it only acts once its input is closed, which `wait` does.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
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
pub struct Finished {
    /// Whether it ended with status 0.
    pub success: bool,
    /// What it has printed.
    pub stdout: String,
    /// What it has said on the other output.
    pub stderr: String,
    line: String,
}

impl Finished {
    /// The standard output of a command that must succeed.
    ///
    /// # Errors
    ///
    /// With what it has said, if it failed.
    pub fn expect_success(self) -> Result<String> {
        if self.success {
            Ok(self.stdout)
        } else {
            Err(self.explained("failed"))
        }
    }

    /// Everything a command has said that must fail.
    ///
    /// # Errors
    ///
    /// With what it has said, if it succeeded.
    pub fn expect_failure(self) -> Result<String> {
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
///
/// # Errors
///
/// If it cannot be started or takes too long. How it ends is for the caller to judge.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
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
///
/// # Errors
///
/// If asking fails, or there is no answer within `limit`.
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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
///
/// # Errors
///
/// If a thousand ports in a row are taken.
pub fn free_port() -> Result<u16> {
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
#[must_use]
pub fn http_status(port: u16, path: &str) -> Option<u16> {
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

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    all.into_iter()
        .skip(skipped)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The last lines of a file under its name, or why they cannot be read.
#[must_use]
pub fn file_tail(path: &Path, lines: usize) -> String {
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
