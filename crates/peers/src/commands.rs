//! The commands that operators use with the peers, for what documents have them type.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::install::{BUILD_LIMIT, go_source, once};
use crate::process::run;

/// The command `aws`, alone in its folder.
///
/// # Errors
///
/// If it cannot be installed.
pub fn aws_cli() -> Result<PathBuf> {
    let folder = once(&format!("awscli-{AWS_CLI}"), "command/aws", |aside| {
        let environment = aside.join("python");
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&environment),
            BUILD_LIMIT,
        )?
        .expect_success()
        .context("making a Python environment for aws; on Debian that needs the package python3-venv")?;
        run(
            Command::new(environment.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet"])
                .arg(format!("awscli=={AWS_CLI}")),
            BUILD_LIMIT,
        )?
        .expect_success()?;
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

/// That of the API server.
const KUBECTL: &str = "1.36.3";
