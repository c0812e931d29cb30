//! The command line: from the words as typed to one checked [`Cli`].
//!
//! Scripts of many years call this program, so it takes more than clap does: long options with one dash, boolean options
//! with values, options whose value is optional. [`normal`] brings all of it into one canonical form, which clap then reads.

mod checks;
mod configuration;
mod definition;
mod inspection;
mod normal;
mod stores;
mod visible;

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory as _, FromArgMatches as _};

use crate::failure::Failure;

pub(crate) use checks::*;
pub(crate) use configuration::*;
pub(crate) use definition::*;
pub(crate) use inspection::*;
pub(crate) use stores::*;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// To show a help text.
    Help(String),
    /// To run a command.
    Run {
        /// The command.
        cli: Box<Cli>,
        /// Options that were spelled as in former years, as they were typed, and how they are spelled now.
        former: Vec<(String, String)>,
    },
}

/// Reads the command line, the program's own name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    let mut words = words.into_iter();
    let mut command = built(Cli::command(), base_name(words.next()));
    let words = words
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|word| Failure::Usage(format!("argument '{}' is not UTF-8", word.to_string_lossy())))?;

    match normal::normalize(&command, words)? {
        normal::Line::Help(path) => Ok(Parsed::Help(help_of(&command, &path))),
        normal::Line::Group(path) => Err(Failure::NoCommand(help_of(&command, &path))),
        normal::Line::Absent(message) => Err(Failure::Usage(message)),
        normal::Line::Run { words, path, former } => {
            let matches = command.try_get_matches_from_mut(words);
            let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
            let cli = cli.map_err(|error| Failure::Usage(one_line(&error, &path)))?;
            Ok(Parsed::Run {
                cli: Box::new(cli),
                former,
            })
        }
    }
}

/// The help of the command at `path`, for a command line that clap takes but that asks for nothing.
pub(crate) fn help(path: &[&str]) -> String {
    let path: Vec<_> = path.iter().map(ToString::to_string).collect();
    help_of(&built(Cli::command(), program()), &path)
}

/// The commands and options that are offered to people.
pub(crate) fn visible() -> Command {
    built(visible::of(&Cli::command()), program())
}

/// The name by which this program was called.
pub(crate) fn program() -> String {
    base_name(std::env::args_os().next())
}

fn base_name(program: Option<OsString>) -> String {
    let program = program.unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str());
    name.unwrap_or("kes").to_owned()
}

/// `command` as that of a program of this name, with what clap adds.
fn built(command: Command, program: String) -> Command {
    let mut command = command.name(program.clone()).bin_name(program);
    command.build();
    command
}

fn help_of(command: &Command, path: &[String]) -> String {
    let found = path
        .iter()
        .try_fold(command, |command, name| command.find_subcommand(name));
    let mut found = found.unwrap_or(command).clone();
    found.render_help().to_string()
}

/// What clap complains about, on one line with the command that helps.
fn one_line(error: &clap::Error, path: &str) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let argument = argument.unwrap_or_default();
    // What clap shows as `--expiry <DUR>` was typed as `--expiry`.
    let option = argument.split([' ', '=']).next().unwrap_or_default();
    let option = option.trim_end_matches("...").trim_matches(['<', '>', '[', ']']);
    let message = match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            format!("missing argument {}", argument.replace(['<', '>'], ""))
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues | ErrorKind::InvalidSubcommand => {
            format!("unexpected argument '{argument}'")
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = value.unwrap_or_default();
            let reason = std::error::Error::source(error).map(|reason| format!(": {reason}"));
            let reason = reason.unwrap_or_else(|| match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                    format!(": want one of {}", valid.join(", "))
                }
                _ if value.is_empty() => ": must not be empty".to_owned(),
                _ => String::new(),
            });
            format!("invalid value '{value}' for '{option}'{reason}")
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            let other = other.split([' ', '=']).next().unwrap_or_default();
            let other = other.trim_end_matches("...").trim_matches(['<', '>', '[', ']']);
            format!("'{option}' cannot be used with '{other}'")
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    };
    with_hint(&message, path)
}

/// `message` with the command that says more.
fn with_hint(message: &str, path: &str) -> String {
    format!("{message}; see '{path} --help'")
}

#[cfg(test)]
mod tests;
