//! The live view of `kes metric`, on a terminal.

use std::process::Command;

use kes_peers::process::free_port;
use rustix::process::Signal;
use vt100::{Color, Screen};

use crate::daemon::Daemon;
use crate::inspection::Place;
use crate::kes::command;
use crate::server::silent;
use crate::services::NOBODY;
use crate::session::Session;

const USUAL: (u16, u16) = (80, 24);

fn metric(place: &Place, arguments: &[&str]) -> Command {
    let mut command = command(place.path(), &[&["metric", "--rate=20ms"], arguments].concat());
    command.envs(place.variables());
    command
}

fn view(place: &Place, size: (u16, u16)) -> Session {
    let mut view = Session::start(&metric(place, &[]), size);
    view.until_text("Requests");
    view
}

/// The number behind `label`.
fn figure(screen: &Screen, label: &str) -> Option<u64> {
    let text = screen.contents();
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn has_colors(screen: &Screen) -> bool {
    let (lines, columns) = screen.size();
    let mut cells = (0..lines.get()).flat_map(|line| (0..columns.get()).map(move |column| (line, column)));
    cells.any(|(line, column)| {
        let cell = screen.cell(line, column).unwrap();
        cell.fgcolor() != Color::Default || cell.bold() || cell.underline()
    })
}

#[test]
fn the_view_is_drawn_in_place_and_goes_on() {
    let place = Place::new();
    let mut view = view(&place, USUAL);
    view.until("a hidden cursor on another screen", |screen| {
        screen.hide_cursor() && screen.alternate_screen()
    });
    view.until_text("Certificate");
    let text = view.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{}  up ", place.server.address())),
        "{text}"
    );
    assert!(lines[1].starts_with("every 20ms, q quits"), "{text}");
    for line in ["Requests ", "Cache", "Log events "] {
        assert!(
            lines.iter().any(|shown| shown.starts_with(line)),
            "{line}: {text}"
        );
    }
    for part in [
        "Latency",
        "Key store",
        "System",
        "online",
        "p99",
        "Req/s",
        " days",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    silent(&place.kes("key create my-key"));
    assert_eq!(place.kes("key info other").code, Some(1));
    view.until("a request that failed", |screen| {
        figure(screen, "Err [4xx]") == Some(1)
    });
    let before = figure(view.screen(), "OK  [2xx]").unwrap();
    view.until("more requests", |screen| {
        figure(screen, "OK  [2xx]") > Some(before + 3)
    });
    view.until_text("of the last 20ms");
    view.write("\u{3}");
    assert_eq!(view.end(), Some(0));
    assert_eq!(view.text(), "", "what was there before is there again");
}

#[test]
fn whatever_ends_the_view_the_terminal_is_as_before() {
    let place = Place::new();
    for key in ["q", "Q", "xyq", "\u{3}"] {
        let mut view = view(&place, USUAL);
        view.write(key);
        assert_eq!(view.end(), Some(0), "{key:?}");
    }
    for (signal, code) in [
        (Signal::INT, 0),
        (Signal::TERM, 1),
        (Signal::HUP, 1),
        (Signal::QUIT, 1),
    ] {
        let mut view = view(&place, USUAL);
        view.signal(signal);
        assert_eq!(view.end(), Some(code), "{signal:?}");
        assert_eq!(view.text(), "", "{signal:?}");
    }
}

#[test]
fn the_view_ends_with_its_terminal() {
    let place = Place::new();
    let view = view(&place, USUAL);
    assert!(view.close().code().is_some(), "it has ended by itself");
}

#[test]
fn the_view_can_be_suspended() {
    let place = Place::new();
    let mut view = view(&place, USUAL);
    for _ in 0..2 {
        view.write("\u{1a}");
        view.wait_for_stop();
        view.until("the screen from before", |screen| !screen.alternate_screen());
        assert!(view.is_restored());
        view.signal(Signal::CONT);
        view.until("the view", |screen| {
            screen.alternate_screen() && screen.hide_cursor()
        });
        view.until_text("Requests");
    }
    view.write("q");
    assert_eq!(view.end(), Some(0));
}

#[test]
fn a_terminal_of_any_size_will_do() {
    let place = Place::new();
    for (size, text) in [
        ((80, 24), "Log events"),
        ((200, 50), "Log events"),
        ((40, 12), "Active"),
        ((20, 5), "Too small: 36x9"),
        ((1, 1), "T"),
        ((0, 0), "Log events"),
    ] {
        let mut view = Session::start(&metric(&place, &[]), size);
        view.until_text(text);
        assert!(view.screen().hide_cursor(), "{size:?}");
        view.write("q");
        assert_eq!(view.end(), Some(0), "{size:?}");
    }
}

#[test]
fn the_view_follows_the_size_of_the_terminal() {
    let place = Place::new();
    let mut view = view(&place, USUAL);
    let is_head = |screen: &Screen| screen.contents().starts_with(place.server.address());
    view.resize(20, 5);
    view.until("a remark", |screen| {
        screen.contents().starts_with("Too small: 36x9 or\nmore, please")
    });
    view.resize(120, 40);
    view.until("both columns", |screen| {
        let text = screen.contents();
        is_head(screen)
            && text
                .lines()
                .any(|line| line.starts_with("Log events") && line.contains("System"))
    });
    view.resize(1, 1);
    view.until("a letter", |screen| screen.contents() == "T");
    view.resize(40, 40);
    view.until("one column", |screen| {
        is_head(screen) && screen.contents().lines().any(|line| line == "System")
    });
    view.signal(Signal::INT);
    assert_eq!(view.end(), Some(0));
}

#[test]
fn a_server_that_is_away_for_a_while_leaves_its_figures() {
    let place = Place::new();
    // A port that no client is given while the server is away.
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let start = || Daemon::start(place.path(), &["--config=config.yml", "--addr", &address]);
    let server = start();
    let mut view = Session::start(&metric(&place, &["-s", &address]), (160, 24));
    view.until("some requests", |screen| figure(screen, "OK  [2xx]") > Some(9));
    server.stop();
    view.until_text("No answer since ");
    let text = view.text();
    assert!(
        text.lines()
            .any(|line| line.contains(": ") && line.starts_with("No answer since ")),
        "{text}"
    );
    assert!(figure(view.screen(), "OK  [2xx]") > Some(9), "{text}");

    let server = start();
    view.until("the server, that has counted anew", |screen| {
        screen.contents().contains("q quits") && figure(screen, "OK  [2xx]").is_some()
    });
    view.write("q");
    assert_eq!(view.end(), Some(0));
    server.stop();
}

#[test]
fn a_first_failure_is_an_error_and_no_view() {
    let place = Place::new();
    let mut view = Session::start(&metric(&place, &["-s", NOBODY]), USUAL);
    assert_eq!(view.end(), Some(1));
    assert!(
        view.text().starts_with("Error: cannot reach the server"),
        "{}",
        view.text()
    );
}

#[test]
fn the_view_has_colors_unless_they_are_not_wanted() {
    let place = Place::new();
    for (arguments, variables, colored) in [
        (&[][..], &[][..], true),
        (&[], &[("NO_COLOR", "1")], false),
        (&["--color=always"], &[("NO_COLOR", "1")], true),
        (&["--color=never"], &[("CLICOLOR_FORCE", "1")], false),
        (&[], &[("CLICOLOR", "0")], false),
        (
            &["--color=AUTO"],
            &[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")],
            true,
        ),
    ] {
        let mut command = metric(&place, arguments);
        command.envs(variables.iter().copied());
        let mut view = Session::start(&command, USUAL);
        view.until_text("Log events");
        assert_eq!(has_colors(view.screen()), colored, "{arguments:?} {variables:?}");
        view.write("q");
        assert_eq!(view.end(), Some(0));
    }
}

#[test]
fn the_view_needs_no_keyboard() {
    let place = Place::new();
    let mut view = Session::start_with(&metric(&place, &[]), USUAL, false);
    view.until_text("Requests");
    view.signal(Signal::INT);
    assert_eq!(view.end(), Some(0));
}

#[test]
fn a_terminal_that_cannot_redraw_gets_lines() {
    let place = Place::new();
    let mut command = metric(&place, &[]);
    command.env("TERM", "dumb");
    let mut lines = Session::start(&command, (200, 24));
    lines.until_text("{\"kes_http_request_success\":");
    lines.signal(Signal::INT);
    assert_eq!(lines.end(), Some(0));

    let former = ["log", "trace", "--type=metric", "--rate=20ms", "--json"];
    let mut command = crate::kes::command(place.path(), &former);
    command.envs(place.variables());
    let mut lines = Session::start(&command, (200, 24));
    lines.until_text("{\"kes_http_request_success\":");
    lines.write("\u{3}");
    assert_eq!(lines.end(), Some(0));
}
