//! The commands of operators.

use std::path::PathBuf;
use std::process::Command;

use kes_peers::process::{PATIENCE, run};

fn printed(program: PathBuf, arguments: &[&str]) -> String {
    let finished = run(Command::new(program).args(arguments), PATIENCE).unwrap();
    finished.expect_success().unwrap()
}

#[test]
fn aws_runs_from_where_it_is_kept() {
    let version = printed(kes_peers::aws_cli().unwrap(), &["--version"]);
    assert!(version.starts_with("aws-cli/1."), "{version}");
}

#[test]
fn kubectl_runs_without_a_cluster() {
    let version = printed(kes_peers::kubectl().unwrap(), &["version", "--client"]);
    assert!(version.contains("Client Version"), "{version}");
}
