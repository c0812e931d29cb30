//! The findings, for people and as JSON.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::finding::{Finding, Severity};
use crate::failure::Outcome;
use crate::output::{Output, harmless};

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    configuration: String,
    /// The worst severity.
    verdict: Severity,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Report {
    /// With `strict`, warnings are errors.
    pub(super) fn new(configuration: String, mut findings: Vec<Finding>, strict: bool) -> Self {
        if strict {
            for finding in &mut findings {
                if finding.severity == Severity::Warning {
                    finding.severity = Severity::Error;
                }
            }
        }
        let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
        let verdict = findings.iter().map(|finding| finding.severity).max();
        Self {
            configuration,
            verdict: verdict.unwrap_or(Severity::Ok),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            findings,
        }
    }

    pub(super) const fn worst(&self) -> Severity {
        self.verdict
    }

    pub(super) fn print(&self, json: bool, quiet: bool, output: &mut Output) -> Outcome {
        if json {
            return output.json(self, output.is_terminal());
        }
        let shown = |finding: &&Finding| !quiet || finding.severity != Severity::Ok;
        for finding in self.findings.iter().filter(shown) {
            print_one(finding, output)?;
        }
        let count = |number: usize, what: &str| {
            let plural = if number == 1 { "" } else { "s" };
            format!("{number} {what}{plural}")
        };
        let (errors, warnings) = (count(self.errors, "error"), count(self.warnings, "warning"));
        output.line(&format!(
            "{}: {errors}, {warnings}",
            harmless(&self.configuration)
        ))
    }
}

fn print_one(finding: &Finding, output: &mut Output) -> Outcome {
    let (word, style) = match finding.severity {
        Severity::Ok => ("ok", AnsiColor::Green.on_default()),
        Severity::Note => ("note", Style::new()),
        Severity::Warning => ("warning", AnsiColor::Yellow.on_default()),
        Severity::Error => ("error", AnsiColor::Red.on_default().bold()),
    };
    let word = output.paint(style, &format!("{word:<7}"));
    let what = match place(finding) {
        Some(place) => format!("{place}: {}", finding.what),
        None => finding.what.clone(),
    };
    output.line(&format!("{word} {:<13} {}", finding.check, harmless(&what)))?;
    match &finding.remedy {
        Some(remedy) => output.line(&format!("{:22}-> {}", "", harmless(remedy))),
        None => Ok(()),
    }
}

/// Where it is, as compilers say it: `kes.yml:12: tls.cert`.
fn place(finding: &Finding) -> Option<String> {
    let file = finding.file.as_ref().map(|file| match finding.line {
        Some(line) => format!("{file}:{line}"),
        None => file.clone(),
    });
    let parts = [file, finding.key.clone(), finding.endpoint.clone()];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}
