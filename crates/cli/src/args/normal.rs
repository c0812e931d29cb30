//! Brings a command line of any year into the form `PROGRAM COMMAND… --option=value… -- ARGUMENT…`.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

use super::with_hint;
use crate::failure::Failure;

/// Commands of former years whose server side is gone, and what takes their place.
const REMOVED: &[(&[&str], &str)] = &[
    (
        &["enclave"],
        "run one server per tenant, or separate tenants by the prefix or namespace of their key stores",
    ),
    (
        &["secret"],
        "the server does not store secrets any more, and there is no replacement",
    ),
    (&["policy", "create"], CONFIGURED_POLICY),
    (&["policy", "add"], CONFIGURED_POLICY),
    (&["policy", "assign"], CONFIGURED_POLICY),
    (&["policy", "rm"], CONFIGURED_POLICY),
    (&["policy", "delete"], CONFIGURED_POLICY),
    (&["identity", "assign"], CONFIGURED_POLICY),
    (&["identity", "rm"], CONFIGURED_POLICY),
    (&["identity", "forget"], CONFIGURED_POLICY),
];
const CONFIGURED_POLICY: &str =
    "change the `policy` section of the server's configuration and send the server a SIGHUP";

/// What a command line turned out to be.
#[derive(Debug)]
pub(super) enum Line {
    /// A question about the command at this path.
    Help(Vec<String>),
    /// A group of commands without one of them.
    Group(Vec<String>),
    /// A command that does not exist, with what to do instead.
    Absent(String),
    /// A command with its arguments, in canonical form, and its name for messages.
    Run {
        words: Vec<String>,
        path: String,
        /// Options that were spelled as in former years, as they were typed, and how they are spelled now.
        former: Vec<(String, String)>,
    },
}

/// Reads `words`, which do not include the program's name. `root` has been built.
pub(super) fn normalize(root: &Command, words: Vec<String>) -> Result<Line, Failure> {
    let mut reader = Reader {
        program: root.get_name(),
        command: root,
        path: Vec::new(),
        options: Vec::new(),
        arguments: Vec::new(),
        former: Vec::new(),
    };
    if let Some(message) = absent(root.get_name(), &words) {
        return Ok(Line::Absent(message));
    }
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            reader.arguments.extend(words);
            break;
        }
        let Some(text) = word.strip_prefix('-').filter(|text| !text.is_empty()) else {
            reader.argument(word)?;
            continue;
        };
        let (option, value) = match text.strip_prefix('-') {
            Some(long) => {
                let (name, value) = split_value(long);
                let option = reader.long(name);
                let option = option.ok_or_else(|| reader.unknown(&format!("--{name}")))?;
                if option.name != name && !reader.says_what_is_former() {
                    reader.note(format!("--{name}"), &option);
                }
                (option, value)
            }
            None => match reader.single_dash_long(text) {
                Some((option, value)) => {
                    reader.note(format!("-{}", split_value(text).0), &option);
                    (option, value)
                }
                // Only the last of a cluster can have a value.
                None => reader.cluster(text)?,
            },
        };
        if option.is_help() {
            return Ok(Line::Help(reader.path));
        }
        let value = match (option.kind, value) {
            (Kind::Bool, None) => Value::Bool(true),
            (Kind::Choice, None) => Value::Text(true.to_string()),
            (Kind::Bool, Some(text)) => Value::Bool(reader.choice(&option, text)?),
            (Kind::Choice, Some(text)) => Value::Text(reader.choice(&option, text)?.to_string()),
            (_, Some(text)) => Value::Text(text.to_owned()),
            (Kind::Optional, None) => {
                Value::Text(words.next_if(|next| !next.starts_with('-')).unwrap_or_default())
            }
            (Kind::Scalar | Kind::List, None) => {
                let missing = || reader.fail(&format!("option '--{}' needs a value", option.name));
                Value::Text(words.next().ok_or_else(missing)?)
            }
        };
        reader.set(&option, value);
    }
    Ok(reader.finish())
}

/// Why the command that `words` begin with does not exist, if so.
fn absent(program: &str, words: &[String]) -> Option<String> {
    let begins =
        |path: &&[&str]| words.len() >= path.len() && path.iter().zip(words).all(|(name, word)| name == word);
    let (path, instead) = REMOVED.iter().find(|(path, _)| begins(path))?;
    Some(format!(
        "`{program} {}` does not exist any more: {instead}",
        path.join(" ")
    ))
}

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    /// The same, and it matters whether it was given.
    Choice,
    /// The last one counts.
    Scalar,
    /// All of them count.
    List,
    /// May stand without a value.
    Optional,
}

#[derive(Debug)]
struct Known {
    name: String,
    kind: Kind,
}

impl Known {
    fn of(arg: &Arg) -> Option<Self> {
        let kind = match arg.get_action() {
            ArgAction::SetTrue | ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong => Kind::Bool,
            ArgAction::Append => Kind::List,
            _ if arg.get_value_parser().type_id() == TypeId::of::<bool>() => Kind::Choice,
            _ if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => Kind::Optional,
            _ => Kind::Scalar,
        };
        Some(Self {
            name: arg.get_long()?.to_owned(),
            kind,
        })
    }

    fn is_help(&self) -> bool {
        self.name == "help"
    }
}

#[derive(Debug)]
enum Value {
    Bool(bool),
    Text(String),
}

