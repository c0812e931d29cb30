//! The `kes` command: a key encryption server and the tools of its administrators.

mod args;
mod certificate;
mod commands;
mod connect;
mod connection;
mod context;
mod environment;
mod failure;
mod files;
mod following;
mod memory;
mod output;
mod password;
mod progress;
mod version;
mod work;

use std::process::ExitCode;
use std::sync::Arc;

use kes_types::SystemClock;

use crate::args::{Parsed, parse};
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::output::Output;

fn main() -> ExitCode {
    memory::forbid_dumps();
    let environment = Environment::of_process();
    let mut output = Output::of_process(&environment);
    if let Some(line) = commands::asked(&environment) {
        return exit_code(commands::answer(line, &mut output), &mut output);
    }
    let outcome = match parse(std::env::args_os()) {
        Ok(Parsed::Help(help)) => output.text(&help),
        Ok(Parsed::Run { cli, former }) => {
            let mut context = Context::new(environment, Arc::new(SystemClock), &mut output);
            if !former.is_empty() {
                let (typed, now): (Vec<_>, Vec<_>) = former.into_iter().unzip();
                context.deprecated(&typed.join(", "), &format!("use {}", now.join(", ")));
            }
            commands::run(*cli, &mut context)
        }
        Err(failure) => Err(failure),
    };
    exit_code(outcome, &mut output)
}

fn exit_code(outcome: Outcome, output: &mut Output) -> ExitCode {
    match outcome.and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}
