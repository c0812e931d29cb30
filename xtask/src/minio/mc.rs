//! The MinIO client, `mc`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kes_peers::process::{self, Finished};
use serde_json::Value;

/// How long a command may take; the largest one copies 1,000 objects.
const LIMIT: Duration = Duration::from_secs(900);

/// `mc` with one alias, `m`, for the server under test.
#[derive(Clone, Debug)]
pub(super) struct Mc {
    pub(super) executable: PathBuf,
    /// Where it keeps its own files.
    pub(super) home: PathBuf,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
}

impl Mc {
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.executable);
        command
            .args(["--json", "--no-color"])
            .args(arguments)
            .env("HOME", &self.home)
            .env("MC_CONFIG_DIR", self.home.join("mc"))
            .env(
                "MC_HOST_m",
                format!("http://{}:{}@127.0.0.1:{}", self.user, self.password, self.port),
            );
        process::run(&mut command, LIMIT)
    }

    /// Runs a command that must succeed and answers its last JSON line. Some commands print nothing; that is `null`.
    pub(super) fn ok(&self, arguments: &[&str]) -> Result<Value> {
        let stdout = self.run(arguments)?.expect_success()?;
        let Some(line) = stdout.lines().last() else {
            return Ok(Value::Null);
        };
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("mc {arguments:?} printed {line}"))?;
        if value.get("status").is_some_and(|status| status == "error") {
            bail!("mc {arguments:?}: {line}");
        }
        Ok(value)
    }

    /// A bucket, encrypted as `encryption` says (`sse-s3`, or `sse-kms KEY`), or not at all.
    pub(super) fn bucket(&self, bucket: &str, encryption: &[&str]) -> Result<()> {
        let target = format!("m/{bucket}");
        self.ok(&["mb", &target])?;
        if !encryption.is_empty() {
            self.ok(&[&["encrypt", "set"], encryption, &[&target]].concat())?;
        }
        Ok(())
    }

    pub(super) fn put(&self, file: &Path, target: &str) -> Result<Value> {
        self.ok(&["cp", utf8(file)?, target])
    }

    /// Copies an object to a file.
    pub(super) fn get(&self, source: &str, file: &Path) -> Result<Value> {
        self.ok(&["cp", source, utf8(file)?])
    }

    /// What `stat` says about an object's encryption: the algorithm and the name of the key.
    pub(super) fn encryption(&self, target: &str) -> Result<(String, String)> {
        let stat = self.ok(&["stat", target])?;
        let metadata = |name: &str| {
            let value = stat
                .pointer("/metadata")
                .and_then(|all| all.get(name))
                .and_then(Value::as_str);
            value
                .unwrap_or_default()
                .trim_start_matches("arn:aws:kms:")
                .to_owned()
        };
        Ok((
            metadata("X-Amz-Server-Side-Encryption"),
            metadata("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"),
        ))
    }

    /// The names of all keys that MinIO knows.
    pub(super) fn keys(&self) -> Result<Vec<String>> {
        let answer = self.ok(&["admin", "kms", "key", "list", "m"])?;
        let keys = answer
            .get("keys")
            .and_then(Value::as_array)
            .context("the answer has no keys")?;
        Ok(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// Temporary folders have plain names; this says so where one does not.
pub(super) fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
