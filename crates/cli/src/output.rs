//! What goes to the terminal, or to whatever stands in its place.
//!
//! The form of the output depends on the standard output alone: someone who pipes it into a program still has the standard
//! error output on the terminal.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde::Serialize;

use crate::environment::Environment;
use crate::failure::Outcome;

/// What failed when the output could not be written.
const WRITING: &str = "cannot write to the standard output";

/// When to colour the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// Reads `always`, `auto` or `never` in any case; empty is `auto`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "" | "auto" => Self::Auto,
            "always" => Self::Always,
            "never" => Self::Never,
            _ => return Err("want always, auto or never".to_owned()),
        })
    }

    fn decide(self, is_terminal: bool, environment: &Environment) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if environment.get("NO_COLOR").is_some() => false,
            Self::Auto
                if environment
                    .get("CLICOLOR_FORCE")
                    .is_some_and(|value| value != "0") =>
            {
                true
            }
            Self::Auto => is_terminal && environment.get("CLICOLOR") != Some("0"),
        }
    }
}

/// The standard output, with what is known about it.
pub(crate) struct Output {
    writer: Box<dyn Write>,
    is_terminal: bool,
    colors: bool,
    error_colors: bool,
}

impl Output {
    pub(crate) fn of_process(environment: &Environment) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            writer: Box::new(io::stdout()),
            is_terminal,
            colors: ColorWhen::Auto.decide(is_terminal, environment),
            error_colors: ColorWhen::Auto.decide(io::stderr().is_terminal(), environment),
        }
    }

    /// Whether a person reads the output.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the output has colours.
    pub(crate) const fn has_colors(&self) -> bool {
        self.colors
    }

    /// Colours the output or not from now on.
    pub(crate) fn set_color(&mut self, when: ColorWhen, environment: &Environment) {
        self.colors = when.decide(self.is_terminal, environment);
    }

    pub(crate) fn text(&mut self, text: &str) -> Outcome {
        Ok(self.writer.write_all(text.as_bytes()).context(WRITING)?)
    }

    pub(crate) fn line(&mut self, line: &str) -> Outcome {
        self.text(line)?;
        self.text("\n")
    }

    /// `value` as JSON: on one line, or indented for a person.
    pub(crate) fn json(&mut self, value: &impl Serialize, indent: bool) -> Outcome {
        let json = if indent {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(&json?)
    }

    pub(crate) fn flush(&mut self) -> Outcome {
        Ok(self.writer.flush().context(WRITING)?)
    }

    /// `text` in `style`, if the output has colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.colors, style, text)
    }

    /// Says on the standard error output what went wrong.
    pub(crate) fn error(&self, message: &str) {
        let style = AnsiColor::Red.on_default().bold();
        to_stderr(&format!(
            "{} {message}\n",
            paint(self.error_colors, style, "Error:")
        ));
    }

    /// Says something on the standard error output that is no error.
    pub(crate) fn note(&self, kind: &str, message: &str) {
        let style = AnsiColor::Yellow.on_default();
        to_stderr(&format!("{} {message}\n", paint(self.error_colors, style, kind)));
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            writer: _,
            is_terminal,
            colors,
            error_colors,
        } = self;
        write!(
            f,
            "Output(terminal: {is_terminal}, colors: {colors}, error colors: {error_colors})"
        )
    }
}

/// `text` of someone else on one line and without what could move a terminal's cursor.
pub(crate) fn harmless(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    text.trim_end().chars().map(harmless).collect()
}

/// Writes to the standard error output. There is nowhere to complain when that fails.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn paint(colors: bool, style: Style, text: &str) -> String {
    if colors {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! An output whose text a test can read.

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that is a terminal or a pipe, and what is written to it.
    pub(crate) fn output(is_terminal: bool) -> (Output, Captured) {
        let captured = Captured::default();
        (to(captured.clone(), is_terminal), captured)
    }

    /// An output into `writer`.
    pub(crate) fn to(writer: impl Write + 'static, is_terminal: bool) -> Output {
        Output {
            writer: Box::new(writer),
            is_terminal,
            colors: false,
            error_colors: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_beats_the_environment_and_that_the_terminal() {
        let plain = Environment::default();
        let no_color = Environment::from([("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]);
        let force = Environment::from([("CLICOLOR_FORCE", "1")]);
        let forced_off = Environment::from([("CLICOLOR_FORCE", "0")]);
        let off = Environment::from([("CLICOLOR", "0")]);
        let empty = Environment::from([("NO_COLOR", "")]);
        for (when, terminal, environment, colored) in [
            (ColorWhen::Auto, true, &plain, true),
            (ColorWhen::Auto, false, &plain, false),
            (ColorWhen::Auto, true, &no_color, false),
            (ColorWhen::Auto, false, &force, true),
            (ColorWhen::Auto, false, &forced_off, false),
            (ColorWhen::Auto, true, &off, false),
            (ColorWhen::Auto, true, &empty, true),
            (ColorWhen::Always, false, &no_color, true),
            (ColorWhen::Never, true, &force, false),
        ] {
            assert_eq!(
                when.decide(terminal, environment),
                colored,
                "{when:?} {terminal} {environment:?}"
            );
        }
    }

    #[test]
    fn a_color_option_is_read_in_any_case() {
        assert_eq!(ColorWhen::parse("ALWAYS"), Ok(ColorWhen::Always));
        assert_eq!(ColorWhen::parse(""), Ok(ColorWhen::Auto));
        assert!(ColorWhen::parse("sometimes").is_err());
    }
}
