//! `kes policy`.

use std::collections::{BTreeMap, BTreeSet};

use kes_client::PolicyInfo;
use kes_types::Timestamp;
use kes_types::wire::{Empty, RuleSet};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::list::{self, What};
use super::{policy_test, timestamp};
use crate::args::{KeyOptions, PolicyCommand};
use crate::connection::{block_on, client};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::Output;

pub(crate) fn run(command: PolicyCommand, context: &mut Context<'_>) -> Outcome {
    if let PolicyCommand::Info { options, .. }
    | PolicyCommand::Ls { options, .. }
    | PolicyCommand::Show { options, .. }
    | PolicyCommand::List { options, .. } = &command
    {
        context.warn_about_enclave(options.enclave.as_deref());
    }

    match command {
        PolicyCommand::Test(args) => policy_test::run(args, context),
        PolicyCommand::Info { name, options, color } => {
            context.set_color(color.when);
            let client = client(&options.connection, context)?;
            let policy = block_on(client.describe_policy(&name))?;
            print_info(&named(policy, name), options.json, context.output)
        }
        PolicyCommand::Ls {
            pattern,
            options,
            color,
        } => {
            context.set_color(color.when);
            list(pattern.as_deref(), &options, options.json, context)
        }
        PolicyCommand::Show { name, options } => {
            let client = client(&options.connection, context)?;
            let policy = block_on(client.read_policy(&name))?;
            print_rules(&policy, options.json, context.output)
        }
        PolicyCommand::List { pattern, options } => {
            context.deprecated("kes policy list", "use kes policy ls");
            // Into a pipe it was always JSON.
            let json = options.json || !context.output.is_terminal();
            list(pattern.as_deref(), &options, json, context)
        }
    }
}

fn list(pattern: Option<&str>, options: &KeyOptions, json: bool, context: &mut Context<'_>) -> Outcome {
    list::list(What::Policies, pattern, json, &options.connection, context)
}

/// The policy with the name by which it was asked for, where the server does not repeat it.
fn named(mut policy: PolicyInfo, name: String) -> PolicyInfo {
    if policy.name.is_empty() {
        policy.name = name;
    }
    policy
}

fn print_info(policy: &PolicyInfo, json: bool, output: &mut Output) -> Outcome {
    let PolicyInfo {
        name,
        created_at,
        created_by,
        ..
    } = policy;
    if json {
        #[derive(Serialize)]
        struct Info<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            created_at: Option<String>,
            #[serde(skip_serializing_if = "str::is_empty")]
            created_by: &'a str,
        }
        let info = Info {
            name,
            created_at: rfc3339(*created_at),
            created_by,
        };
        return output.json(&info, output.is_terminal());
    }
    let mut line = |label: &str, value: &str| output.line(format!("{label:<11} {value}").trim_end());
    line("Name", name)?;
    if let Some(created_at) = created_at {
        line("Date", &timestamp::local(*created_at))?;
    }
    if !created_by.is_empty() {
        line("Created by", created_by)?;
    }
    Ok(())
}

/// The rules in byte order: for programs as JSON, whatever they have asked for.
fn print_rules(policy: &PolicyInfo, json: bool, output: &mut Output) -> Outcome {
    let PolicyInfo {
        created_at,
        created_by,
        allow,
        deny,
        ..
    } = policy;
    if json || !output.is_terminal() {
        #[derive(Serialize)]
        struct Rules<'a> {
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            allow: RuleSet,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            deny: RuleSet,
            #[serde(skip_serializing_if = "Option::is_none")]
            created_at: Option<String>,
            #[serde(skip_serializing_if = "str::is_empty")]
            created_by: &'a str,
        }
        let rules = Rules {
            allow: as_map(allow),
            deny: as_map(deny),
            created_at: rfc3339(*created_at),
            created_by,
        };
        return output.json(&rules, output.is_terminal());
    }
    for (label, rules) in [("Allow:", allow), ("Deny:", deny)] {
        if rules.is_empty() {
            continue;
        }
        output.line(label)?;
        for rule in rules {
            output.line(&format!("  · {rule}"))?;
        }
        output.line("")?;
    }
    if let Some(created_at) = created_at {
        output.line(&format!("Created at: {}", timestamp::local(*created_at)))?;
    }
    let created_by = if created_by.is_empty() {
        "<unknown>"
    } else {
        created_by
    };
    output.line(&format!("Created by: {created_by}"))
}

