//! The programs that the tests talk to: built once from their pinned releases, kept outside the repository.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// MinIO Server and its client. Both are AGPL: they are run as programs, never read or linked.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) minio: PathBuf,
    pub(crate) mc: PathBuf,
}

impl Peers {
    /// Finds the peers in the user's cache, building what is missing.
    pub(crate) fn install() -> Result<Self> {
        Ok(Self {
            minio: go_program("minio", MINIO)?,
            mc: go_program("mc", MC)?,
        })
    }
}

/// The last releases that the Go module proxy serves.
const MINIO: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";
const MC: &str = "v0.0.0-20250313080218-cf909e1063a9";

fn go_program(name: &str, version: &str) -> Result<PathBuf> {
    let folder = cache()?.join(format!("{name}-{version}"));
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    println!("building {name} {version}, once");
    // Built aside and renamed, so that an interrupted build is never taken for a finished one.
    let aside = tempfile::Builder::new().prefix(name).tempdir_in(cache()?)?;
    let status = Command::new("go")
        .args(["install", &format!("github.com/minio/{name}@{version}")])
        .env("GOBIN", aside.path())
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOFLAGS")
        .current_dir(aside.path())
        .status()
        .context("starting go, which builds MinIO and mc for the end-to-end tests")?;
    if !status.success() {
        bail!("go install of {name} {version}: {status}");
    }
    fs::create_dir_all(&folder)?;
    fs::rename(aside.path().join(name), &program)
        .with_context(|| format!("keeping {}", program.display()))?;
    Ok(program)
}

fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let folder = base.join("kes-peers");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
