//! The `kes` executable: its servers and its command line.

use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kes_peers::process::{self, Finished, PATIENCE, Server, file_tail, free_port, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::pasted::Pasted;

/// How long a command may take: one of them creates 2,000 keys.
const LIMIT: Duration = Duration::from_secs(900);

/// One KES server: its files, its port and, while it runs, its process.
#[derive(Debug)]
pub(super) struct KesServer {
    name: &'static str,
    folder: PathBuf,
    port: u16,
    /// What it is started with, the first time and every other time.
    arguments: Vec<OsString>,
    config: PathBuf,
    certificate: PathBuf,
    process: Option<Server>,
}

/// What a server is configured with.
#[derive(Clone, Debug)]
pub(super) struct KesSettings<'a> {
    pub(super) admin: &'a str,
    pub(super) policy: Option<Policy<'a>>,
    /// How long keys stay in the cache: at most, and unused.
    pub(super) expiry: (&'a str, &'a str),
    /// The section `keystore`.
    pub(super) keystore: &'a str,
}

/// Rules and the identity they are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy<'a> {
    pub(super) rules: &'a [&'a str],
    pub(super) identity: &'a str,
}

impl Policy<'_> {
    fn yaml(&self) -> String {
        let Self { rules, identity } = self;
        let rules: String = rules.iter().map(|rule| format!("      - {rule}\n")).collect();
        format!("policy:\n  minio:\n    allow:\n{rules}    identities:\n      - {identity}\n")
    }
}

impl KesServer {
    /// A server with its configuration written, not yet started.
    pub(super) fn by_hand(name: &'static str, folder: &Path, settings: &KesSettings<'_>) -> Result<Self> {
        let config = folder.join(format!("{name}.yml"));
        let server = Self {
            name,
            folder: folder.to_owned(),
            port: free_port()?,
            arguments: vec!["server".into(), "--config".into(), config.clone().into()],
            config,
            certificate: folder.join("server.crt"),
            process: None,
        };
        fs::write(&server.config, server.yaml(settings))?;
        Ok(server)
    }

    /// A server that makes everything it needs when it is started for the first time.
    pub(super) fn from_nothing(name: &'static str, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let data = folder.join(name);
        Ok(Self {
            name,
            folder: folder.to_owned(),
            port,
            arguments: vec![
                "server".into(),
                "--init".into(),
                data.clone().into(),
                "--addr".into(),
                format!("127.0.0.1:{port}").into(),
            ],
            config: data.join("config.yml"),
            certificate: data.join("server.crt"),
            process: None,
        })
    }

    fn yaml(&self, settings: &KesSettings<'_>) -> String {
        let KesSettings {
            admin,
            policy,
            expiry: (any, unused),
            keystore,
        } = settings;
        let folder = self.folder.display();
        let policy = policy.map_or_else(String::new, |policy| policy.yaml());
        format!(
            "address: 127.0.0.1:{port}\nadmin:\n  identity: {admin}\ntls:\n  key: {folder}/server.key\n  cert: {folder}/server.crt\n\
             {policy}cache:\n  expiry:\n    any: {any}\n    unused: {unused}\nlog:\n  error: on\n  audit: on\n{keystore}",
            port = self.port,
        )
    }

