//! What is logged while a promise is examined.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::sync::{Mutex, OnceLock};

use kes_server::{Console, Target};

use super::*;

/// The error log of the process, with all its levels, in a file.
pub(super) struct Log {
    file: Mutex<File>,
}

impl Log {
    pub(super) fn of_the_process() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = crate::server::error_log();
            log.set_level(Level::DEBUG);
            let file = tempfile::tempfile().unwrap();
            let target = Target::Fd(file.try_clone().unwrap().into());
            let console: Arc<Console> = Arc::clone(log.console());
            // Of its own, because the runtime of a test ends with it.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(console.run(target)).unwrap();
            });
            Self {
                file: Mutex::new(file),
            }
        })
    }

    pub(super) async fn text(&self) -> String {
        crate::server::error_log().console().drained().await;
        let mut file = self.file.lock().unwrap();
        let mut text = String::new();
        // The descriptors share their position, so it goes back to the end by reading all.
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    /// The last lines, to say why something failed.
    pub(super) async fn tail(&self) -> String {
        let text = self.text().await;
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
