//! `kes ls`, `kes key ls`, `kes identity ls`.

use std::collections::BTreeMap;

use anstyle::Style;

use crate::args::{Connection, LsArgs};
use crate::connection::{block_on, client};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::Output;

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Keys,
    Identities,
    Policies,
}

impl What {
    const fn header(self) -> &'static str {
        match self {
            Self::Keys => "Key",
            Self::Identities => "Identity",
            Self::Policies => "Policy",
        }
    }
}

pub(crate) fn run(args: LsArgs, context: &mut Context<'_>) -> Outcome {
    let LsArgs {
        prefix,
        identity,
        policy,
        json,
        color,
        connection,
    } = args;
    context.set_color(color.when);
    let what = match (identity, policy) {
        (true, _) => What::Identities,
        (false, true) => What::Policies,
        (false, false) => What::Keys,
    };
    list(what, prefix.as_deref(), json, &connection, context)
}

/// Lists what starts with `pattern`, which may end in a `*`.
pub(crate) fn list(
    what: What,
    pattern: Option<&str>,
    json: bool,
    connection: &Connection,
    context: &mut Context<'_>,
) -> Outcome {
    let names = fetch(what, pattern, connection, context)?;
    print(what, &names, json, context.output)
}

/// The names that start with `pattern`, which may end in a `*`.
fn fetch(
    what: What,
    pattern: Option<&str>,
    connection: &Connection,
    context: &Context<'_>,
) -> Outcome<Vec<String>> {
    let client = client(connection, context)?;
    let pattern = pattern.unwrap_or_default();
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    block_on(async {
        match what {
            What::Keys => client.list_keys(prefix).await,
            What::Identities => client.list_identities(prefix).await,
            What::Policies => client.list_policies(prefix).await,
        }
    })
}

/// Lists as until 2022: for programs, one object a line.
pub(crate) fn list_as_lines(
    what: What,
    pattern: Option<&str>,
    json: bool,
    connection: &Connection,
    context: &mut Context<'_>,
) -> Outcome {
    let names = fetch(what, pattern, connection, context)?;
    if context.output.is_terminal() && !json {
        return print(what, &names, json, context.output);
    }
    names.iter().try_for_each(|name| {
        let label = match what {
            What::Keys | What::Policies => "name",
            What::Identities => "identity",
        };
        context.output.json(&BTreeMap::from([(label, name)]), false)
    })
}

fn print(what: What, names: &[String], json: bool, output: &mut Output) -> Outcome {
    if json {
        return output.json(&names, false);
    }
    if !names.is_empty() {
        let header = output.paint(Style::new().underline(), what.header());
        output.line(&header)?;
    }
    names.iter().try_for_each(|name| output.line(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    fn printed(what: What, names: &[&str], json: bool) -> String {
        let (mut output, captured) = output(true);
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        print(what, &names, json, &mut output).unwrap();
        captured.text()
    }

    #[test]
    fn a_list_has_a_header_unless_it_is_empty() {
        assert_eq!(printed(What::Keys, &["a", "b"], false), "Key\na\nb\n");
        assert_eq!(printed(What::Policies, &["a"], false), "Policy\na\n");
        assert_eq!(printed(What::Identities, &[], false), "");
    }

    #[test]
    fn a_list_in_json_is_an_array_and_nothing_else() {
        assert_eq!(printed(What::Keys, &["a", "b"], true), "[\"a\",\"b\"]\n");
        assert_eq!(printed(What::Keys, &[], true), "[]\n");
    }
}