    /// Turns the audit on, and adds a policy, in a configuration that the server has made itself and is running with.
    pub(super) fn edit(&mut self, policy: Option<Policy<'_>>) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        ensure!(
            text.contains("\n  audit: off"),
            "the configuration that the server made has no line 'audit: off'"
        );
        let text = text.replace("\n  audit: off", "\n  audit: on");
        let policy = policy.map_or_else(String::new, |policy| policy.yaml());
        fs::write(&self.config, format!("{text}\n{policy}"))?;
        self.process
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?
            .signal(Signal::HUP)?;
        wait_until("the configuration to be reloaded", PATIENCE, || {
            let log = fs::read_to_string(self.log())?;
            Ok(log.contains("the configuration has been reloaded").then_some(()))
        })
    }

    /// What somebody has in the environment who pastes into a shell what the server has printed.
    pub(super) fn pasted(&self) -> Result<Pasted> {
        Pasted::from_output(&fs::read_to_string(self.output())?)
    }

    fn output(&self) -> PathBuf {
        self.folder.join(format!("{}.out", self.name))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// What clients trust.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(super) fn runs(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.check_alive().is_ok())
    }

    /// Starts the server and waits until it listens and has said so, which is the last of what it prints for others.
    pub(super) fn start(&mut self, executable: &Path) -> Result<()> {
        let started = || {
            let printed = fs::read_to_string(self.output()).unwrap_or_default();
            printed.matches("\n=> Server is up and running").count()
        };
        let before = started();
        let mut command = Command::new(executable);
        command.args(&self.arguments).current_dir(&self.folder);
        let mut server = Server::start(self.name, &mut command, &self.output(), &self.log())?;
        wait_until(&format!("{} to listen", self.name), PATIENCE, || {
            server.check_alive()?;
            let listens = || TcpStream::connect(("127.0.0.1", self.port)).ok();
            Ok(listens().filter(|_| started() > before))
        })?;
        self.process = Some(server);
        Ok(())
    }

    /// Stops the server the way an operator does; it must end in good order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let status = self.running()?.stop()?;
        if !status.success() {
            bail!("{} stopped with {status}", self.name);
        }
        Ok(())
    }

    /// Takes the server away in the middle of what it does.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.running()?.kill()
    }

    fn running(&mut self) -> Result<Server> {
        self.process
            .take()
            .with_context(|| format!("{} does not run", self.name))
    }

    /// The audit events so far, in order.
    pub(super) fn audit(&self) -> Result<Vec<AuditEvent>> {
        let text = fs::read_to_string(self.output())?;
        // The last line may still be in writing.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or_default());
        whole
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(AuditEvent::parse)
            .collect()
    }

    pub(super) fn evidence(&self) -> String {
        format!("{}{}", file_tail(&self.log(), 25), file_tail(&self.output(), 10))
    }
}

/// One line of the audit output, as far as the steps look at it.
#[derive(Debug)]
pub(super) struct AuditEvent {
    pub(super) path: String,
    pub(super) identity: String,
    pub(super) status: u64,
}

impl AuditEvent {
    fn parse(line: &str) -> Result<Self> {
        let event: Value = serde_json::from_str(line).with_context(|| format!("audit event: {line}"))?;
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            path: text("/request/path").with_context(|| format!("audit event without a path: {line}"))?,
            identity: text("/request/identity").unwrap_or_default(),
            status: event
                .pointer("/response/code")
                .and_then(Value::as_u64)
                .with_context(|| format!("audit event without a status: {line}"))?,
        })
    }
}

/// The command line in the hands of one identity.
#[derive(Clone, Debug)]
pub(super) struct KesCli {
    pub(super) executable: PathBuf,
    /// Where its certificate is.
    pub(super) folder: PathBuf,
    pub(super) credentials: Credentials,
}

/// What a client of KES proves its identity with.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// `NAME.key` and `NAME.crt`.
    Certificate(&'static str),
    /// The text `kes:v1:…`.
    ApiKey(String),
}

impl KesCli {
    /// Runs a command against a server.
    pub(super) fn run(&self, server: &KesServer, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.executable);
        command.args(arguments).env("KES_SERVER", server.endpoint());
        command.env("MINIO_KMS_KES_CAPATH", server.certificate());
        match &self.credentials {
            Credentials::Certificate(name) => {
                command.env("KES_CLIENT_KEY", self.folder.join(format!("{name}.key")));
                command.env("KES_CLIENT_CERT", self.folder.join(format!("{name}.crt")));
            }
            Credentials::ApiKey(key) => {
                command.env("KES_API_KEY", key);
            }
        }
        process::run(&mut command, LIMIT)
    }

    /// Runs a command that must succeed.
    pub(super) fn ok(&self, server: &KesServer, arguments: &[&str]) -> Result<String> {
        self.run(server, arguments)?.expect_success()
    }
}

/// Runs a command that talks to no server.
pub(super) fn local(executable: &Path, folder: &Path, arguments: &[&str]) -> Result<String> {
    process::run(
        Command::new(executable).args(arguments).current_dir(folder),
        PATIENCE,
    )?
    .expect_success()
}
