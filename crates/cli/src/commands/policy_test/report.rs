//! What was found about each request: for people, or as JSON.

use anstyle::{AnsiColor, Style};
use kes_server::{Grounds, Refusal, Verdict};
use kes_types::Operation;
use serde::Serialize;

use super::rules::Rules;
use super::{Expected, Question};
use crate::failure::Outcome;
use crate::output::{Output, harmless};

/// A request and what comes of it.
#[derive(Debug, Serialize)]
pub(super) struct Tested<'a> {
    /// Line of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    who: String,
    method: &'a str,
    path: &'a str,
    /// What the request means; absent when it means nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    /// What policies are asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_path: Option<String>,
    verdict: &'static str,
    expected: &'static str,
    /// The status that says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<FoundRule<'a>>,
}

/// The rule that decided.
#[derive(Debug, Serialize)]
struct FoundRule<'a> {
    policy: &'a str,
    kind: &'static str,
    pattern: &'a str,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
}

impl<'a> Tested<'a> {
    pub(super) fn new(question: &'a Question, verdict: Verdict<'a>, rules: &'a Rules) -> Self {
        let status = verdict.status();
        let found = Expected::of(&verdict);
        let (operation, reason, rule): (Option<Operation<'_>>, String, _) = match verdict {
            Verdict::Permitted { operation, grounds } => {
                let (reason, rule) = grounds_of(&grounds, rules);
                (Some(operation), reason, rule)
            }
            Verdict::Refused { operation, refusal } => {
                let rule = match refusal {
                    Refusal::Denied { policy, rule } => Some(found_rule(rules, policy, "deny", rule)),
                    Refusal::NoCertificate
                    | Refusal::NotTheAdmin
                    | Refusal::NoPolicy
                    | Refusal::NotAllowed { .. } => None,
                };
                (Some(operation), refusal.to_string(), rule)
            }
            Verdict::ForwardsNobody { operation } => (
                Some(operation),
                "this identity is a TLS proxy, which speaks for clients and may do nothing itself".to_owned(),
                None,
            ),
            Verdict::NoConnection => (
                None,
                "every client needs a certificate, since the configuration opens no path with skip_auth"
                    .to_owned(),
                None,
            ),
            Verdict::NoRoute => (None, "the server has no such path".to_owned(), None),
            Verdict::WrongMethod { takes } => (None, format!("this path takes {takes}"), None),
        };
        Self {
            line: question.line,
            who: question.who.to_string(),
            method: question.method.as_str(),
            path: &question.written,
            operation: operation.as_ref().map(|operation| operation.verb.label()),
            canonical_path: operation.map(|operation| operation.canonical_path().into_owned()),
            verdict: found.name(),
            expected: question.expected.name(),
            status,
            reason,
            rule,
        }
    }

    pub(super) fn is_as_expected(&self) -> bool {
        self.verdict == self.expected
    }
}

fn grounds_of<'a>(grounds: &Grounds<'a>, rules: &'a Rules) -> (String, Option<FoundRule<'a>>) {
    match *grounds {
        Grounds::Open => ("nobody is asked for a certificate here".to_owned(), None),
        Grounds::Certificate => ("whoever has a certificate may do this".to_owned(), None),
        Grounds::Admin => (
            "this is the admin, to whom policies do not apply".to_owned(),
            None,
        ),
        Grounds::Allowed { policy, rule } => (
            format!("policy '{policy}' allows it by '{}'", rule.as_str()),
            Some(found_rule(rules, policy, "allow", rule)),
        ),
    }
}

fn found_rule<'a>(
    rules: &'a Rules,
    policy: &'a kes_types::PolicyName,
    kind: &'static str,
    rule: &'a kes_types::Rule,
) -> FoundRule<'a> {
    FoundRule {
        policy: policy.as_str(),
        kind,
        pattern: rule.as_str(),
        place: rules.place(policy, kind, rule),
    }
}

/// Prints what was found. Of a table, one line each, and how many there were.
pub(super) fn print(tested: &[Tested<'_>], is_table: bool, json: bool, output: &mut Output) -> Outcome {
    if json {
        let indent = output.is_terminal();
        return match tested {
            [only] if !is_table => output.json(only, indent),
            _ => output.json(&tested, indent),
        };
    }
    for one in tested {
        if is_table {
            print_line(one, output)?;
        } else {
            print_single(one, output)?;
        }
    }
    if is_table {
        let fine = tested.iter().filter(|one| one.is_as_expected()).count();
        output.line(&format!("{fine} of {} as expected", tested.len()))?;
    }
    Ok(())
}

fn print_line(one: &Tested<'_>, output: &mut Output) -> Outcome {
    let Tested {
        who,
        method,
        path,
        verdict,
        expected,
        reason,
        ..
    } = one;
    let request = format!("{method} {} for {who}", harmless(path));
    let line = if one.is_as_expected() {
        let ok = output.paint(AnsiColor::Green.on_default(), "ok");
        format!("{ok}    {verdict:<5}  {request}")
    } else {
        let fail = output.paint(AnsiColor::Red.on_default().bold(), "FAIL");
        let line = one.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!(
            "{fail}  {verdict:<5}  {request}: {line}want {expected}: {}{}",
            harmless(reason),
            place(one)
        )
    };
    output.line(&line)
}

fn place(one: &Tested<'_>) -> String {
    let place = one.rule.as_ref().and_then(|rule| rule.place);
    place.map(|place| format!(" ({place})")).unwrap_or_default()
}

fn print_single(one: &Tested<'_>, output: &mut Output) -> Outcome {
    let color = if one.is_as_expected() {
        AnsiColor::Green.on_default()
    } else {
        AnsiColor::Red.on_default().bold()
    };
    let verdict = output.paint(color, one.verdict);
    output.line(&format!("{verdict}  {} {}", one.method, harmless(one.path)))?;
    let status = one.status.map(|status| format!(" (HTTP {status})"));
    let operation = one.operation.map(|operation| {
        let canonical = one.canonical_path.as_deref().unwrap_or_default();
        format!("{operation}, for policies {}", harmless(canonical))
    });
    let rule = one.rule.as_ref().map(|rule| {
        let place = rule.place.map(|place| format!(" in {place}")).unwrap_or_default();
        format!("{}: {}{place}", rule.kind, harmless(rule.pattern))
    });
    let reason = format!("{}{}", harmless(&one.reason), status.unwrap_or_default());
    let expected = (!one.is_as_expected()).then(|| one.expected.to_owned());
    for (label, value) in [
        ("Who", Some(one.who.clone())),
        ("Means", operation),
        ("Because", Some(reason)),
        ("Rule", rule),
        ("Wanted", expected),
    ] {
        if let Some(value) = value {
            let label = output.paint(Style::new(), &format!("{label:<9}"));
            output.line(&format!("  {label}{value}"))?;
        }
    }
    Ok(())
}
