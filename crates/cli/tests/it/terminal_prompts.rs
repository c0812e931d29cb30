//! Passwords that are asked for on a terminal.

use rustix::process::Signal;

use crate::inspection::Place;
use crate::kes::command;
use crate::session::Session;

const PASSWORD: &str = "hunter2";

/// A private key `secret.key` with a password, and its certificate `secret.crt`.
fn encrypted(place: &Place) {
    let mut new = new_key(place, (100, 24));
    for prompt in [
        "Enter password for private key: ",
        "Confirm password for private key: ",
    ] {
        answer(&mut new, prompt, &format!("{PASSWORD}\n"));
    }
    assert_eq!(new.end(), Some(0));
    let text = new.text();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    assert_eq!(
        lines[..5],
        [
            "Enter password for private key:",
            "Confirm password for private key:",
            "",
            "  Private key:  secret.key",
            "  Certificate:  secret.crt"
        ],
        "{text}"
    );
    assert!(!text.contains(PASSWORD), "{text}");
}

fn new_key(place: &Place, size: (u16, u16)) -> Session {
    let new = [
        "identity",
        "new",
        "--encrypt",
        "--key=secret.key",
        "--cert=secret.crt",
    ];
    Session::start(&command(place.path(), &new), size)
}

/// A request as the owner of the encrypted key, of whom the server knows nothing.
fn request(place: &Place, size: (u16, u16)) -> Session {
    let mut ls = command(place.path(), &["ls", "-k"]);
    ls.env("MINIO_KES_SERVER", place.server.address())
        .env("KES_CLIENT_KEY", "secret.key")
        .env("KES_CLIENT_CERT", "secret.crt");
    Session::start(&ls, size)
}

/// Waits for `prompt` and until nothing is shown of what is typed, and types.
fn answer(session: &mut Session, prompt: &str, typed: &str) {
    session.until_text(prompt.trim_end());
    session.wait_for_echo(false);
    session.write(typed);
}

#[test]
fn a_password_unlocks_a_private_key_and_is_not_seen() {
    let place = Place::new();
    encrypted(&place);
    let mut ls = request(&place, (160, 24));
    answer(
        &mut ls,
        "Enter password for secret.key: ",
        &format!("{PASSWORD}\n"),
    );
    assert_eq!(ls.end(), Some(1));
    let text = ls.text();
    assert!(
        text.contains("(prohibited by policy)"),
        "the server knows who it is: {text}"
    );
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_wrong_password_is_an_error_that_names_the_file() {
    let place = Place::new();
    encrypted(&place);
    for wrong in ["hunter3", "", "pässwörd"] {
        let mut ls = request(&place, (160, 24));
        answer(&mut ls, "Enter password for secret.key: ", &format!("{wrong}\n"));
        assert_eq!(ls.end(), Some(1), "{wrong:?}");
        let text = ls.text();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            (lines.len(), lines[0]),
            (2, "Enter password for secret.key:"),
            "{text}"
        );
        assert!(lines[1].starts_with("Error: secret.key: "), "{text}");
    }
}

#[test]
fn passwords_that_differ_make_no_files() {
    let place = Place::new();
    let mut new = new_key(&place, (100, 24));
    answer(&mut new, "Enter password for private key: ", "one\n");
    answer(&mut new, "Confirm password for private key: ", "two\n");
    assert_eq!(new.end(), Some(1));
    assert!(
        new.text().contains("Error: the passwords are not the same"),
        "{}",
        new.text()
    );
    assert!(!place.path().join("secret.key").exists());
}

#[test]
fn ctrl_c_at_a_prompt_says_nothing_and_restores_the_terminal() {
    let place = Place::new();
    encrypted(&place);
    let mut ls = request(&place, (100, 24));
    answer(&mut ls, "Enter password for secret.key: ", "half a pass\u{3}");
    assert_eq!(ls.end(), Some(1));
    assert!(!ls.text().contains("Error"), "{}", ls.text());

    std::fs::remove_file(place.path().join("secret.key")).unwrap();
    std::fs::remove_file(place.path().join("secret.crt")).unwrap();
    let mut new = new_key(&place, (100, 24));
    answer(&mut new, "Enter password for private key: ", "one\n");
    answer(&mut new, "Confirm password for private key: ", "\u{3}");
    assert_eq!(new.end(), Some(1));
    assert!(!new.text().contains("Error"), "{}", new.text());
    assert!(!place.path().join("secret.key").exists());
}

#[test]
fn sigterm_at_a_prompt_says_nothing_and_restores_the_terminal() {
    let place = Place::new();
    encrypted(&place);
    let mut ls = request(&place, (100, 24));
    ls.until_text("Enter password for secret.key:");
    ls.wait_for_echo(false);
    ls.signal(Signal::TERM);
    assert_eq!(ls.end(), Some(1));
    assert_eq!(ls.text().trim_end(), "Enter password for secret.key:");
}

#[test]
fn a_prompt_fits_any_terminal() {
    let place = Place::new();
    encrypted(&place);
    for size in [(0, 0), (20, 5), (200, 50)] {
        let mut ls = request(&place, size);
        ls.until("a prompt", |screen| {
            screen.contents().replace('\n', "").contains("secret.key:")
        });
        ls.wait_for_echo(false);
        ls.write(&format!("{PASSWORD}\n"));
        assert_eq!(ls.end(), Some(1), "{size:?}");
        assert!(ls.text().replace('\n', "").contains("policy"), "{}", ls.text());
    }
}
