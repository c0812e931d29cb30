//! How far a long command has come: a bar on a terminal, a line a second elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Outcome;
use crate::output::Output;

/// How often a command should call [`Progress::tick`].
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// How far a long command has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A bar on the terminal of the standard error output. It is gone when the command is done.
    Bar(ProgressBar),
    /// A line of the standard output at every tick.
    Lines {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        total: u64,
        /// How many are done.
        done: u64,
        /// How many were done when it was said the last time.
        said: Option<u64>,
    },
    /// Nothing.
    Silent,
}

impl Progress {
    /// Progress through `total` of `what`, for whoever watches: a bar if the standard error output is a terminal that can
    /// show one, else lines.
    pub(crate) fn of(what: &'static str, total: u64) -> Self {
        Self::bar(what, Some(total)).unwrap_or(Self::Lines {
            what,
            total,
            done: 0,
            said: None,
        })
    }

    /// Progress towards an unknown end, and only on a terminal: nothing but results goes to a pipe.
    pub(crate) fn counting(what: &'static str) -> Self {
        Self::bar(what, None).unwrap_or(Self::Silent)
    }

    fn bar(what: &'static str, total: Option<u64>) -> Option<Self> {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_message(what);
        // No terminal, or one that knows no more than a printer does.
        if bar.is_hidden() {
            return None;
        }
        let style = match total {
            Some(_) => ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}, {eta} left"),
            None => ProgressStyle::with_template("{spinner} {pos} {msg}"),
        };
        // The templates are constants. A bar with another look is no reason to fail.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Some(Self::Bar(bar))
    }

    /// Says that `done` are done by now. Cheap enough for every single one.
    pub(crate) fn set(&mut self, now: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(now),
            Self::Lines { done, .. } => *done = now,
            Self::Silent => {}
        }
    }

    /// A handle for threads that only count. Lines come from ticks, so it does nothing for them.
    pub(crate) fn counter(&self) -> impl Fn(u64) + Send + Sync + use<> {
        let bar = match self {
            Self::Bar(bar) => Some(bar.clone()),
            Self::Lines { .. } | Self::Silent => None,
        };
        move |done| {
            if let Some(bar) = &bar {
                bar.set_position(done);
            }
        }
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self, output: &mut Output) -> Outcome {
        match self {
            Self::Bar(bar) => {
                bar.tick();
                Ok(())
            }
            Self::Lines {
                what,
                total,
                done,
                said,
            } => {
                if said.replace(*done) == Some(*done) {
                    return Ok(());
                }
                output.line(&format!("{done} of {total} {what}"))?;
                output.flush()
            }
            Self::Silent => Ok(()),
        }
    }

    /// Takes the bar away, so that what comes next has the line for itself.
    pub(crate) fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } | Self::Silent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    #[test]
    fn a_line_is_said_only_when_there_is_something_new() {
        let mut progress = Progress::Lines {
            what: "keys",
            total: 9,
            done: 0,
            said: None,
        };
        let (mut output, captured) = output(false);
        progress.tick(&mut output).unwrap();
        progress.tick(&mut output).unwrap();
        progress.set(1);
        progress.set(4);
        progress.tick(&mut output).unwrap();
        progress.finish();
        assert_eq!(captured.text(), "0 of 9 keys\n4 of 9 keys\n");
    }

    #[test]
    fn silence_says_nothing() {
        let (mut output, captured) = output(false);
        let mut progress = Progress::Silent;
        progress.set(3);
        progress.counter()(4);
        progress.tick(&mut output).unwrap();
        progress.finish();
        assert_eq!(captured.text(), "");
    }
}
