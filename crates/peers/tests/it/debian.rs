//! Programs of Debian packages that nobody has installed.

use std::fs;
use std::process::Command;

use kes_peers::Debian;
use kes_peers::process::{PATIENCE, run};

fn printed(command: &mut Command) -> String {
    run(command, PATIENCE).unwrap().expect_success().unwrap()
}

#[test]
fn promtool_judges_rules() {
    let prometheus = Debian::unpack(&["prometheus"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yml");
    fs::write(
        &rules,
        "groups: [{name: g, rules: [{alert: A, expr: 'up == 0'}]}]\n",
    )
    .unwrap();
    let checked = printed(
        prometheus
            .command("promtool")
            .unwrap()
            .args(["check", "rules"])
            .arg(&rules),
    );
    assert!(checked.contains("1 rules found"), "{checked}");
}

#[test]
fn zsh_loads_its_modules_and_functions_from_where_it_was_unpacked() {
    let zsh = Debian::unpack(&["zsh", "zsh-common"]).unwrap();
    // Both folders are named after the version.
    let script = "module_path=($1/usr/lib/*-linux-gnu/zsh/*(N)); fpath=($1/usr/share/zsh/functions/**/*(/N))
        zmodload zsh/zle && autoload -Uz compinit && compinit -u -d $2 && print loaded $+functions[_files]";
    let folder = tempfile::tempdir().unwrap();
    let mut command = zsh.command("zsh").unwrap();
    command
        .args(["-f", "-c", script, "zsh"])
        .arg(zsh.root())
        .arg(folder.path().join("dump"));
    assert_eq!(printed(&mut command), "loaded 1\n");
}

#[test]
fn fish_finds_its_functions_where_it_was_unpacked() {
    let fish = Debian::unpack(&["fish", "fish-common", "libpcre2-32-0"]).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = fish.command("fish").unwrap();
    command
        .args([
            "--no-config",
            "-c",
            "functions -q fish_add_path; and complete -C 'cd /et'",
        ])
        .env("HOME", home.path());
    let completed = printed(&mut command);
    assert!(completed.starts_with("/etc/"), "{completed}");
}

#[test]
fn setcap_runs() {
    let tools = Debian::unpack(&["libcap2-bin", "libcap2"]).unwrap();
    let license = printed(tools.command("setcap").unwrap().arg("--license"));
    assert!(license.contains("Copyright"), "{license}");
}

#[test]
fn a_package_that_does_not_exist_is_an_error_with_its_name() {
    let error = Debian::unpack(&["kes-no-such-package"]).unwrap_err();
    assert!(format!("{error:#}").contains("kes-no-such-package"), "{error:#}");
}
