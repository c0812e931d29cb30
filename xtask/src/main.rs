//! `cargo xtask`: the one door to what people and CI run on this repository.
//!
//! `cargo xtask test` is everything that must hold before a change lands. It builds the peers it needs by itself (`kes_peers`),
//! prints each step with its time, and never leaves a step out: a peer that cannot be had is a failure.

mod api;
mod cargo;
mod deploy;
mod dist;
mod docs;
mod fuzz;
mod guides;
mod minio;
mod pasted;
mod reference;
mod report;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::report::Report;

const HELP: &str = "\
usage: cargo xtask COMMAND

  test                      everything below but bench
  test unit                 cargo test --workspace, documentation examples included
  test minio [--only NAME]  MinIO Server and mc against the kes executable; NAME is part of a scenario's name
  test docs [--only NAME]   the commands and configurations of README.md and docs/; NAME is part of a document's name
  test guides [--only NAME] the guides that others have published, step by step; NAME is part of a guide's name
  test deploy [--only NAME] the release, and the files of deploy/; NAME is part of a step's name
  test api                  the public API of the client library is the one written down, and each item has an example
  test fuzz                 the fuzz targets build, and run over their corpus
  reference                 write the parts of the documents anew that programs write
  api [--update]            the same as test api; --update writes the API down
  bench [OPTION]...         the benchmark against the null server; `cargo xtask bench --help`
  bench store [OPTION]...   the benchmark of the embedded key store
  bench keystores [OPTION]  the benchmark of keys that are not cached, on the key stores behind a network
  bench commands [OPTION]   the benchmark of what it costs to start the program
  dist [--twice]            the release of the commit that is checked out: executable, packages, SBOM, checksums; --twice builds
                            the executable again in another folder and compares
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["test", rest @ ..] => test(rest),
        ["api", rest @ ..] => api::command(rest),
        ["bench", rest @ ..] => cargo::bench(rest),
        ["dist", rest @ ..] => dist::command(rest).map(|()| ExitCode::SUCCESS),
        [guides::INSIDE, rest @ ..] => guides::inside(rest).map(|()| ExitCode::SUCCESS),
        ["reference"] => reference::write().map(|()| ExitCode::SUCCESS),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        [other, ..] => bail!("no command '{other}'\n\n{HELP}"),
    }
}

fn test(arguments: &[&str]) -> Result<ExitCode> {
    let mut report = Report::default();
    match arguments {
        [] => {
            cargo::unit_tests(&mut report);
            api::run(&mut report);
            fuzz::run(&mut report);
            docs::run(&mut report, None);
            guides::run(&mut report, None);
            minio::run(&mut report, None);
            deploy::run_steps(&mut report, None);
        }
        ["unit"] => cargo::unit_tests(&mut report),
        ["minio"] => minio::run(&mut report, None),
        ["minio", "--only", name] => minio::run(&mut report, Some(name)),
        ["docs"] => docs::run(&mut report, None),
        ["docs", "--only", name] => docs::run(&mut report, Some(name)),
        ["guides"] => guides::run(&mut report, None),
        ["guides", "--only", name] => guides::run(&mut report, Some(name)),
        ["deploy"] => deploy::run_steps(&mut report, None),
        ["deploy", "--only", name] => deploy::run_steps(&mut report, Some(name)),
        ["api"] => api::run(&mut report),
        ["fuzz"] => fuzz::run(&mut report),
        [other, ..] => bail!("no such part of the tests: '{other}'\n\n{HELP}"),
    }
    Ok(report.close())
}
