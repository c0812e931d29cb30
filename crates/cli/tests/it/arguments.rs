//! Exit codes and streams.

use std::path::Path;
use std::process::Stdio;

use crate::kes::{command, fail, run};

fn here() -> &'static Path {
    Path::new("/")
}

#[test]
fn help_that_was_asked_for_is_a_result() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["key", "--help"],
        &["ls", "-h"],
        &["identity", "new", "-help"],
    ] {
        let ran = run(here(), arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.stdout.contains("Usage: kes"), "{ran:?}");
    }
}

#[test]
fn a_group_without_a_command_is_told_its_help() {
    for arguments in [&[][..], &["key"], &["tool"], &["tool", "identity"]] {
        let ran = run(here(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.stderr.contains("Usage: kes"), "{ran:?}");
    }
}

#[test]
fn a_client_command_needs_credentials() {
    assert!(fail(here(), &["ls"]).contains("MINIO_KES_API_KEY"));
    assert!(fail(here(), &["key", "create", "a"]).contains("MINIO_KES_API_KEY"));
}

#[test]
fn an_api_key_that_is_none_is_not_repeated() {
    let error = fail(here(), &["ls", "--api-key", "kes:v1:c2VjcmV0"]);
    assert!(!error.contains("c2VjcmV0"), "{error}");
}

#[test]
fn a_server_that_does_not_listen_is_an_error_on_one_line() {
    let key = "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq";
    // Port 1 of this machine: nothing listens there.
    let error = fail(here(), &["status", "--api-key", key, "--server", "127.0.0.1:1"]);
    assert!(
        error.starts_with("cannot reach the server at 127.0.0.1:1: "),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn the_words_of_a_deprecated_command_go_to_stderr() {
    let ran = run(
        here(),
        &[
            "tool",
            "identity",
            "of",
            "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq",
        ],
    );
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stdout,
        "7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7"
    );
    assert_eq!(
        ran.stderr,
        "deprecated: kes tool identity of: use kes identity of\n"
    );
}

#[test]
fn nobody_reading_the_output_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(here(), &["--help"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
