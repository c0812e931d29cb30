//! Where a guide is followed: a folder, a terminal, and a server in another one.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{self, Finished, PATIENCE, Server, file_tail, wait_until};
use tempfile::TempDir;

/// The port that the guides use.
const PORT: u16 = 7373;

#[derive(Debug)]
pub(super) struct Place {
    server: Option<Server>,
    search: OsString,
    /// What the terminal has exported.
    exports: Vec<(String, String)>,
    folder: TempDir,
}

impl Place {
    pub(super) fn new(kes: &Path) -> Result<Self> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let own = kes.parent().map(Path::to_owned);
        Ok(Self {
            server: None,
            search: env::join_paths(own.into_iter().chain(env::split_paths(&inherited)))?,
            exports: Vec::new(),
            folder: tempfile::Builder::new().prefix("kes-guide-").tempdir()?,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {name}"))
    }

    /// `export NAME=VALUE`, for everything after it.
    pub(super) fn export(&mut self, name: &str, value: &str) {
        self.exports.push((name.to_owned(), value.to_owned()));
    }

    /// Types a line, which must succeed; answers what it prints.
    pub(super) fn sh(&self, script: &str) -> Result<String> {
        self.finished(script)?.expect_success()
    }

    /// Types a line, which must fail; answers what it prints.
    pub(super) fn sh_fails(&self, script: &str) -> Result<String> {
        self.finished(script)?.expect_failure()
    }

    fn finished(&self, script: &str) -> Result<Finished> {
        process::run(&mut self.shell(script), PATIENCE)
    }

    /// Types the line of a server in another terminal, and waits until it serves. A server from before is stopped.
    pub(super) fn serve(&mut self, line: &str) -> Result<()> {
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, PORT));
        ensure!(
            connect().is_err(),
            "something else listens on port {PORT}, which the guide uses"
        );
        let (out, err) = (self.path("server.out"), self.path("server.err"));
        let mut server = Server::start("kes server", &mut self.shell(&format!("exec {line}")), &out, &err)?;
        wait_until("the server to listen", PATIENCE, || {
            server.check_alive()?;
            Ok(connect().ok())
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// What the server has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("server.err")).unwrap_or_default()
    }

    pub(super) fn evidence(&self) -> String {
        format!(
            "{}{}",
            file_tail(&self.path("server.out"), 10),
            file_tail(&self.path("server.err"), 30)
        )
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]);
        for (name, _) in env::vars_os() {
            let is_ours = |name: &str| {
                ["AWS_", "KES_", "MINIO_", "VAULT_"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            };
            if name.to_str().is_some_and(is_ours) {
                shell.env_remove(name);
            }
        }
        shell
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("PATH", &self.search)
            .envs(self.exports.iter().map(|(name, value)| (name, value)));
        shell
    }
}
