//! Completion in real shells: what a person sees who presses Tab.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use kes_peers::Debian;
use tempfile::TempDir;

use crate::kes::{Ran, succeed};
use crate::session::Session;

/// The home of someone who has just got a shell, with `kes` among their programs.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_kes"), home.path().join("bin/kes")).unwrap();
        fs::write(home.path().join("my-certificate.crt"), "").unwrap();
        Self(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// `command` as run by this person, whose shell is `shell`.
    fn at_home(&self, mut command: Command, shell: &str) -> Command {
        let path = format!("{}/bin:/usr/bin:/bin", self.path().display());
        command
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("ZDOTDIR", self.path())
            .env("SHELL", shell)
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs `kes --auto-completion`.
    fn set_up(&self, shell: &str) {
        let mut kes = Command::new(self.path().join("bin/kes"));
        kes.arg("--auto-completion").env_clear();
        let ran = Ran::from(self.at_home(kes, shell).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    }

    /// Starts a shell, and waits until it takes commands.
    fn shell(&self, command: Command, shell: &str) -> Session {
        let mut session = Session::start(&self.at_home(command, shell), (120, 50));
        session.write("echo he''llo\n");
        session.until("an answer", |screen| {
            screen.contents().lines().any(|line| line == "hello")
        });
        session
    }
}

fn bash() -> Command {
    let mut bash = Command::new("bash");
    bash.arg("-i");
    bash
}

/// zsh, which finds its own files where they are, not where they would be if it were installed.
fn zsh(home: &Home) -> Command {
    let zsh = Debian::unpack(&["zsh", "zsh-common"]).unwrap();
    let root = zsh.root().display();
    home.write(
        ".zshenv",
        &format!(
            "module_path=({root}/usr/lib/*-linux-gnu/zsh/*(N))\nfpath=({root}/usr/share/zsh/functions/**/*(/N))\n"
        ),
    );
    let mut command = zsh.command("zsh").unwrap();
    command.arg("-i");
    command
}

/// Types `line` and Tab on an empty line, as often as it takes to see all candidates if there are several, and waits until all
/// of `wanted` is on the screen.
#[track_caller]
fn tab(session: &mut Session, line: &str, wanted: &[&str]) {
    // Away with what was typed and shown before.
    session.write("\u{15}\u{c}");
    session.until("a cleared screen", |screen| {
        screen.contents().trim_end().lines().count() <= 1
    });
    // The first may add what all candidates begin with.
    let tabs = if wanted.len() > 1 { "\t\t\t" } else { "\t" };
    session.write(&format!("{line}{tabs}"));
    session.until(&format!("{wanted:?} after {line:?}"), |screen| {
        let text = screen.contents();
        let parts = || text.lines().flat_map(|line| line.split("  ")).map(str::trim);
        wanted
            .iter()
            .all(|wanted| parts().any(|part| part.ends_with(wanted)))
    });
}

/// What all shells offer.
#[track_caller]
fn completes(session: &mut Session) {
    tab(
        session,
        "kes ",
        &["identity", "key", "policy", "server", "status"],
    );
    tab(
        session,
        "kes key ",
        &[
            "create", "decrypt", "dek", "encrypt", "import", "info", "ls", "rm",
        ],
    );
    tab(session, "kes key d", &["kes key de", "decrypt", "dek"]);
    tab(session, "kes pol", &["kes policy"]);
    tab(session, "kes policy s", &["kes policy show"]);
    tab(session, "kes identity new --ex", &["kes identity new --expiry"]);
    tab(session, "kes key dek --ins", &["kes key dek --insecure"]);
}

#[test]
fn bash_completes_once_it_is_set_up() {
    let home = Home::new();
    home.set_up("/bin/bash");
    let mut bash = home.shell(bash(), "/bin/bash");
    completes(&mut bash);
    tab(
        &mut bash,
        "kes identity of my-",
        &["kes identity of my-certificate.crt"],
    );
}

#[test]
fn bash_completes_with_the_script() {
    let home = Home::new();
    home.write(".bashrc", "source <(kes completion bash)\n");
    let mut bash = home.shell(bash(), "/bin/bash");
    completes(&mut bash);
    tab(
        &mut bash,
        "kes identity new --key my-",
        &["kes identity new --key my-certificate.crt"],
    );
}

#[test]
fn zsh_completes_once_it_is_set_up() {
    let home = Home::new();
    let zsh = zsh(&home);
    home.set_up("/usr/bin/zsh");
    let mut zsh = home.shell(zsh, "/usr/bin/zsh");
    completes(&mut zsh);
    tab(
        &mut zsh,
        "kes identity of my-",
        &["kes identity of my-certificate.crt"],
    );
}

#[test]
fn zsh_completes_with_the_script() {
    let home = Home::new();
    let zsh = zsh(&home);
    fs::create_dir(home.path().join("functions")).unwrap();
    home.write("functions/_kes", &succeed(home.path(), &["completion", "zsh"]));
    home.write(
        ".zshrc",
        "fpath=(~/functions $fpath)\nautoload -Uz compinit && compinit -D\n",
    );
    let mut zsh = home.shell(zsh, "/usr/bin/zsh");
    tab(&mut zsh, "kes pol", &["kes policy"]);
    tab(&mut zsh, "kes policy s", &["kes policy show"]);
    tab(&mut zsh, "kes key d", &["kes key de"]);
    // It takes a value.
    tab(&mut zsh, "kes identity new --ex", &["kes identity new --expiry="]);
    tab(
        &mut zsh,
        "kes key ",
        &["-- Make a data encryption key", "-- Create keys"],
    );
}

#[test]
fn fish_completes_with_the_script() {
    let home = Home::new();
    let fish = Debian::unpack(&["fish", "fish-common", "libpcre2-32-0"]).unwrap();
    let candidates = |line: &str| {
        let mut command = fish.command("fish").unwrap();
        command.args([
            "--no-config",
            "-c",
            &format!("kes completion fish | source; complete -C '{line}'"),
        ]);
        let output = home.at_home(command, "/usr/bin/fish").output().unwrap();
        let (shown, errors) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success() && errors.is_empty(), "{line}: {errors}");
        let names = shown
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(candidates("kes key d"), ["decrypt", "dek"]);
    assert_eq!(candidates("kes policy s"), ["show"]);
    assert_eq!(candidates("kes identity new --ex"), ["--expiry"]);
    let all = candidates("kes ");
    for command in ["identity", "key", "policy", "server", "status"] {
        assert!(all.iter().any(|name| name == command), "{command}: {all:?}");
    }
    for former in ["tool", "audit"] {
        assert!(!all.iter().any(|name| name == former), "{former}: {all:?}");
    }
}
