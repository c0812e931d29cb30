//! Bad input, for every option and argument of every command: what the parser knows, this goes through, so that a new command
//! cannot be forgotten.

use clap::{Arg, ArgAction, Command};

use super::*;

/// A command that does something, and the words that lead to it.
struct Leaf {
    path: Vec<String>,
    command: Command,
}

impl Leaf {
    fn name(&self) -> String {
        ["kes"]
            .into_iter()
            .chain(self.path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The options that take a value, and must have one.
    fn valued(&self) -> impl Iterator<Item = &str> {
        let takes = |arg: &&Arg| {
            matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
                && arg.get_num_args().is_none_or(|range| range.min_values() > 0)
        };
        self.command
            .get_arguments()
            .filter(takes)
            .filter_map(Arg::get_long)
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        let is_flag = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue);
        self.command
            .get_arguments()
            .filter(is_flag)
            .filter_map(Arg::get_long)
    }

    fn is_list(&self, option: &str) -> bool {
        let mut args = self.command.get_arguments();
        args.any(|arg| arg.get_long() == Some(option) && matches!(arg.get_action(), ArgAction::Append))
    }

    fn is_required(arg: &Arg) -> bool {
        arg.is_required_set()
    }

    /// A line of this command that has all that it must have, and `words`.
    fn line(&self, words: &[&str]) -> Vec<String> {
        let mut line = self.path.clone();
        for arg in self.command.get_arguments().filter(|arg| Self::is_required(arg)) {
            match arg.get_long() {
                Some(long) => line.push(format!("--{long}={}", good(long))),
                None => line.push(good(arg.get_id().as_str()).to_owned()),
            }
        }
        // Of these, one or the other is required.
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let (instead, arguments): (_, &[&str]) = match &path[..] {
            ["doctor"] => ("--config", &["given"]),
            ["policy", "test"] => ("--table", &["PUT", "/version"]),
            _ => ("", &[]),
        };
        if instead.is_empty() || !words.iter().any(|word| word.starts_with(instead)) {
            line.extend(arguments.iter().map(|word| (*word).to_owned()));
        }
        line.extend(words.iter().map(|word| (*word).to_owned()));
        line
    }

    fn error(&self, words: &[&str]) -> String {
        let line = self.line(words);
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        error(&line)
    }

    fn parsed(&self, words: &[&str]) -> Result<Cli, String> {
        let line = self.line(words);
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        parsed(&line)
    }
}

/// Every command with all that leads to it, hidden ones too.
fn leaves() -> Vec<Leaf> {
    fn walk(command: &Command, path: &[String], found: &mut Vec<Leaf>) {
        let commands = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        for sub in commands {
            let path: Vec<_> = path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
            walk(sub, &path, found);
        }
        if !path.is_empty() && !command.is_subcommand_required_set() {
            let (path, command) = (path.to_vec(), command.clone());
            found.push(Leaf { path, command });
        }
    }
    let mut root = Cli::command().name("kes").bin_name("kes");
    root.build();
    let mut found = Vec::new();
    walk(&root, &[], &mut found);
    assert!(found.len() > 40, "{}", found.len());
    found
}

/// How many words of `line` are no options.
fn arguments(line: &[String]) -> usize {
    line.iter().filter(|word| !word.starts_with("--")).count()
}

/// A value that the option or argument of this name takes.
fn good(name: &str) -> &'static str {
    match name {
        "expiry" => "5h",
        "rate" => "7s",
        "color" => "never",
        "type" => "audit",
        "shell" => "bash",
        _ => "given",
    }
}

/// Another one.
fn better(name: &str) -> &'static str {
    match name {
        "expiry" => "6h",
        "rate" => "8s",
        "color" => "always",
        "type" => "metric",
        _ => "other",
    }
}

/// Options whose empty value is that of a script whose variable is not set: the option counts as not given, or means "none".
const EMPTY_IS_ABSENT: &[&str] = &[
    "addr",
    "api-key",
    "arch",
    "color",
    "enclave",
    "hash",
    "minisign-key",
    "os",
    "root",
    "server",
];
/// Options whose elements are read after the line.
const READ_LATER: &[&str] = &["dns", "ip"];

#[test]
fn an_option_without_its_value_is_named() {
    for leaf in leaves() {
        for option in leaf.valued() {
            assert_eq!(
                leaf.error(&[&format!("--{option}")]),
                format!("option '--{option}' needs a value; see '{} --help'", leaf.name())
            );
        }
    }
}

