//! What is logged on one thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// What is logged on the thread of a test, which must run on one thread for that. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct ThreadLog(Arc<Mutex<Vec<u8>>>);

impl ThreadLog {
    /// Collects what is shown to operators, until the guard is gone.
    #[must_use]
    pub fn capture() -> (Self, DefaultGuard) {
        Self::down_to(Level::INFO)
    }

    /// Collects every level, until the guard is gone.
    #[must_use]
    pub fn capture_all() -> (Self, DefaultGuard) {
        Self::down_to(Level::TRACE)
    }

    fn down_to(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines of our own crates: the server shows no others.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| line.contains(" kes_"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The one line that contains `part`.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[expect(clippy::must_use_candidate, reason = "that there is one is an assertion")]
    pub fn line(&self, part: &str) -> String {
        let text = self.text();
        let mut lines = text.lines().filter(|line| line.contains(part));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line.to_owned(),
            (None, _) => panic!("{part:?} is not in: {text}"),
            (Some(_), Some(_)) => panic!("{part:?} is in more than one line of: {text}"),
        }
    }
}

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
