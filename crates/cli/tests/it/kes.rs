//! Runs the program.

use std::path::Path;
use std::process::{Command, Output};

/// A run of the program in `directory`, with none of the variables that it reads.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kes"));
    command.current_dir(directory).args(arguments).env_clear();
    command
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Ran {
    command(directory, arguments).output().unwrap().into()
}

/// Runs the program as one that must succeed, and returns what it printed.
pub(crate) fn succeed(directory: &Path, arguments: &[&str]) -> String {
    let ran = run(directory, arguments);
    assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
    ran.stdout
}

/// Runs the program as one that must fail with one line, and returns the line.
pub(crate) fn fail(directory: &Path, arguments: &[&str]) -> String {
    let ran = run(directory, arguments);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(1), ""),
        "{arguments:?}: {ran:?}"
    );
    let line = ran
        .stderr
        .strip_prefix("Error: ")
        .and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("{arguments:?}: {ran:?}"));
    assert!(!line.contains('\n'), "{line}");
    line.to_owned()
}
