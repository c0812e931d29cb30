//! Completion: candidates for a shell that asks (`complete -C`), the line that makes it ask, and scripts for shells that would
//! rather not.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Command;

use crate::args::{self, Shell};
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::output::Output;

/// What zsh needs before it knows bash's `complete`. That is made of zsh's own completion, which nobody has started in a fresh
/// `.zshrc`; starting it twice would only take time.
const ZSH: [&str; 2] = [
    "(( $+functions[compdef] )) || { autoload -U compinit && compinit; }",
    "autoload -U +X bashcompinit && bashcompinit",
];

/// What a shell wants completed, if one has started this process to ask that.
pub(crate) fn asked(environment: &Environment) -> Option<&str> {
    let shell = environment.get("SHELL")?;
    if !shell.ends_with("bash") && !shell.ends_with("zsh") {
        return None;
    }
    let line = environment.raw("COMP_LINE")?;
    // What stands behind the cursor is not to be completed.
    let cursor = environment
        .get("COMP_POINT")
        .and_then(|point| point.parse::<usize>().ok());
    Some(cursor.and_then(|cursor| line.get(..cursor)).unwrap_or(line))
}

/// Answers a shell: one candidate a line.
pub(crate) fn answer(line: &str, output: &mut Output) -> Outcome {
    let candidates = candidates(&args::visible(), line);
    candidates.iter().try_for_each(|candidate| output.line(candidate))
}

/// The commands and options that begin with the last word of `line`.
fn candidates(root: &Command, line: &str) -> Vec<String> {
    let (before, unfinished) = match line.rfind(char::is_whitespace) {
        Some(at) => line.split_at(at),
        None => return Vec::new(),
    };
    let unfinished = unfinished.trim_start();
    // The first word is the program.
    let command = before
        .split_whitespace()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .fold(root, |command, word| {
            command.find_subcommand(word).unwrap_or(command)
        });
    let commands = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    let options = command
        .get_arguments()
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
    commands
        .chain(options)
        .filter(|candidate| candidate.starts_with(unfinished))
        .collect()
}

