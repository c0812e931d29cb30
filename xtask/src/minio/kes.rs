//! The `kes` executable: its servers and its command line.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{self, Finished, PATIENCE, Server, file_tail, free_port, wait_until};

/// One KES server: its files, its port and, while it runs, its process.
#[derive(Debug)]
pub(super) struct KesServer {
    name: &'static str,
    folder: PathBuf,
    port: u16,
    process: Option<Server>,
}

/// What a server is configured with.
#[derive(Clone, Debug)]
pub(super) struct KesSettings<'a> {
    pub(super) admin: &'a str,
    /// Rules and the identity they are for.
    pub(super) policy: Option<(&'a [&'a str], &'a str)>,
    /// How long keys stay in the cache: at most, and unused.
    pub(super) expiry: (&'a str, &'a str),
}

impl KesServer {
    /// A server with its configuration written, not yet started.
    pub(super) fn new(name: &'static str, folder: &Path, settings: &KesSettings<'_>) -> Result<Self> {
        let server = Self {
            name,
            folder: folder.to_owned(),
            port: free_port()?,
            process: None,
        };
        fs::write(server.config(), server.yaml(settings))?;
        Ok(server)
    }

    fn yaml(&self, settings: &KesSettings<'_>) -> String {
        let KesSettings {
            admin,
            policy,
            expiry: (any, unused),
        } = settings;
        let folder = self.folder.display();
        let policy = policy.map_or_else(String::new, |(rules, identity)| {
            let rules: String = rules.iter().map(|rule| format!("      - {rule}\n")).collect();
            format!("policy:\n  minio:\n    allow:\n{rules}    identities:\n      - {identity}\n")
        });
        format!(
            "address: 127.0.0.1:{port}\nadmin:\n  identity: {admin}\ntls:\n  key: {folder}/server.key\n  cert: {folder}/server.crt\n\
             {policy}cache:\n  expiry:\n    any: {any}\n    unused: {unused}\nlog:\n  error: on\n  audit: on\n\
             keystore:\n  fs:\n    path: {folder}/keys\n",
            port = self.port,
        )
    }

    fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.yml", self.name))
    }

    fn output(&self) -> PathBuf {
        self.folder.join(format!("{}.out", self.name))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Starts the server and waits until it listens.
    pub(super) fn start(&mut self, executable: &Path) -> Result<()> {
        let mut command = Command::new(executable);
        command
            .args(["server", "--config"])
            .arg(self.config())
            .current_dir(&self.folder);
        let mut server = Server::start(self.name, &mut command, &self.output(), &self.log())?;
        wait_until(&format!("{} to listen", self.name), PATIENCE, || {
            server.check_alive()?;
            Ok(TcpStream::connect(("127.0.0.1", self.port)).ok())
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
        command.env("MINIO_KMS_KES_CAPATH", self.folder.join("server.crt"));
        match &self.credentials {
            Credentials::Certificate(name) => {
                command.env("KES_CLIENT_KEY", self.folder.join(format!("{name}.key")));
                command.env("KES_CLIENT_CERT", self.folder.join(format!("{name}.crt")));
            }
            Credentials::ApiKey(key) => {
                command.env("KES_API_KEY", key);
            }
        }
        process::run(&mut command, PATIENCE)
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
