//! What a check has found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It is as it should be.
    Ok,
    /// Worth to know.
    Note,
    /// It works, but not for everybody, not for long, or not as somebody may think.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) severity: Severity,
    /// What it is, without any secret in it.
    pub(super) what: String,
    /// The file, when one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Its line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    /// The key of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The service or server, when one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// Whether it tells of something that a probe has left behind.
    #[serde(skip)]
    pub(super) is_left_behind: bool,
}

impl Finding {
    pub(super) fn file(&mut self, file: impl ToString) -> &mut Self {
        self.file = Some(file.to_string());
        self
    }

    pub(super) fn endpoint(&mut self, endpoint: impl ToString) -> &mut Self {
        self.endpoint = Some(endpoint.to_string());
        self
    }

    /// The key of the configuration, and where it stands.
    pub(super) fn at(&mut self, subject: &super::Subject, key: &str) -> &mut Self {
        self.key = Some(key.to_owned());
        if self.file.is_none() {
            self.file = Some(subject.path.display().to_string());
            self.line = subject.lines.of(key);
        }
        self
    }
}

/// What one check has found, in its order.
#[derive(Debug)]
pub(super) struct Findings {
    check: &'static str,
    findings: Vec<Finding>,
}

impl Findings {
    pub(super) const fn of(check: &'static str) -> Self {
        Self {
            check,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, severity: Severity, what: String, remedy: Option<String>) -> &mut Finding {
        self.findings.push(Finding {
            check: self.check,
            severity,
            what,
            file: None,
            line: None,
            key: None,
            endpoint: None,
            remedy,
            is_left_behind: false,
        });
        let last = self.findings.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed in the line before")]
        &mut self.findings[last]
    }

    pub(super) fn ok(&mut self, what: impl Into<String>) -> &mut Finding {
        self.add(Severity::Ok, what.into(), None)
    }

    /// Something that is worth to know, and about which nothing need be done.
    pub(super) fn fact(&mut self, what: impl Into<String>) -> &mut Finding {
        self.add(Severity::Note, what.into(), None)
    }

    pub(super) fn note(&mut self, what: impl Into<String>, remedy: impl Into<String>) -> &mut Finding {
        self.add(Severity::Note, what.into(), Some(remedy.into()))
    }

    pub(super) fn warn(&mut self, what: impl Into<String>, remedy: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, what.into(), Some(remedy.into()))
    }

    pub(super) fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, what.into(), Some(remedy.into()))
    }

    /// Whether nothing worse than a note was found.
    pub(super) fn is_fine(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity < Severity::Warning)
    }

    pub(super) fn into_inner(self) -> Vec<Finding> {
        self.findings
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<String> {
        self.findings
            .iter()
            .map(|finding| format!("{:?}: {}", finding.severity, finding.what))
            .collect()
    }
}
