//! What runs through cargo: the test suites, the executable under test, the benchmark.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::report::Report;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
}

/// A cargo command in the repository, free of what the cargo that runs us has put into the environment: build scripts watch some
/// of it, and would run again.
pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let inherited = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_PRIMARY_PACKAGE"
        });
        if inherited {
            command.env_remove(name);
        }
    }
    command.arg(subcommand).current_dir(root());
    command
}

/// `cargo test --workspace`, documentation examples included, its results counted.
pub(crate) fn unit_tests(report: &mut Report) {
    let start = Instant::now();
    let mut counts = Counts::default();
    let ended = (|| -> Result<bool> {
        let mut child = command("test")
            .args(["--workspace", "--no-fail-fast"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting cargo test")?;
        let stdout = child.stdout.take().context("cargo test has an output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            counts.read(&line);
        }
        Ok(child.wait()?.success())
    })();
    let broken = match ended {
        Ok(true) => None,
        Ok(false) if counts.failed.is_empty() => {
            Some("cargo test: not every test could be built or run".to_owned())
        }
        Ok(false) => None,
        Err(error) => Some(format!("cargo test: {error:#}")),
    };
    counts.failed.extend(broken);
    println!(
        "cargo test --workspace: {} passed, {} failed ({:.1} s)",
        counts.passed,
        counts.failed.len(),
        start.elapsed().as_secs_f64()
    );
    report.add(counts.passed, &counts.failed);
}

/// What the lines of `cargo test` add up to.
#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: Vec<String>,
}

impl Counts {
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let passed = result.split_whitespace().zip(result.split_whitespace().skip(1));
            self.passed += passed
                .filter(|(_, what)| what.trim_end_matches(';') == "passed")
                .filter_map(|(count, _)| count.parse::<usize>().ok())
                .sum::<usize>();
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
    }
}

/// Builds the `kes` executable and answers where it is.
pub(crate) fn build_kes() -> Result<PathBuf> {
    let output = command("build")
        .args([
            "--package",
            "kes-cli",
            "--bin",
            "kes",
            "--message-format",
            "json-render-diagnostics",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo build")?;
    if !output.status.success() {
        bail!("kes does not build: {}", output.status);
    }
    let built = executables(&output.stdout);
    built
        .into_iter()
        .find(|(name, _)| name == "kes")
        .map(|(_, path)| path)
        .context("cargo build names no executable")
}

/// The names and paths of the executables that cargo's JSON messages tell of.
pub(crate) fn executables(messages: &[u8]) -> Vec<(String, PathBuf)> {
    let text = String::from_utf8_lossy(messages);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| {
        let text = |pointer| message.pointer(pointer).and_then(Value::as_str);
        Some((
            text("/target/name")?.to_owned(),
            PathBuf::from(text("/executable")?),
        ))
    };
    messages.filter_map(executable).collect()
}

/// Where cargo builds the workspace; what is outside the workspace shares it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let output = command("metadata")
        .args(["--format-version", "1", "--no-deps", "--offline"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    folder
        .map(PathBuf::from)
        .context("cargo metadata names no target folder")
}

/// `cargo xtask bench`: the benchmark program, with everything built as it is shipped.
pub(crate) fn bench(arguments: &[&str]) -> Result<ExitCode> {
    let status = command("run")
        .args([
            "--quiet",
            "--profile",
            "dist",
            "--package",
            "kes-bench",
            "--bin",
            "kes-bench",
            "--",
        ])
        .args(arguments)
        .status()
        .context("starting cargo run")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_suites_add_up() {
        let mut counts = Counts::default();
        for line in [
            "test names::a_dash_is_not_first ... ok",
            "test names::a_dash_is_not_last ... FAILED",
            "test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            counts.read(line);
        }
        assert_eq!(counts.passed, 42);
        assert_eq!(counts.failed, ["names::a_dash_is_not_last"]);
    }
}