/// What has been read so far.
struct Reader<'a> {
    program: &'a str,
    command: &'a Command,
    path: Vec<String>,
    options: Vec<(String, Value)>,
    arguments: Vec<String>,
    former: Vec<(String, String)>,
}

impl Reader<'_> {
    /// Reads the value of an option that is there or not.
    fn choice(&self, option: &Known, text: &str) -> Result<bool, Failure> {
        parse_bool(text).ok_or_else(|| {
            self.fail(&format!(
                "invalid value '{text}' for '--{}': want true or false",
                option.name
            ))
        })
    }

    /// Takes a word that is no option: the name of a sub-command, or an argument.
    fn argument(&mut self, word: String) -> Result<(), Failure> {
        if self.arguments.is_empty()
            && let Some(found) = self.command.find_subcommand(&word)
        {
            // Options of a group, such as `--version`, stand alone.
            if !self.options.is_empty() {
                return Err(self.fail(&format!("unexpected argument '{word}'")));
            }
            self.path.push(found.get_name().to_owned());
            self.command = found;
            return Ok(());
        }
        if self.is_group() {
            return Err(self.fail(&format!("unknown command '{word}'")));
        }
        // clap would take a second argument for a sub-command that conflicts with the first.
        if self.command.has_subcommands() && self.arguments.len() >= self.command.get_positionals().count() {
            return Err(self.fail(&format!("unexpected argument '{word}'")));
        }
        self.arguments.push(word);
        Ok(())
    }

    fn long(&self, name: &str) -> Option<Known> {
        let mut args = self.command.get_arguments();
        let found = args.find(|arg| {
            arg.get_long() == Some(name)
                || arg
                    .get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
        });
        found.and_then(Known::of)
    }

    fn short(&self, name: char) -> Option<Known> {
        let mut args = self.command.get_arguments();
        let found = args.find(|arg| {
            arg.get_short() == Some(name)
                || arg
                    .get_all_short_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
        });
        found.and_then(Known::of)
    }

    /// A long option with one dash, as programs of the Go language take them.
    fn single_dash_long<'t>(&self, text: &'t str) -> Option<(Known, Option<&'t str>)> {
        let (name, value) = split_value(text);
        if name.len() < 2 {
            return None;
        }
        Some((self.long(name)?, value))
    }

    /// Takes a cluster of short options but for the last one, which it returns.
    fn cluster<'t>(&mut self, text: &'t str) -> Result<(Known, Option<&'t str>), Failure> {
        let mut rest = text;
        loop {
            let mut chars = rest.chars();
            let name = chars.next().unwrap_or_default();
            rest = chars.as_str();
            let option = self.short(name).ok_or_else(|| {
                let within = if text.chars().nth(1).is_some() {
                    format!(" in '-{text}'")
                } else {
                    String::new()
                };
                self.fail(&format!("unknown option '-{name}'{within}"))
            })?;
            if self.is_former(name) {
                self.note(format!("-{name}"), &option);
            }
            if let Some(value) = rest.strip_prefix('=') {
                return Ok((option, Some(value)));
            }
            if rest.is_empty() || option.is_help() {
                return Ok((option, None));
            }
            if !matches!(option.kind, Kind::Bool | Kind::Choice) {
                return Ok((option, Some(rest)));
            }
            self.set(&option, Value::Bool(true));
        }
    }

    /// Whether this is the short name of an option that has another one now, or none.
    fn is_former(&self, name: char) -> bool {
        let mut args = self.command.get_arguments();
        !args.any(|arg| arg.get_short() == Some(name))
    }

    /// Whether the command says itself what takes the place of its former options: those of the server have become keys
    /// of its configuration.
    fn says_what_is_former(&self) -> bool {
        self.path == ["server"]
    }

    /// Notes that an option was spelled as in former years.
    fn note(&mut self, typed: String, option: &Known) {
        let note = (typed, format!("--{}", option.name));
        if !self.former.contains(&note) {
            self.former.push(note);
        }
    }

    /// Notes an option. Of those that can be there only once, the last counts.
    fn set(&mut self, option: &Known, value: Value) {
        if option.kind != Kind::List {
            self.options.retain(|(name, _)| *name != option.name);
        }
        self.options.push((option.name.clone(), value));
    }

    fn finish(self) -> Line {
        // `kes --version` is no group without a command.
        if self.is_group() && (self.options.is_empty() || !self.path.is_empty()) {
            return Line::Group(self.path);
        }
        let path = self.name();
        let mut words = vec![self.program.to_owned()];
        words.extend(self.path);
        words.extend(self.options.into_iter().filter_map(|(name, value)| match value {
            Value::Bool(true) => Some(format!("--{name}")),
            Value::Bool(false) => None,
            Value::Text(value) => Some(format!("--{name}={value}")),
        }));
        if !self.arguments.is_empty() {
            words.push("--".to_owned());
            words.extend(self.arguments);
        }
        Line::Run {
            words,
            path,
            former: self.former,
        }
    }

    /// Whether the command does nothing without one of its sub-commands.
    fn is_group(&self) -> bool {
        self.path.is_empty() || self.command.is_subcommand_required_set()
    }

    fn name(&self) -> String {
        [self.program]
            .into_iter()
            .chain(self.path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn unknown(&self, option: &str) -> Failure {
        self.fail(&format!("unknown option '{option}'"))
    }

    fn fail(&self, message: &str) -> Failure {
        Failure::Usage(with_hint(message, &self.name()))
    }
}

fn split_value(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}
