//! What all peers have in common: a process, a folder for its files, a port that nobody else has.

use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::{PATIENCE, Server, file_tail, free_port, wait_until};

/// A peer that runs.
#[derive(Debug)]
pub(crate) struct Peer {
    // Before the folder: the process ends first.
    _server: Server,
    _folder: TempDir,
}

impl Peer {
    /// Starts `command`, whose files are in `folder`, and waits until `ready` has an answer.
    ///
    /// `ready` gets what the process has printed so far, so that a stranger on the same port is not taken for the peer.
    pub(crate) fn start<T>(
        name: &str,
        folder: TempDir,
        command: &mut Command,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<(Self, T)> {
        let output = folder.path().join("output");
        let mut server = Server::start_in(folder.path(), name, command, &output)?;
        let answer = wait_until(&format!("{name} to be ready"), PATIENCE, || {
            let alive = server.check_alive();
            let printed = std::fs::read(&output)?;
            if let Some(answer) = ready(&String::from_utf8_lossy(&printed)) {
                return Ok(Some(answer));
            }
            alive.map(|()| None)
        })
        .with_context(|| file_tail(&output, 30))?;
        Ok((
            Self {
                _server: server,
                _folder: folder,
            },
            answer,
        ))
    }
}

/// Starts something on a free port, on another one if somebody was faster.
pub(crate) fn on_free_port<T>(mut start: impl FnMut(u16) -> Result<T>) -> Result<T> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match start(free_port()?) {
            Err(error)
                if attempts < 5
                    && format!("{error:#}")
                        .to_lowercase()
                        .contains("address already in use") => {}
            result => return result,
        }
    }
}
