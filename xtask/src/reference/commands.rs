//! The commands and their options, from what `kes … --help` says.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kes_peers::process::{self, PATIENCE};

use super::{code, row};

/// Options that most commands have: they are told of once.
const COMMON: [(&str, &str); 6] = [
    ("-k, --insecure", CONNECTION),
    ("-a, --api-key <KEY>", CONNECTION),
    ("-s, --server <HOST[:PORT]>", CONNECTION),
    ("--server <HOST[:PORT]>", CONNECTION),
    ("-h, --help", ""),
    ("--color <WHEN>", "`--color`"),
];

const CONNECTION: &str = "[the connection](#the-connection)";

/// What `--help` says about one command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Help {
    about: String,
    usage: Vec<String>,
    commands: Vec<String>,
    /// What is typed, and what it means.
    arguments: Vec<(String, String)>,
    options: Vec<(String, String)>,
}

/// All commands, a heading for each.
pub(super) fn all(kes: &Path) -> Result<String> {
    let mut text = String::new();
    command(kes, &mut Vec::new(), &mut text)?;
    Ok(text)
}

fn command(kes: &Path, path: &mut Vec<String>, text: &mut String) -> Result<()> {
    let name = ["kes"].into_iter().chain(path.iter().map(String::as_str));
    let name = name.collect::<Vec<_>>().join(" ");
    let mut asked = Command::new(kes);
    asked.args(&*path).arg("--help").env_clear();
    let printed = process::run(&mut asked, PATIENCE)?.expect_success()?;
    let help = read(&printed).with_context(|| format!("reading what {name} --help says"))?;
    text.push_str(&help.shown(&name));
    for sub in help.commands {
        path.push(sub);
        command(kes, path, text)?;
        path.pop();
    }
    Ok(())
}

impl Help {
    fn shown(&self, name: &str) -> String {
        let mut text = format!("### {name}\n\n{}.\n\n", self.about.trim_end_matches('.'));
        // A group says nothing but which commands it has.
        let is_group = !self.commands.is_empty() && self.arguments.is_empty();
        if !is_group || self.usage.len() > 1 {
            text.push_str(&format!("```text\n{}\n```\n\n", self.usage.join("\n")));
        }
        let common = |typed: &str| COMMON.iter().find(|(option, _)| *option == typed);
        let mut shared: Vec<_> = self
            .options
            .iter()
            .filter_map(|(typed, _)| common(typed))
            .map(|(_, shown)| *shown)
            .filter(|shown| !shown.is_empty())
            .collect();
        shared.dedup();
        let own = self.options.iter().filter(|(typed, _)| common(typed).is_none());
        // What has nothing said about it is in the usage.
        let all = self.arguments.iter().chain(own);
        let rows: Vec<_> = all.filter(|(_, meaning)| !meaning.is_empty()).collect();
        if !rows.is_empty() {
            text.push_str("| | |\n|---|---|\n");
            for (typed, meaning) in rows {
                text.push_str(&row([&code(typed), &meaning.replace('|', "\\|")]));
            }
            text.push('\n');
        }
        if !shared.is_empty() {
            shared.sort_unstable();
            shared.dedup();
            text.push_str(&format!("Also: {}.\n\n", shared.join(", ")));
        }
        text
    }
}

fn read(printed: &str) -> Result<Help> {
    let mut help = Help::default();
    let mut section = "";
    for line in printed.lines() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            section = "Usage";
            help.usage.push(usage.to_owned());
        } else if let Some(title) = line.strip_suffix(':').filter(|title| !title.contains(' ')) {
            section = title;
        } else if line.trim().is_empty() {
            continue;
        } else if section.is_empty() {
            help.about = line.to_owned();
        } else {
            let line = line.trim();
            let (typed, meaning) = line.split_once("  ").unwrap_or((line, ""));
            let pair = (typed.to_owned(), meaning.trim().to_owned());
            match section {
                "Usage" => help.usage.push(line.to_owned()),
                "Commands" => help.commands.push(pair.0),
                "Arguments" => help.arguments.push(pair),
                "Options" => help.options.push(pair),
                other => anyhow::bail!("the section '{other}' is new"),
            }
        }
    }
    Ok(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Make keys

Usage: kes key make [OPTIONS] <NAME>
       kes key make --all

Arguments:
  <NAME>  The name

Options:
      --json           Print JSON
  -k, --insecure       Do not verify
  -a, --api-key <KEY>  Authenticate
  -h, --help           Print help
";

    #[test]
    fn help_is_taken_apart() {
        let help = read(HELP).unwrap();
        assert_eq!(help.about, "Make keys");
        assert_eq!(
            help.usage,
            ["kes key make [OPTIONS] <NAME>", "kes key make --all"]
        );
        assert_eq!(help.arguments, [("<NAME>".to_owned(), "The name".to_owned())]);
        assert_eq!(help.options.len(), 4);
        assert!(read("About\n\nSomething:\n  else\n").is_err());
    }

    #[test]
    fn the_variables_of_client_commands_are_documented() {
        let read = |path: &str| std::fs::read_to_string(crate::cargo::root().join(path)).unwrap();
        let (source, document) = (read("crates/cli/src/connection.rs"), read("docs/commands.md"));
        let is_variable = |text: &&str| text.starts_with("KES_") || text.starts_with("MINIO_K");
        let names: Vec<_> = source
            .split('"')
            .filter(is_variable)
            .filter(|text| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
            .collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn what_all_commands_have_is_told_of_once() {
        assert_eq!(
            read(HELP).unwrap().shown("kes key make"),
            "### kes key make\n\nMake keys.\n\n```text\nkes key make [OPTIONS] <NAME>\nkes key make --all\n```\n\n\
             | | |\n|---|---|\n| `<NAME>` | The name |\n| `--json` | Print JSON |\n\nAlso: [the connection](#the-connection).\n\n"
        );
    }
}
