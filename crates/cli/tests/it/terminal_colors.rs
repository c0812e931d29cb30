//! When output has colours: by option, by environment, and by where each of the two streams goes.

use std::process::Stdio;

use crate::inspection::Place;
use crate::terminal;

/// Where a stream goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Terminal,
    Pipe,
}

/// What a run writes to its standard output and to its standard error output.
fn run(
    place: &Place,
    arguments: &[&str],
    variables: &[(&str, &str)],
    stdout: To,
    stderr: To,
) -> (String, String) {
    let mut command = crate::kes::command(place.path(), arguments);
    command
        .envs(place.variables())
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let sides = [stdout, stderr].map(|to| (to == To::Terminal).then(terminal::open));
    let [(stdout, out), (stderr, err)] = sides.map(|sides| match sides {
        Some((terminal, side)) => (Some(terminal), Stdio::from(side)),
        None => (None, Stdio::piped()),
    });
    let child = command.stdout(out).stderr(err).spawn().unwrap();
    drop(command);
    let shown = [stdout, stderr].map(|terminal| terminal.map(terminal::Terminal::read_to_end));
    let output = child.wait_with_output().unwrap();
    let [out, err] = shown;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        out.unwrap_or_else(|| text(output.stdout)).replace("\r\n", "\n"),
        err.unwrap_or_else(|| text(output.stderr)).replace("\r\n", "\n"),
    )
}

const COLORED: &str = "\u{1b}[4mPolicy\u{1b}[0m\nminio\nnothing\n";
const PLAIN: &str = "Policy\nminio\nnothing\n";

#[test]
fn the_option_decides_whatever_the_environment_says() {
    let place = Place::new();
    let auto = |to| to == To::Terminal;
    for to in [To::Terminal, To::Pipe] {
        for (option, colored) in [
            (&[][..], auto(to)),
            (&["--color", "auto"], auto(to)),
            (&["--color=Auto"], auto(to)),
            (&["--color="], auto(to)),
            (&["--color", ""], auto(to)),
            (&["--color=always"], true),
            (&["--color", "ALWAYS"], true),
            (&["--color=never"], false),
            (&["--color", "Never"], false),
            (&["--color=never", "--color=always"], true),
        ] {
            let arguments = [&["policy", "ls"], option].concat();
            let (shown, errors) = run(&place, &arguments, &[], to, To::Pipe);
            assert_eq!(shown, if colored { COLORED } else { PLAIN }, "{option:?} {to:?}");
            assert_eq!(errors, "", "{option:?} {to:?}");
        }
    }
    let (shown, errors) = run(
        &place,
        &["policy", "ls", "--color=sometimes"],
        &[],
        To::Terminal,
        To::Pipe,
    );
    assert_eq!(shown, "");
    assert_eq!(
        errors,
        "Error: invalid value 'sometimes' for '--color': want always, auto or never; see 'kes policy ls --help'\n"
    );
}

#[test]
fn the_environment_decides_where_the_option_does_not() {
    let place = Place::new();
    for (variables, on_terminal, in_pipe) in [
        (&[("NO_COLOR", "1")][..], false, false),
        (&[("NO_COLOR", "")], true, false),
        (&[("CLICOLOR", "0")], false, false),
        (&[("CLICOLOR", "1")], true, false),
        (&[("CLICOLOR_FORCE", "1")], true, true),
        (&[("CLICOLOR_FORCE", "0")], true, false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        (&[("CLICOLOR_FORCE", "1"), ("CLICOLOR", "0")], true, true),
    ] {
        for (to, colored) in [(To::Terminal, on_terminal), (To::Pipe, in_pipe)] {
            let (shown, _) = run(&place, &["policy", "ls"], variables, to, To::Pipe);
            assert_eq!(
                shown,
                if colored { COLORED } else { PLAIN },
                "{variables:?} {to:?}"
            );
            for (option, want) in [("--color=always", COLORED), ("--color=never", PLAIN)] {
                let (shown, _) = run(&place, &["policy", "ls", option], variables, to, To::Pipe);
                assert_eq!(shown, want, "{variables:?} {to:?} {option}");
            }
        }
    }
}

#[test]
fn an_error_has_the_colors_of_its_own_stream() {
    let place = Place::new();
    let colored = "\u{1b}[1m\u{1b}[31mError:\u{1b}[0m policy does not exist\n";
    let plain = "Error: policy does not exist\n";
    for (variables, stdout, stderr, want) in [
        (&[][..], To::Pipe, To::Terminal, colored),
        (&[], To::Terminal, To::Pipe, plain),
        (&[], To::Terminal, To::Terminal, colored),
        (&[], To::Pipe, To::Pipe, plain),
        (&[("NO_COLOR", "1")], To::Pipe, To::Terminal, plain),
        (&[("CLICOLOR", "0")], To::Pipe, To::Terminal, plain),
        (&[("CLICOLOR_FORCE", "1")], To::Pipe, To::Pipe, colored),
    ] {
        let (shown, errors) = run(&place, &["policy", "show", "other"], variables, stdout, stderr);
        assert_eq!(
            (shown.as_str(), errors.as_str()),
            ("", want),
            "{variables:?} {stdout:?} {stderr:?}"
        );
    }
}

#[test]
fn json_and_what_programs_read_never_have_colors() {
    let place = Place::new();
    for line in [
        &["ls", "--json"][..],
        &["policy", "ls", "--json"],
        &["policy", "info", "minio", "--json"],
        &["policy", "show", "minio", "--json"],
        &["identity", "ls", "--json"],
        &["identity", "info", "--json"],
        &["status", "--json"],
        &["status", "--json", "--api"],
        &["completion", "zsh"],
        &["--help"],
        &["--version"],
    ] {
        for to in [To::Terminal, To::Pipe] {
            let (shown, errors) = run(&place, line, &[("CLICOLOR_FORCE", "1")], to, To::Pipe);
            assert!(
                !shown.is_empty() && !shown.contains('\u{1b}'),
                "{line:?} {to:?}: {shown:?}"
            );
            assert_eq!(errors, "", "{line:?}");
        }
    }
}