#[test]
fn an_option_with_an_empty_value_is_named_or_known_to_count_as_absent() {
    for leaf in leaves() {
        for option in leaf.valued().filter(|option| !READ_LATER.contains(option)) {
            match leaf.parsed(&[&format!("--{option}=")]) {
                Ok(_) => assert!(
                    EMPTY_IS_ABSENT.contains(&option),
                    "{} --{option}= is taken",
                    leaf.name()
                ),
                Err(error) => {
                    assert!(
                        error.starts_with(&format!("invalid value '' for '--{option}'")),
                        "{}: {error}",
                        leaf.name()
                    );
                    assert!(
                        error.ends_with(&format!("; see '{} --help'", leaf.name())),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[test]
fn of_an_option_that_is_repeated_the_last_value_counts_and_of_a_list_all() {
    for leaf in leaves() {
        for option in leaf.valued() {
            let (first, second) = (
                format!("--{option}={}", good(option)),
                format!("--{option}={}", better(option)),
            );
            let once = |text: &str| match leaf.parsed(&[text]) {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => panic!("{} {text}: {error}", leaf.name()),
            };
            let both = leaf.parsed(&[&first, &second]).unwrap();
            if leaf.is_list(option) {
                assert!(format!("{both:?}").contains(r#"["given", "other"]"#), "{both:?}");
            } else {
                assert_eq!(format!("{both:?}"), once(&second), "{}", leaf.name());
                assert_ne!(once(&first), once(&second), "{} --{option}", leaf.name());
            }
        }
    }
}

#[test]
fn a_flag_takes_true_or_false_and_nothing_else() {
    for leaf in leaves() {
        for flag in leaf.flags() {
            for bad in ["", "maybe", "2", "=true"] {
                assert_eq!(
                    leaf.error(&[&format!("--{flag}={bad}")]),
                    format!(
                        "invalid value '{bad}' for '--{flag}': want true or false; see '{} --help'",
                        leaf.name()
                    )
                );
            }
        }
    }
}

#[test]
fn what_no_command_knows_is_named() {
    for leaf in leaves() {
        let name = leaf.name();
        for (bad, named) in [
            ("--no-such-option", "--no-such-option"),
            ("--no-such-option=5", "--no-such-option"),
            ("-Z", "-Z"),
        ] {
            assert_eq!(
                leaf.error(&[bad]),
                format!("unknown option '{named}'; see '{name} --help'")
            );
        }
        // Nor is an abbreviation an option.
        let (line, known) = (leaf.line(&[]), leaf.valued().chain(leaf.flags()));
        for option in known.filter(|option| option.len() > 3) {
            let short: String = option.chars().take(option.len() - 1).collect();
            if leaf.command.get_arguments().any(|arg| {
                arg.get_long() == Some(&short)
                    || arg
                        .get_all_aliases()
                        .is_some_and(|aliases| aliases.contains(&short.as_str()))
            }) {
                continue;
            }
            let abbreviated = format!("--{short}=x");
            let words: Vec<_> = line.iter().map(String::as_str).chain([&*abbreviated]).collect();
            assert_eq!(
                error(&words),
                format!("unknown option '--{short}'; see '{name} --help'")
            );
        }
    }
}

#[test]
fn an_argument_too_many_or_too_few_is_named() {
    for leaf in leaves() {
        let positionals: Vec<_> = leaf.command.get_positionals().collect();
        let takes_any = positionals
            .iter()
            .any(|arg| matches!(arg.get_action(), ArgAction::Append));
        if !takes_any {
            let given = arguments(&leaf.line(&[])) - leaf.path.len();
            let mut words = vec!["optional"; positionals.len() - given];
            words.push("surplus");
            assert_eq!(
                leaf.error(&words),
                format!("unexpected argument 'surplus'; see '{} --help'", leaf.name())
            );
        }
        if leaf.command.get_arguments().any(Leaf::is_required) {
            let path: Vec<_> = leaf.path.iter().map(String::as_str).collect();
            let error = error(&path);
            assert!(error.starts_with("missing argument "), "{error}");
            assert!(
                error.ends_with(&format!("; see '{} --help'", leaf.name())),
                "{error}"
            );
        }
    }
}

#[test]
fn help_is_given_whatever_comes_after_it() {
    for leaf in leaves() {
        for words in [&["--help"][..], &["-h"], &["-help"], &["--help", "x", "--y"]] {
            let line: Vec<_> = leaf
                .path
                .iter()
                .map(String::as_str)
                .chain(words.iter().copied())
                .collect();
            let help = parsed(&line).expect_err("help");
            assert!(
                help.starts_with("help: ") && help.contains(&format!("Usage: {}", leaf.name())),
                "{line:?}: {help}"
            );
        }
    }
}
