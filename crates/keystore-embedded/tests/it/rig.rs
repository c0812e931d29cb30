//! What these tests share: seals, names with values that belong to them, and other processes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore, StoreError};
use kes_keystore_embedded::{Config, ConnectError, EmbeddedStore};
use kes_seal::{KeySeal, Seal, Seals};
use kes_types::{Clock, ManualClock};

use crate::sim::{Disk, Random};

/// The seal number `number`; the same one every time.
pub(crate) fn seal(number: u8) -> Arc<dyn Seal> {
    Arc::new(KeySeal::from_variable(&format!("SEAL_{number}"), &seal_text(number)).unwrap())
}

/// The text of that seal: 32 times the byte `number`.
pub(crate) fn seal_text(number: u8) -> String {
    STANDARD.encode([number; 32])
}

/// A store at `path` with the seal number 1.
pub(crate) fn config(path: &Path) -> Config {
    Config {
        path: path.to_owned(),
        seals: vec![seal(1)],
        undelete: UNDELETE,
    }
}

/// How long deleted keys can be brought back in these tests.
pub(crate) const UNDELETE: Duration = Duration::from_secs(3600);

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::default())
}

/// A new store on `disk`.
pub(crate) async fn create_on(disk: &Disk) -> Result<EmbeddedStore, ConnectError> {
    EmbeddedStore::create_on(Arc::new(disk.clone()), config(Path::new("sim")), clock()).await
}

/// The store that is on `disk`.
pub(crate) async fn open_on(disk: &Disk) -> Result<EmbeddedStore, ConnectError> {
    open_sealed_on(disk, vec![seal(1)]).await
}

pub(crate) async fn open_sealed_on(disk: &Disk, seals: Seals) -> Result<EmbeddedStore, ConnectError> {
    let config = Config {
        seals,
        ..config(Path::new("sim"))
    };
    EmbeddedStore::open_on(Arc::new(disk.clone()), config, clock()).await
}

pub(crate) fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

/// The value that belongs to `name`: nobody else's, and some longer than a page of the file.
pub(crate) fn value_of(name: &str) -> SecretBytes {
    let seed = name.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte))
    });
    let mut random = Random::new(seed);
    let len = if random.below(16) == 0 {
        5000 + random.below(5000)
    } else {
        1 + random.below(300)
    };
    let bytes: Vec<_> = std::iter::repeat_with(|| random.below(256).to_le_bytes())
        .map(|[low, ..]| low)
        .take(len)
        .collect();
    SecretBytes::copy_of(&bytes)
}

pub(crate) async fn create(store: &impl KeyStore, text: &str) -> Result<(), StoreError> {
    store.create(&name(text), &value_of(text)).await
}

/// Whether `text` is there with the value that belongs to it. Any other value is a failed test.
pub(crate) async fn present(store: &impl KeyStore, text: &str) -> Result<bool, StoreError> {
    match store.get(&name(text)).await {
        Ok(entry) => {
            assert_eq!(
                entry.value.expose_secret(),
                value_of(text).expose_secret(),
                "the value of {text} is another one"
            );
            Ok(true)
        }
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// All names, page by page.
pub(crate) async fn list(store: &impl KeyStore, prefix: &str) -> Result<Vec<String>, StoreError> {
    const PAGE: NonZeroUsize = NonZeroUsize::new(100).unwrap();
    let mut names: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(prefix, after.as_ref(), PAGE).await?;
        names.extend(page.names.iter().map(|name| name.as_str().to_owned()));
        assert!(names.is_sorted_by(|a, b| a < b), "in order, each once: {names:?}");
        match page.next {
            None => return Ok(names),
            next => after = next,
        }
    }
}

/// Every name that is listed; each of them is there, with its own value.
pub(crate) async fn contents(store: &impl KeyStore) -> BTreeSet<String> {
    let names = list(store, "").await.unwrap();
    for text in &names {
        assert!(
            present(store, text).await.unwrap(),
            "{text} is listed and not there"
        );
    }
    names.into_iter().collect()
}

/// The time in nanoseconds, for what should be different in every run.
pub(crate) fn arbitrary() -> u64 {
    let now = kes_types::SystemClock.now().unix_timestamp_nanos();
    u64::try_from(now & i128::from(u64::MAX)).unwrap()
}

/// The error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// This test program again, in another process and another role. It runs one of the tests that are called `child_…`: they
/// test nothing in a normal run, in which they have no role and return at once.
pub(crate) struct Process {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) const ROLE: &'static str = "KES_TEST_ROLE";
    pub(crate) const PATH: &'static str = "KES_TEST_PATH";

    /// Runs the test `test`, by way of `wrapper` if that is not empty.
    pub(crate) fn start(wrapper: &[&str], test: &str, role: &str, path: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let mut child = command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(Self::ROLE, role)
            .env(Self::PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{wrapper:?} does not start: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The role of this process, if it is such another one, and the path that it was given.
    pub(crate) fn role() -> Option<(String, std::path::PathBuf)> {
        let role = std::env::var(Self::ROLE).ok()?;
        Some((role, std::env::var_os(Self::PATH).unwrap().into()))
    }

    /// The next line, if it came whole.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// The lines before the one that contains `mark`.
    pub(crate) fn read_until(&mut self, mark: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let Some(line) = self.line() else {
                panic!("the other process ended before {mark}; it said {lines:?}");
            };
            if line.contains(mark) {
                return lines;
            }
            lines.push(line);
        }
    }

    /// Waits for its end, which has to be a success.
    pub(crate) fn succeeds(mut self) {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            lines.push(line);
        }
        assert!(
            self.child.wait().unwrap().success(),
            "the other process failed; it said:\n{}",
            lines.join("\n")
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
