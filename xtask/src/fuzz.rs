//! The fuzz targets: that they build, and that nothing in their corpus breaks them.
//!
//! Searching for new inputs takes `cargo fuzz` and a nightly compiler; running known ones takes neither.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use kes_peers::process::{self, PATIENCE};

use crate::cargo;
use crate::report::Report;

/// Builds the targets and runs each over its corpus.
pub(crate) fn run(report: &mut Report) {
    let mut targets = Vec::new();
    report.step(
        "fuzz: the targets build",
        &mut targets,
        |targets| {
            *targets = build()?;
            ensure!(!targets.is_empty(), "there are none");
            Ok(())
        },
        |_| String::new(),
    );
    for mut target in targets {
        let name = format!("fuzz: {} stands its corpus", target.name);
        report.step(
            &name,
            &mut target,
            |target| target.run_corpus(),
            |_| String::new(),
        );
    }
}

/// One built target.
#[derive(Debug)]
struct Target {
    name: String,
    executable: PathBuf,
}

impl Target {
    fn run_corpus(&self) -> Result<()> {
        let folder = cargo::root().join("fuzz/corpus").join(&self.name);
        let entries =
            fs::read_dir(&folder).with_context(|| format!("the corpus fuzz/corpus/{}", self.name))?;
        let mut inputs = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        ensure!(!inputs.is_empty(), "the corpus is empty");
        inputs.sort();
        // Named one by one: given a folder, libFuzzer would want to search, and miss the instrumentation.
        for some in inputs.chunks(200) {
            process::run(Command::new(&self.executable).args(some), PATIENCE)?.expect_success()?;
        }
        Ok(())
    }
}

fn build() -> Result<Vec<Target>> {
    let output = cargo::command("build")
        .args([
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--bins",
            "--message-format",
            "json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(cargo::target_folder()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo build")?;
    if !output.status.success() {
        bail!("the fuzz targets do not build: {}", output.status);
    }
    let built = cargo::executables(&output.stdout);
    Ok(built
        .into_iter()
        .map(|(name, executable)| Target { name, executable })
        .collect())
}