fn as_map(rules: &BTreeSet<String>) -> RuleSet {
    rules.iter().map(|rule| (rule.clone(), Empty {})).collect()
}

fn rfc3339(at: Option<Timestamp>) -> Option<String> {
    at.and_then(|at| at.format(&Rfc3339).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    fn policy() -> PolicyInfo {
        let json = r#"{"name":"minio","created_at":"2024-05-01T00:00:00.5Z","created_by":"ab",
            "allow":["/v1/key/generate/*","/v1/key/create/*"],"deny":["/v1/key/create/internal*"]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn unknown() -> PolicyInfo {
        serde_json::from_str(r#"{"name":"minio"}"#).unwrap()
    }

    fn info(policy: &PolicyInfo, is_terminal: bool, json: bool) -> String {
        let (mut output, captured) = output(is_terminal);
        print_info(policy, json, &mut output).unwrap();
        captured.text()
    }

    fn rules(policy: &PolicyInfo, is_terminal: bool, json: bool) -> String {
        let (mut output, captured) = output(is_terminal);
        print_rules(policy, json, &mut output).unwrap();
        captured.text()
    }

    #[test]
    fn a_policy_is_described_line_by_line_or_in_json() {
        let text = info(&policy(), false, false);
        assert!(text.starts_with("Name        minio\nDate        2024-"), "{text}");
        assert!(text.ends_with("\nCreated by  ab\n"), "{text}");
        assert_eq!(info(&unknown(), true, false), "Name        minio\n");
        assert_eq!(
            info(&policy(), false, true),
            "{\"name\":\"minio\",\"created_at\":\"2024-05-01T00:00:00.5Z\",\"created_by\":\"ab\"}\n"
        );
        assert_eq!(info(&unknown(), true, true), "{\n  \"name\": \"minio\"\n}\n");
    }

    #[test]
    fn rules_are_sorted_and_shown_to_people_below_each_other() {
        let text = rules(&policy(), true, false);
        assert!(
            text.starts_with(
                "Allow:\n  · /v1/key/create/*\n  · /v1/key/generate/*\n\nDeny:\n  · /v1/key/create/internal*\n\n\
                 Created at: 2024-"
            ),
            "{text}"
        );
        assert!(text.ends_with("\nCreated by: ab\n"), "{text}");
        assert_eq!(rules(&unknown(), true, false), "Created by: <unknown>\n");
    }

    #[test]
    fn rules_for_programs_are_json_on_one_line() {
        let want = "{\"allow\":{\"/v1/key/create/*\":{},\"/v1/key/generate/*\":{}},\
                    \"deny\":{\"/v1/key/create/internal*\":{}},\"created_at\":\"2024-05-01T00:00:00.5Z\",\"created_by\":\"ab\"}\n";
        for json in [false, true] {
            assert_eq!(rules(&policy(), false, json), want);
        }
        assert!(
            rules(&policy(), true, true).starts_with("{\n  \"allow\": {\n    \"/v1/key/create/*\": {},\n")
        );
        assert_eq!(rules(&unknown(), false, false), "{}\n");
    }

    #[test]
    fn a_policy_that_is_not_named_in_the_answer_has_the_name_that_was_asked_for() {
        assert_eq!(named(PolicyInfo::default(), "a".to_owned()).name, "a");
        assert_eq!(named(unknown(), "a".to_owned()).name, "minio");
    }
}
