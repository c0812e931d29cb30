//! AWS on this machine: moto, which answers for Secrets Manager, KMS, STS, IAM and the instance metadata service.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http;
use crate::install::{BUILD_LIMIT, once};
use crate::peer::{Peer, on_free_port};
use crate::process::run;

/// A running moto server. Its state is in memory and ends with it.
///
/// It believes everybody unless told otherwise: any credentials do, but requests must be signed, since the signature says which
/// service is meant.
#[derive(Debug)]
pub struct Moto {
    _peer: Peer,
    port: u16,
    tls: bool,
}

impl Moto {
    /// Starts one that believes every signature.
    ///
    /// # Errors
    ///
    /// If moto cannot be installed or does not come up.
    pub fn start() -> Result<Self> {
        Self::launch(None, None)
    }

    /// The same over TLS, with this certificate chain and key in PEM.
    ///
    /// # Errors
    ///
    /// If moto cannot be installed or does not come up.
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self> {
        Self::launch(Some((certificate, key)), None)
    }

    /// Starts one that checks signatures and IAM policies after the first `free` calls, which make the users.
    ///
    /// # Errors
    ///
    /// If moto cannot be installed or does not come up.
    pub fn enforcing_auth(free: u32) -> Result<Self> {
        Self::launch(None, Some(free))
    }

    /// Both at once, on a port that the caller has chosen, such as that of HTTPS on a network of its own.
    ///
    /// # Errors
    ///
    /// If moto cannot be installed or does not come up.
    pub fn enforcing_auth_over_tls(port: u16, free: u32, certificate: &Path, key: &Path) -> Result<Self> {
        Self::launch_on(port, Some((certificate, key)), Some(free))
    }

    fn launch(tls: Option<(&Path, &Path)>, free: Option<u32>) -> Result<Self> {
        on_free_port(|port| Self::launch_on(port, tls, free))
    }

    fn launch_on(port: u16, tls: Option<(&Path, &Path)>, free: Option<u32>) -> Result<Self> {
        let folder = install()?;
        let mut command = Command::new(folder.join("bin/python"));
        command.args([
            "-I",
            "-u",
            "-c",
            SERVER,
            "-H",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        if let Some((certificate, key)) = tls {
            command.arg("-c").arg(certificate).arg("-k").arg(key);
        }
        if let Some(free) = free {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", free.to_string());
        }
        let (peer, ()) = Peer::start("moto", tempfile::tempdir()?, &mut command, |printed| {
            printed.contains("Running on").then_some(())
        })?;
        Ok(Self {
            _peer: peer,
            port,
            tls: tls.is_some(),
        })
    }

    /// The address that an AWS client is given for all services, such as `http://127.0.0.1:15055`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks a service for `target`, such as `secretsmanager.ListSecrets`, with the signature of nobody, and gives the status and
    /// the answer, a text if it is not JSON: what puts something in place, or looks at it, without the client under test.
    ///
    /// # Errors
    ///
    /// If the server speaks TLS, or does not answer.
    pub fn call(&self, service: &str, region: &str, target: &str, body: &Value) -> Result<(u16, Value)> {
        if self.tls {
            bail!("a moto server over TLS is asked by its clients alone");
        }
        let scope = format!("an-access-key/20260101/{region}/{service}/aws4_request");
        let signature = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
        let headers = [("X-Amz-Target", target), ("Authorization", signature.as_str())];
        let answer = http::send(self.port, "POST", "/", &headers, Some(body))?;
        let text = || Value::String(String::from_utf8_lossy(&answer.body).into_owned());
        // Some refusals are XML, whatever the service.
        Ok((answer.status, answer.json().unwrap_or_else(|_| text())))
    }

    /// Empties all services in all regions, also for every other test that uses this server.
    ///
    /// # Errors
    ///
    /// If the server speaks TLS, or does not answer.
    pub fn reset(&self) -> Result<()> {
        if self.tls {
            bail!("a moto server over TLS is not reset: start another one");
        }
        let answer = http::send(self.port, "POST", "/moto-api/reset", &[], None)?;
        if answer.status != 200 {
            bail!("resetting moto: status {}", answer.status);
        }
        Ok(())
    }
}

fn install() -> Result<PathBuf> {
    // A virtual environment may be renamed as long as its programs are run as modules of its interpreter.
    once(&format!("moto-{VERSION}"), "bin/python", |aside| {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(aside),
            BUILD_LIMIT,
        )?
        .expect_success()
        .context("making a Python environment for moto; on Debian that needs the package python3-venv")?;
        // What moto needs, in the versions that this was tested with. After an update: pip freeze.
        let mut constraints = tempfile::NamedTempFile::new()?;
        constraints.write_all(include_bytes!("../moto/constraints.txt"))?;
        run(
            Command::new(aside.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--constraint"])
                .arg(constraints.path())
                .arg(format!("moto[server]=={VERSION}")),
            BUILD_LIMIT,
        )?
        .expect_success()?;
        Ok(())
    })
}

const VERSION: &str = "5.2.5";

/// Runs the server so that Python changes threads only where one waits: it goes through all secrets with each request, and fails
/// with status 500 when another request adds one meanwhile.
const SERVER: &str = "import sys; sys.setswitchinterval(60); from moto.server import main; main()";
