//! Completion and manual pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kes::{Ran, command, fail, succeed};

/// Asks what a shell asks.
fn complete(shell: &str, line: &str) -> Ran {
    let mut command = command(Path::new("/"), &["kes", "", "kes"]);
    command.env("SHELL", shell).env("COMP_LINE", line);
    command.output().unwrap().into()
}

#[test]
fn a_shell_that_asks_is_answered_whatever_the_arguments_are() {
    let answered = complete("/bin/bash", "kes policy s");
    assert_eq!(
        (answered.code, answered.stdout.as_str(), answered.stderr.as_str()),
        (Some(0), "show\n", "")
    );
    assert_eq!(complete("/usr/bin/zsh", "kes zzz").stdout, "");
    assert_eq!(
        complete("/usr/bin/fish", "kes policy s").code,
        Some(1),
        "fish does not ask so"
    );
}

#[test]
fn completion_is_set_up_once() {
    let home = tempfile::tempdir().unwrap();
    let set_up = |shell: &str| {
        let mut command = command(home.path(), &["--auto-completion"]);
        command.env("SHELL", shell).env("HOME", home.path());
        Ran::from(command.output().unwrap())
    };
    let line = format!("complete -o default -C {} kes\n", env!("CARGO_BIN_EXE_kes"));
    let done = set_up("/bin/bash");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let file = home.path().join(".bashrc");
    assert!(
        done.stdout
            .contains(&format!("remove from {}:\n  {line}", file.display())),
        "{done:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    let again = set_up("/bin/bash");
    assert_eq!(
        (again.code, again.stdout),
        (
            Some(0),
            format!("Completion is set up already, in {}\n", file.display())
        )
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    assert_eq!(set_up("/bin/zsh").code, Some(0));
    assert_eq!(
        fs::read_to_string(home.path().join(".zshrc")).unwrap(),
        format!(
            "(( $+functions[compdef] )) || {{ autoload -U compinit && compinit; }}\n\
             autoload -U +X bashcompinit && bashcompinit\n{line}"
        )
    );

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let failed = set_up("/bin/bash");
    assert_eq!(
        (failed.code, failed.stderr.lines().count()),
        (Some(1), 1),
        "{failed:?}"
    );
    assert!(failed.stderr.contains(".bashrc"), "{failed:?}");
    assert!(fail(home.path(), &["--auto-completion"]).starts_with("SHELL is not set"));
}

#[test]
fn bash_completes_with_what_was_set_up_and_with_the_script() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("kes.bash"),
        succeed(dir.path(), &["completion", "bash"]),
    )
    .unwrap();
    let script = "source ./kes.bash; COMP_WORDS=(kes policy s); COMP_CWORD=2; _kes kes s policy; echo \"${COMPREPLY[*]}\"";
    let bash = Command::new("bash")
        .current_dir(dir.path())
        .args(["-c", script])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(bash.stdout).unwrap(), "show\n");
}

#[test]
fn scripts_know_what_is_offered_and_nothing_older() {
    let here = Path::new("/");
    for (shell, begin) in [
        ("bash", "_kes() {"),
        ("zsh", "#compdef kes"),
        ("fish", "# Print an optspec"),
    ] {
        let script = succeed(here, &["completion", shell]);
        assert!(script.starts_with(begin), "{script}");
        for offered in ["policy", "encrypt", "expiry"] {
            assert!(script.contains(offered), "{shell}: {offered}");
        }
        for former in ["trace", "derive", "mtls-auth", "minisign"] {
            assert!(!script.contains(former), "{shell}: {former}");
        }
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert_eq!(succeed(dir.path(), &["man", "share/man1"]), "");
    }
    let folder = dir.path().join("share/man1");
    let mut pages: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for page in [
        "kes.1",
        "kes-server.1",
        "kes-policy.1",
        "kes-policy-show.1",
        "kes-identity-new.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    assert!(
        !pages
            .iter()
            .any(|name| name.contains("tool") || name.contains("trace")),
        "{pages:?}"
    );
    let page = fs::read_to_string(folder.join("kes-policy-show.1")).unwrap();
    for part in [
        "KES-POLICY-SHOW",
        "Show the rules of a policy",
        "kes policy show",
        "insecure",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
