//! How a command ends that does not succeed.

use std::io;
use std::process::ExitCode;

use crate::output::{self, Output};

/// The outcome of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// How a command ends that does not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong. The text says what to do about it.
    Usage(String),
    /// A group of commands was named but none of them: its help goes to the standard error output.
    NoCommand(String),
    /// Ctrl-C: whoever pressed it knows.
    Interrupted,
    /// Nobody reads the output any more.
    BrokenPipe,
    /// The output says what was found, and this exit code how bad it is.
    Found(u8),
    /// Everything that is wrong with a file at once.
    Errors(Vec<String>),
    /// Anything else.
    Error(anyhow::Error),
}

impl Failure {
    /// Says what is to be said, and gives the exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        match self {
            Self::Usage(message) => output.error(&message),
            Self::NoCommand(help) => {
                output::to_stderr(&help);
                return ExitCode::from(2);
            }
            Self::Interrupted => {}
            Self::Found(code) => return ExitCode::from(code),
            Self::BrokenPipe => return ExitCode::SUCCESS,
            Self::Errors(errors) => errors.iter().for_each(|error| output.error(error)),
            Self::Error(error) => output.error(&one_line(&error)),
        }
        ExitCode::FAILURE
    }
}

/// The whole chain of causes on one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            // Ctrl-C where a password is asked for.
            Some(io) if io.kind() == io::ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Error(error),
        }
    }
}
