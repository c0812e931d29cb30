//! `kes config`: configuration files, without a server.

use std::path::Path;

use crate::args::ConfigCommand;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

pub(super) fn run(command: ConfigCommand, context: &mut Context<'_>) -> Outcome {
    match command {
        ConfigCommand::Convert { file } => convert(&file, context),
    }
}

/// Prints the file in the current form, with comments on what changed. Variables stay variables.
fn convert(path: &Path, context: &mut Context<'_>) -> Outcome {
    let variable = |name: &str| context.environment.raw(name).map(str::to_owned);
    match kes_config::convert_file(path, &variable) {
        Ok(converted) => {
            for warning in &converted.warnings {
                context.warn(&warning.to_string());
            }
            context.output.text(&converted.text)
        }
        Err(error) => {
            for warning in &error.warnings {
                context.warn(&warning.to_string());
            }
            Err(Failure::Errors(
                error.errors.iter().map(ToString::to_string).collect(),
            ))
        }
    }
}
