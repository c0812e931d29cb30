//! HashiCorp Vault's own code in a program for tests, on storage in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http;
use crate::install::{BUILD_LIMIT, go, go_source};
use crate::peer::{Peer, on_free_port};
use crate::process::{free_port, run};

/// A running Vault, unsealed. What it keeps is in memory and ends with it.
///
/// It has the engines `kv` and `transit` and the logins `approle`, `cert`, `kubernetes` and `token`, none of them mounted but the
/// last. It ignores namespaces, so a test of those needs another peer.
#[derive(Debug)]
pub struct Vault {
    _peer: Peer,
    endpoint: String,
    port: u16,
    unseal_key: String,
}

impl Vault {
    /// The token that may do everything.
    pub const ROOT: &str = "root";

    /// Starts one on plain HTTP.
    ///
    /// # Errors
    ///
    /// If it cannot be built or does not come up.
    pub fn start() -> Result<Self> {
        Self::launch(None, None)
    }

    /// Starts one over TLS with this certificate chain and key in PEM. It asks clients for certificates and needs none.
    ///
    /// # Errors
    ///
    /// If it cannot be built or does not come up.
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self> {
        Self::launch(Some((certificate, key)), None)
    }

    /// The same on a port that the caller has chosen, such as Vault's own on a network where nobody else is.
    ///
    /// # Errors
    ///
    /// If it cannot be built or does not come up.
    pub fn start_tls_on(tls_port: u16, certificate: &Path, key: &Path) -> Result<Self> {
        Self::launch(Some((certificate, key)), Some(tls_port))
    }

    fn launch(tls: Option<(&Path, &Path)>, tls_port: Option<u16>) -> Result<Self> {
        let program = install()?;
        on_free_port(|port| {
            let mut command = Command::new(&program);
            let mut endpoint = format!("http://127.0.0.1:{port}");
            command.arg("-listen").arg(format!("127.0.0.1:{port}"));
            if let Some((certificate, key)) = tls {
                let tls_port = match tls_port {
                    Some(chosen) => chosen,
                    None => free_port()?,
                };
                endpoint = format!("https://127.0.0.1:{tls_port}");
                command.arg("-tls-listen").arg(format!("127.0.0.1:{tls_port}"));
                command.arg("-tls-cert").arg(certificate).arg("-tls-key").arg(key);
            }
            let (peer, unseal_key) = Peer::start("Vault", tempfile::tempdir()?, &mut command, |printed| {
                let key = printed
                    .lines()
                    .find_map(|line| line.strip_prefix("unseal-key "))?;
                printed.contains("\nready\n").then(|| key.to_owned())
            })?;
            Ok(Self {
                _peer: peer,
                endpoint,
                port,
                unseal_key,
            })
        })
    }

    /// The address that a client is given, such as `http://127.0.0.1:18200`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for `path`, without `/v1/`, and gives the status and the body, which is `null` if it is empty.
    ///
    /// # Errors
    ///
    /// If there is no answer, or one that is not JSON.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        namespace: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut headers = vec![("X-Vault-Token", token), ("X-Vault-Request", "true")];
        headers.extend(namespace.map(|namespace| ("X-Vault-Namespace", namespace)));
        // Over plain HTTP also if clients use TLS.
        let answer = http::send(self.port, method, &format!("/v1/{path}"), &headers, body)?;
        Ok((answer.status, answer.json()?))
    }

    /// Asks as root, and gives the body.
    ///
    /// # Errors
    ///
    /// If Vault refuses.
    pub fn root(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let (status, answer) = self.call(method, path, Self::ROOT, None, Some(&body))?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: status {status}: {answer}"
        );
        Ok(answer)
    }

    /// Seals it: everything is refused until [`Vault::unseal`].
    ///
    /// # Errors
    ///
    /// If it is sealed.
    pub fn seal(&self) -> Result<()> {
        self.root("PUT", "sys/seal", Value::Null).map(drop)
    }

    /// What ends the seal.
    #[must_use]
    pub fn unseal_key(&self) -> &str {
        &self.unseal_key
    }

    /// Ends the seal. What Vault had it still has.
    ///
    /// # Errors
    ///
    /// If it does not take the key.
    pub fn unseal(&self) -> Result<()> {
        let answer = self.root("PUT", "sys/unseal", json!({ "key": self.unseal_key }))?;
        if answer.get("sealed") != Some(&Value::Bool(false)) {
            bail!("Vault is still sealed: {answer}");
        }
        Ok(())
    }
}

/// The last version under the MPL that matches an sdk which can be had. Later ones must not be taken: from 1.15 on the licence is
/// another, and 1.14.10 has it too.
fn install() -> Result<PathBuf> {
    let sources = [
        ("main.go", include_str!("../vault/main.go")),
        ("go.mod", include_str!("../vault/go.mod")),
        ("go.sum", include_str!("../vault/go.sum")),
    ];
    go_source("vault", "1.14.1", &sources, |folder| {
        patched_sdk(&folder.join("sdk"))
    })
}

/// Puts Vault's sdk into `folder`, without the check at start which one of Vault's own routes of this version does not pass: it
/// makes every write below `sys/` fail.
fn patched_sdk(folder: &Path) -> Result<()> {
    // Outside of any module, so that no go.mod is touched.
    let elsewhere = tempfile::tempdir()?;
    let printed = run(
        go(elsewhere.path()).args(["mod", "download", "-json", SDK]),
        BUILD_LIMIT,
    )?
    .expect_success()?;
    let found: Value = serde_json::from_str(&printed).context("what go says of Vault's sdk")?;
    // Go compares no sums of what a replace directive puts in a module's place.
    ensure!(
        found.get("Sum").and_then(Value::as_str) == Some(SDK_SUM),
        "{SDK} is not the one that this was written for: {found}"
    );
    let source = found
        .get("Dir")
        .and_then(Value::as_str)
        .context("go does not say where the sdk is")?;
    copy(Path::new(source), folder)?;
    let file = folder.join("framework/backend.go");
    let text = fs::read_to_string(&file)?;
    ensure!(
        text.contains(CHECK),
        "{} has no check to take out",
        file.display()
    );
    fs::write(&file, text.replace(CHECK, "_ = p"))?;
    Ok(())
}

/// Copies a folder, file by file: those of Go's cache are read-only, and the copies must not be.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

const SDK: &str = "github.com/hashicorp/vault/sdk@v0.9.2";
const SDK_SUM: &str = "h1:H1kitfl1rG2SHbeGEyvhEqmIjVKE3E6c2q3ViKOs6HA=";
const CHECK: &str =
    r#"panic(fmt.Sprintf("Pattern %v defines a CreateOperation but no ExistenceCheck", p.Pattern))"#;
