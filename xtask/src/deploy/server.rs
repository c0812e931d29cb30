//! A server with the embedded key store, for what asks one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use kes_peers::process::{PATIENCE, Server, file_tail, free_port, wait_until};

use super::printed;

/// One that runs, with an administrator who has a certificate.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) server: Server,
    folder: PathBuf,
    port: u16,
    /// That of the health listener.
    health: u16,
    kes: PathBuf,
}

impl Running {
    /// Makes a configuration in `folder` and starts `command` with it, or the executable.
    pub(super) fn start(kes: &Path, folder: &Path, wrapped: impl FnOnce(&Path) -> Command) -> Result<Self> {
        let (port, health) = (free_port()?, free_port()?);
        let data = folder.join("data");
        printed(
            Command::new(kes)
                .arg("init")
                .arg(&data)
                .args(["--addr", &format!("127.0.0.1:{port}")]),
        )?;
        printed(
            Command::new(kes)
                .args([
                    "identity",
                    "new",
                    "--key",
                    "admin.key",
                    "--cert",
                    "admin.crt",
                    "admin",
                ])
                .current_dir(folder),
        )?;
        let identity = printed(
            Command::new(kes)
                .args(["identity", "of", "admin.crt"])
                .current_dir(folder),
        )?;
        let identity = identity.split_whitespace().last().context("no identity")?;
        let config = data.join("config.yml");
        let text: String = fs::read_to_string(&config)?
            .lines()
            .map(|line| match line.strip_prefix("  identity: ") {
                Some(_) => format!("  identity: {identity}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        fs::write(&config, format!("{text}health:\n  address: 127.0.0.1:{health}\n"))?;
        let mut command = wrapped(kes);
        command.args(["server", "--config"]).arg(&config);
        let log = folder.join("server.log");
        let mut running = Self {
            server: Server::start("kes", &mut command, &log, &log)?,
            folder: folder.to_owned(),
            port,
            health,
            kes: kes.to_owned(),
        };
        wait_until("kes to be ready", PATIENCE, || {
            running.server.check_alive()?;
            Ok((kes_peers::process::http_status(health, "/v1/ready") == Some(200)).then_some(()))
        })
        .with_context(|| file_tail(&log, 30))?;
        Ok(running)
    }

    /// Where it serves clients.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What a command of the administrator prints.
    pub(super) fn admin(&self, arguments: &[&str]) -> Result<String> {
        printed(
            Command::new(&self.kes)
                .args(arguments)
                .env("KES_SERVER", format!("https://127.0.0.1:{}", self.port))
                .env("KES_CLIENT_KEY", "admin.key")
                .env("KES_CLIENT_CERT", "admin.crt")
                .env("SSL_CERT_FILE", self.folder.join("data/server.crt"))
                .current_dir(&self.folder),
        )
    }

    /// What Prometheus gets.
    pub(super) fn metrics(&self) -> Result<String> {
        printed(
            Command::new("curl")
                .args(["-sS", "--fail", "--noproxy", "*"])
                .arg(format!("http://127.0.0.1:{}/v1/metrics", self.health)),
        )
    }

    /// What the server has logged.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}
