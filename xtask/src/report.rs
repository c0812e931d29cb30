//! Steps, their times, and the closing line.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// What has passed and failed so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: Vec<String>,
    left_out: usize,
}

impl Report {
    /// Runs one step, prints its name, result and time, and answers whether it passed.
    ///
    /// `evidence` is asked only after a failure: it returns what helps to understand it, such as the ends of log files.
    pub(crate) fn step<C>(
        &mut self,
        name: &str,
        context: &mut C,
        step: impl FnOnce(&mut C) -> Result<()>,
        evidence: impl FnOnce(&C) -> String,
    ) -> bool {
        let start = Instant::now();
        let result = step(context);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("{name} ... ok ({seconds:.1} s)");
                self.passed += 1;
                true
            }
            Err(error) => {
                println!(
                    "{name} ... FAILED ({seconds:.1} s)\n{}",
                    indented(&format!("{error:#}"))
                );
                println!("{}", indented(&evidence(context)));
                self.failed.push(name.to_owned());
                false
            }
        }
    }

    /// Counts results that another runner has printed.
    pub(crate) fn add(&mut self, passed: usize, failed: &[String]) {
        self.passed += passed;
        self.failed.extend_from_slice(failed);
    }

    /// Counts and prints what cannot be tried on one machine, for a reason that is written down with it.
    pub(crate) fn leave_out(&mut self, what_and_why: &str) {
        println!("not here: {what_and_why}");
        self.left_out += 1;
    }

    /// Prints what failed and the closing line.
    pub(crate) fn close(self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailures:");
            for name in &self.failed {
                println!("    {name}");
            }
        }
        if self.left_out > 0 {
            println!("\n{} cannot be tried here", self.left_out);
        }
        println!("\n{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() && self.passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
