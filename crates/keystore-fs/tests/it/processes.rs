//! Several processes on one folder, and one that has run out of file descriptors.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use kes_keystore::{KeyStore, StoreError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::{connect, name, secret};

const ROLE: &str = "KES_TEST_ROLE";
const FOLDER: &str = "KES_TEST_FOLDER";
const READY: &str = "@ready";
const WON: &str = "@won ";
const DONE: &str = "@done";

/// What runs in the other processes; does nothing in this one.
#[tokio::test]
async fn other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = std::env::var_os(FOLDER).unwrap();
    match role.split_once(' ') {
        Some(("race", racer)) => race(Path::new(&folder), racer).await,
        None if role == "exhaust" => exhaust(Path::new(&folder)).await,
        _ => panic!("no such role: {role}"),
    }
    println!("{DONE}");
}

#[test]
fn of_processes_that_create_the_same_names_one_wins_each() {
    const RACERS: usize = 3;
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("keys");
    let mut racers: Vec<_> = (0..RACERS)
        .map(|racer| Process::start(&format!("race {racer}"), &path))
        .collect();
    for racer in &mut racers {
        racer.read_until(READY);
    }
    for racer in &mut racers {
        racer.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    let mut won = BTreeSet::new();
    for (number, racer) in racers.iter_mut().enumerate() {
        for line in racer.read_until(DONE) {
            let Some((_, text)) = line.split_once(WON) else {
                continue;
            };
            assert!(won.insert(text.to_owned()), "{text} was won twice");
            assert_eq!(
                fs::read_to_string(path.join(text)).unwrap(),
                format!("value of racer {number}")
            );
        }
        assert!(racer.child.wait().unwrap().success());
    }
    assert_eq!(won.len(), NAMES, "each name has a winner");
    assert_eq!(
        fs::read_dir(&path).unwrap().count(),
        NAMES,
        "and nothing else is left"
    );
}

const NAMES: usize = 60;

async fn race(folder: &Path, racer: &str) {
    let store = connect(folder).await;
    println!("{READY}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    for i in 0..NAMES {
        // From different ends, so that nobody wins everything.
        let i = if racer == "1" { NAMES - 1 - i } else { i };
        let text = format!("key-{i}");
        match store
            .create(&name(&text), &secret(&format!("value of racer {racer}")))
            .await
        {
            Ok(()) => println!("{WON}{text}"),
            Err(StoreError::Exists) => {}
            Err(error) => panic!("creating {text}: {error:?}"),
        }
    }
}

/// The reference removed the key here: without a free descriptor an exclusive open of an existing file does not say that
/// it exists.
#[test]
fn a_create_without_a_free_file_descriptor_leaves_the_key_alone() {
    let temp = TempDir::new().unwrap();
    let mut process = Process::start("exhaust", temp.path());
    process.read_until(DONE);
    assert!(process.child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(temp.path().join("existing")).unwrap(), "value");
}

async fn exhaust(folder: &Path) {
    let store = connect(folder).await;
    store.create(&name("existing"), &secret("value")).await.unwrap();
    let before = getrlimit(Resource::Nofile);
    // Descriptors are given out from the lowest free one.
    let lowest_free = {
        use std::os::fd::AsRawFd as _;
        let probe = fs::File::open("/dev/null").unwrap();
        u64::try_from(probe.as_raw_fd()).unwrap()
    };

    let mut failures = 0;
    for free in 0..6 {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(lowest_free + free),
                maximum: before.maximum,
            },
        )
        .unwrap();
        let existing = store.create(&name("existing"), &secret("another")).await;
        let new = store
            .create(&name(&format!("new-{free}")), &secret("value"))
            .await;
        setrlimit(Resource::Nofile, before).unwrap();

        assert!(
            matches!(existing, Err(StoreError::Exists | StoreError::Backend { .. })),
            "with {free} free: {existing:?}"
        );
        let read = store.get(&name("existing")).await.unwrap();
        assert_eq!(read.value.expose_secret(), b"value", "with {free} free");
        match new {
            Ok(()) => assert!(store.get(&name(&format!("new-{free}"))).await.is_ok()),
            Err(error) => {
                failures += 1;
                assert!(
                    matches!(error, StoreError::Backend { .. }),
                    "with {free} free: {error:?}"
                );
                let read = store.get(&name(&format!("new-{free}"))).await;
                assert!(
                    matches!(read, Err(StoreError::NotFound)),
                    "with {free} free: {read:?}"
                );
            }
        }
    }
    assert!(
        (2..6).contains(&failures),
        "{failures} of 6 failed, so the limit was not what was tested"
    );
    let left = fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 1 + 6 - failures, "nothing half-made is left");
}

struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "processes::other_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The lines before the one that contains `mark`.
    fn read_until(&mut self, mark: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert_ne!(
                read, 0,
                "the other process ended before {mark}; it said {lines:?}"
            );
            if line.contains(mark) {
                return lines;
            }
            lines.push(line.trim_end().to_owned());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