/// `kes completion`: prints a script that completes without asking this program.
pub(crate) fn script(shell: Shell, output: &mut Output) -> Outcome {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::visible(), args::program(), &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

/// `kes --auto-completion`: lets the user's shell ask this program.
pub(crate) fn install(context: &mut Context<'_>) -> Outcome {
    let program = std::env::current_exe().context("cannot find out where this program is")?;
    let Setup { file, lines } = setup(&context.environment, &program, &args::program())?;
    let missing = missing_in(&file, &lines)?;
    if missing.is_empty() {
        return context
            .output
            .line(&format!("Completion is set up already, in {}", file.display()));
    }
    append(&file, &missing)?;
    context.output.text(&format!(
        "Completion is set up in {0}. It works in new shells, and in this one after: source {0}\n\
         To undo that, remove from {0}:\n",
        file.display()
    ))?;
    missing
        .iter()
        .try_for_each(|line| context.output.line(&format!("  {line}")))
}

/// What makes a shell ask this program.
#[derive(Debug, PartialEq, Eq)]
struct Setup {
    /// What the shell reads when it starts.
    file: PathBuf,
    /// What must stand in there.
    lines: Vec<String>,
}

fn setup(environment: &Environment, program: &Path, name: &str) -> anyhow::Result<Setup> {
    let Some(shell) = environment.get("SHELL") else {
        bail!("SHELL is not set: it names the shell to set up, such as /bin/bash or /bin/zsh");
    };
    let (file, first): (_, &[_]) = if shell.ends_with("bash") {
        (".bashrc", &[])
    } else if shell.ends_with("zsh") {
        (".zshrc", &ZSH)
    } else {
        bail!("'{shell}' is neither bash nor zsh; `{name} completion` prints scripts for other shells");
    };
    let Some(home) = environment.get("HOME") else {
        bail!("HOME is not set: it names the folder of {file}");
    };
    let program = program.display().to_string();
    for word in [&*program, name] {
        let is_harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        if !word.chars().all(is_harmless) {
            bail!(
                "'{word}' has characters that mean something to a shell: give the program another name or place"
            );
        }
    }
    let line = format!("complete -o default -C {program} {name}");
    Ok(Setup {
        file: Path::new(home).join(file),
        lines: first.iter().map(ToString::to_string).chain([line]).collect(),
    })
}

/// Those of `lines` with which no line of `file` begins.
fn missing_in(file: &Path, lines: &[String]) -> anyhow::Result<Vec<String>> {
    let present = match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let is_missing = |line: &&String| !present.lines().any(|other| other.starts_with(line.as_str()));
    Ok(lines.iter().filter(is_missing).cloned().collect())
}

/// Adds `lines` to `file`, which need not exist, or leaves it as it is.
fn append(file: &Path, lines: &[String]) -> anyhow::Result<()> {
    let writing = || format!("cannot write {}", file.display());
    let old = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(writing),
    };
    let mut text = String::new();
    if old.last().is_some_and(|byte| *byte != b'\n') {
        text.push('\n');
    }
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    // Not replaced by a new file: this one may be a link into a folder that the user keeps.
    let mut opened = File::options()
        .create(true)
        .append(true)
        .open(file)
        .with_context(writing)?;
    let written = opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all());
    if written.is_err() {
        let _ = opened.set_len(old.len() as u64);
    }
    written.with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        candidates(&args::visible(), line)
    }

    #[test]
    fn commands_and_options_complete_a_word() {
        assert_eq!(complete("kes pol"), ["policy"]);
        assert_eq!(complete("/opt/bin/kes key c"), ["create"]);
        assert_eq!(complete("kes key --insecure c"), ["create"]);
        assert_eq!(complete("kes policy "), ["info", "ls", "show", "test", "--help"]);
        assert_eq!(complete("kes ls --pol"), ["--policy"]);
        assert_eq!(complete("kes identity new --ex"), ["--expiry"]);
        assert_eq!(complete("kes server\t--conf"), ["--config"]);
        for nothing in [
            "",
            "k",
            "kes",
            "kes frobnicate",
            "kes key create my-ke",
            "kes server conf",
        ] {
            assert!(complete(nothing).is_empty(), "{nothing}: {:?}", complete(nothing));
        }
    }

    #[test]
    fn every_command_is_offered_and_no_former_one() {
        let offered = complete("kes ");
        for command in ["ls", "migrate", "policy", "store", "--version"] {
            assert!(
                offered.iter().any(|offer| offer == command),
                "{command}: {offered:?}"
            );
        }
        for former in ["tool", "audit", "--update"] {
            assert!(
                !offered.iter().any(|offer| offer == former),
                "{former}: {offered:?}"
            );
        }
        for (line, former) in [
            ("kes key ", "list"),
            ("kes key ", "derive"),
            ("kes log ", "trace"),
            ("kes identity new ", "--time"),
            ("kes ls ", "--enclave"),
        ] {
            assert!(
                !complete(line).iter().any(|offer| offer == former),
                "{line}{former}"
            );
        }
    }

    #[test]
    fn a_shell_asks_up_to_its_cursor() {
        let environment = |shell, point| {
            Environment::from([
                ("SHELL", shell),
                ("COMP_LINE", "kes po ls"),
                ("COMP_POINT", point),
            ])
        };
        assert_eq!(asked(&environment("/bin/bash", "6")), Some("kes po"));
        assert_eq!(asked(&environment("/usr/bin/zsh", "99")), Some("kes po ls"));
        assert_eq!(asked(&environment("zsh", "")), Some("kes po ls"));
        assert_eq!(asked(&environment("/bin/fish", "6")), None);
        assert_eq!(asked(&Environment::from([("SHELL", "/bin/bash")])), None);
        assert_eq!(asked(&Environment::from([("COMP_LINE", "kes ")])), None);
    }

    #[test]
    fn each_shell_has_its_file_and_lines() {
        let environment = |shell: &str| Environment::from([("SHELL", shell), ("HOME", "/home/me")]);
        let program = Path::new("/usr/local/bin/kes");
        let line = "complete -o default -C /usr/local/bin/kes kes".to_owned();
        assert_eq!(
            setup(&environment("/bin/bash"), program, "kes").unwrap(),
            Setup {
                file: "/home/me/.bashrc".into(),
                lines: vec![line.clone()],
            }
        );
        assert_eq!(
            setup(&environment("/bin/zsh"), program, "kes").unwrap(),
            Setup {
                file: "/home/me/.zshrc".into(),
                lines: ZSH.map(str::to_owned).into_iter().chain([line]).collect(),
            }
        );
        for (environment, program, want) in [
            (environment("/bin/tcsh"), "/bin/kes", "neither bash nor zsh"),
            (environment(""), "/bin/kes", "SHELL is not set"),
            (
                Environment::from([("SHELL", "bash")]),
                "/bin/kes",
                "HOME is not set",
            ),
            (
                environment("bash"),
                "/my programs/kes",
                "mean something to a shell",
            ),
        ] {
            let error = setup(&environment, Path::new(program), "kes").unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
    }

    #[test]
    fn lines_are_added_once_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".zshrc");
        let lines = ["a b".to_owned(), "c".to_owned()];
        assert_eq!(missing_in(&file, &lines).unwrap(), lines);
        append(&file, &lines).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a b\nc\n");
        assert!(missing_in(&file, &lines).unwrap().is_empty());

        fs::write(&file, "x\na b # mine").unwrap();
        let missing = missing_in(&file, &lines).unwrap();
        assert_eq!(missing, ["c"]);
        append(&file, &missing).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "x\na b # mine\nc\n");
        assert!(missing_in(dir.path(), &lines).is_err(), "a folder");
    }
}
