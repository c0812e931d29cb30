//! What is said about a configuration file: where, about which key, and what would be right.
//!
//! No text here ever quotes a value or a line of the file, since any of them may be a secret.

use std::fmt;
use std::sync::Arc;

/// An error or a warning about one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file; absent when a command line option is meant.
    pub file: Option<Arc<str>>,
    /// The line, counted from 1; absent when something is missing altogether.
    pub line: Option<usize>,
    /// The column, counted from 1.
    pub column: Option<usize>,
    /// The path of the key, such as `tls.cert`, or the option, such as `--addr`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration cannot be used: everything that is wrong with it, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_a_line(.errors))]
pub struct LoadError {
    /// What is wrong. Never empty.
    pub errors: Vec<Diagnostic>,
    /// What was suspicious besides.
    pub warnings: Vec<Diagnostic>,
}

fn one_a_line(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_listed_one_a_line_with_their_place() {
        let place = |line, key: &str, message: &str| Diagnostic {
            file: Some("kes.yml".into()),
            line,
            column: line,
            key: key.to_owned(),
            message: message.to_owned(),
        };
        let option = Diagnostic {
            file: None,
            ..place(None, "--addr", "has no port")
        };
        let errors = vec![
            place(Some(3), "tls.key", "is missing"),
            place(None, "", "is empty"),
            option,
        ];
        assert_eq!(
            LoadError {
                errors,
                warnings: Vec::new()
            }
            .to_string(),
            "kes.yml:3: tls.key: is missing\nkes.yml: is empty\n--addr: has no port"
        );
    }
}
