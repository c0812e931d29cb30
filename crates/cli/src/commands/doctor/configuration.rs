//! What the configuration file itself says.

use kes_config::Diagnostic;

use super::finding::{Finding, Findings};
use super::subject::Subject;
use crate::connect;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    const MEND: &str = "mend this line; docs/configuration.md has every key";
    for error in &subject.errors {
        let remedy = match error.line {
            Some(_) => MEND,
            None => "docs/configuration.md has every key, and `kes init` makes a whole configuration",
        };
        place(findings.error(error.message.clone(), remedy), error);
    }
    for warning in &subject.warnings {
        let remedy = if warning.message.contains("is deprecated") {
            "`kes config convert FILE` prints the file in the current form"
        } else {
            MEND
        };
        place(findings.warn(warning.message.clone(), remedy), warning);
    }
    let Some(settings) = &subject.settings else {
        findings.fact("the other checks need a configuration without errors, and were left out");
        return;
    };
    if let Err(error) = connect::require_backend(&settings.keystore) {
        findings
            .error(
                format!("{error:#}"),
                "move the keys by `kes migrate` to a key store that there is, with a program that has this one",
            )
            .at(subject, &subject.keystore_key());
    }
    if findings.is_fine() {
        findings
            .ok("the configuration is valid")
            .file(subject.path.display());
    }
}

fn place(finding: &mut Finding, diagnostic: &Diagnostic) {
    finding.file = diagnostic.file.as_deref().map(str::to_owned);
    finding.line = diagnostic.line;
    finding.key = Some(diagnostic.key.clone()).filter(|key| !key.is_empty());
}
