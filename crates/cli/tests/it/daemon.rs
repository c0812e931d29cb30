//! Runs the program as a server.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use kes_testkit::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};

use crate::kes::{Ran, command};

/// A server that is killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What it has printed up to the line that says that it is ready.
    pub(crate) banner: Vec<String>,
}

impl Daemon {
    /// Starts `kes server` with `arguments` in `directory`, and waits until it is ready.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = ["server"].iter().chain(arguments).copied().collect();
        let mut daemon = Self::spawn(command(directory, &arguments));
        daemon.banner = daemon.stdout_until("=> ");
        daemon
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
            banner: Vec::new(),
        }
    }

    /// The value of `label` in the banner.
    pub(crate) fn value(&self, label: &str) -> &str {
        let line = self
            .banner
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{label:<12}")));
        line.unwrap_or_else(|| panic!("{label}: {:?}", self.banner))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.value("API").strip_prefix("· https://").unwrap()
    }

    pub(crate) fn stdout_until(&self, text: &str) -> Vec<String> {
        until(&self.stdout, text)
    }

    pub(crate) fn stderr_until(&self, text: &str) -> Vec<String> {
        until(&self.stderr, text)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a loss of power would, and waits until it has ended.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and returns how it ended and what it printed since.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        // Its output ends when it does.
        let rest = std::iter::from_fn(|| self.stdout.recv_timeout(PATIENCE).ok()).collect();
        (self.child.wait().unwrap(), rest)
    }

    /// Tells it to stop and expects that it does so well.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let (status, rest) = self.wait();
        assert_eq!(status.code(), Some(0), "{rest:?}");
        assert_eq!(rest.last().map(String::as_str), Some("=> Server has stopped"));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn until(lines: &Receiver<String>, text: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.contains(text)) {
        let line = lines.recv_timeout(PATIENCE);
        seen.push(line.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")));
    }
    seen
}

/// Someone to whom a server tells its state.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    /// Listens on a socket in `directory`, which a server finds by `NOTIFY_SOCKET`.
    pub(crate) fn new(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next state that it is told, except that the server is alive.
    pub(crate) fn next(&self) -> String {
        loop {
            let state = self.next_of_all();
            if state != "WATCHDOG=1\n" {
                return state;
            }
        }
    }

    pub(crate) fn next_of_all(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

/// A run of the program as a client of `server`, with these variables.
pub(crate) fn client(directory: &Path, variables: &[(&str, &str)], line: &str) -> Ran {
    let arguments: Vec<_> = line.split(' ').collect();
    let mut command = command(directory, &arguments);
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap().into()
}
