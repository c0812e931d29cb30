//! `kes server` with the embedded key store: seals, reloads, crashes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::init::{Admin, serve};
use crate::kes::{command, fail, run, succeed};
use crate::server::silent;

/// A folder `kes` that has been set up, and its administrator.
fn set_up(dir: &Path) -> Admin {
    Admin::of(&succeed(dir, &["init", "kes"]))
}

/// Replaces a part of the configuration.
fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("kes/config.yml");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains(from), "no {from:?} in {config}");
    fs::write(&path, config.replace(from, to)).unwrap();
}

/// A fresh seal in `file`.
fn new_seal(dir: &Path, file: &str) {
    succeed(dir, &["init", "scratch"]);
    fs::rename(dir.join("scratch/seal.key"), dir.join(file)).unwrap();
    fs::remove_dir_all(dir.join("scratch")).unwrap();
}

/// The line of the configuration with the seal.
fn seal_line(dir: &Path) -> String {
    format!("      file: \"{}\"", absolute(dir, "kes/seal.key"))
}

fn absolute(dir: &Path, file: &str) -> String {
    fs::canonicalize(dir).unwrap().join(file).display().to_string()
}

fn reload(server: &Daemon) {
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
}

#[test]
fn a_seal_is_replaced_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    new_seal(dir, "kes/new.key");
    let server = serve(dir, "kes");
    silent(&admin.run(dir, &server, "key create my-key"));

    let (old, new) = (absolute(dir, "kes/seal.key"), absolute(dir, "kes/new.key"));
    let both = format!("      - file: \"{new}\"\n      - file: \"{old}\"");
    edit(dir, &seal_line(dir), &both);
    reload(&server);
    let line = server
        .stderr_until("the root key is wrapped by the first seal too")
        .pop()
        .unwrap();
    assert!(line.contains("level=INFO"), "{line}");

    edit(dir, &both, &format!("      - file: \"{new}\""));
    reload(&server);
    server.stderr_until("wrappings by seals that are not listed are gone");
    // A reload that changes nothing has nothing to say.
    reload(&server);
    silent(&admin.run(dir, &server, "key create my-key-2"));
    server.stop();

    let server = serve(dir, "kes");
    for key in ["my-key", "my-key-2"] {
        let info = admin.run(dir, &server, &format!("key info {key}"));
        assert_eq!(info.code, Some(0), "{info:?}");
    }
    server.stop();

    // The old seal is named, and the one that is needed.
    edit(dir, &new, &old);
    let error = fail(dir, &["server", "kes", "--addr=127.0.0.1:0"]);
    assert!(error.contains("seal.key"), "{error}");
    let checks: Vec<_> = error
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() == 16)
        .collect();
    assert_eq!(checks.len(), 2, "the check values of both: {error}");
    assert_ne!(checks.first(), checks.last());
    edit(dir, &old, &new);
    let server = serve(dir, "kes");
    let info = admin.run(dir, &server, "key info my-key");
    assert_eq!(info.code, Some(0), "the wrong seal has changed nothing: {info:?}");
    server.stop();
}

#[test]
fn a_reload_with_a_wrong_seal_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let server = serve(dir, "kes");
    let line = seal_line(dir);
    for (file, content, mode, want) in [
        ("absent.key", None, 0o600, "absent.key"),
        ("short.key", Some("c2hvcnQ="), 0o600, "32"),
        (
            "open.key",
            Some("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"),
            0o644,
            "chmod 600",
        ),
    ] {
        if let Some(content) = content {
            fs::write(dir.join(file), content).unwrap();
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        let wrong = format!("      file: \"{}\"", absolute(dir, file));
        edit(dir, &line, &wrong);
        server.signal(Signal::HUP);
        let said = server.stderr_until("cannot reload").pop().unwrap();
        assert!(said.contains(file) && said.contains(want), "{said}");

        let error = fail(dir, &["server", "--check", "kes"]);
        assert!(error.contains(file) && error.contains(want), "{error}");
        edit(dir, &wrong, &line);
    }
    silent(&admin.run(dir, &server, "key create my-key"));
    reload(&server);
    server.stop();
}

#[test]
fn a_reload_that_fails_takes_no_deleted_keys_away() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let server = serve(dir, "kes");
    silent(&admin.run(dir, &server, "key create my-key"));
    silent(&admin.run(dir, &server, "key rm my-key"));

    // The declared key cannot be created while the file is elsewhere.
    fs::rename(dir.join("kes/keys.redb"), dir.join("kes/elsewhere")).unwrap();
    edit(dir, "undelete: 7d", "undelete: 0s\nkeys:\n  - name: declared");
    server.signal(Signal::HUP);
    let said = server.stderr_until("cannot reload").pop().unwrap();
    assert!(said.contains("cannot create the declared key"), "{said}");
    fs::rename(dir.join("kes/elsewhere"), dir.join("kes/keys.redb")).unwrap();

    let info = admin.run(dir, &server, "store info");
    assert!(info.stdout.contains("1 (kept for 7 days)"), "{info:?}");
    silent(&admin.run(dir, &server, "key undelete my-key"));
    reload(&server);
    let info = admin.run(dir, &server, "store info");
    assert!(!info.stdout.contains("kept for"), "{info:?}");
    server.stop();
}

#[test]
fn a_check_does_not_wait_for_a_seal_that_nobody_writes_into_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    set_up(dir);
    let pipe = dir.join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    edit(
        dir,
        &seal_line(dir),
        &format!("      file: \"{}\"", absolute(dir, "pipe")),
    );
    let error = fail(dir, &["server", "--check", "kes"]);
    assert!(error.contains("pipe is empty"), "{error}");
}

#[test]
fn a_seal_can_be_in_an_environment_variable() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let seal = fs::read_to_string(dir.join("kes/seal.key")).unwrap();
    edit(dir, &seal_line(dir), "      env: KES_SEAL_KEY");
    fs::remove_file(dir.join("kes/seal.key")).unwrap();

    let mut started = command(dir, &["server", "kes", "--addr=127.0.0.1:0"]);
    started.env("KES_SEAL_KEY", seal.trim());
    let mut server = Daemon::spawn(started);
    server.banner = server.stdout_until("=> ");
    silent(&admin.run(dir, &server, "key create my-key"));
    server.stop();

    let error = fail(dir, &["server", "kes"]);
    assert!(
        error.contains("keystore.embedded.seal.env: the environment variable"),
        "{error}"
    );
    let mut started = command(dir, &["server", "--check", "kes"]);
    let ran: crate::kes::Ran = started.env("KES_SEAL_KEY", "c2VjcmV0").output().unwrap().into();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("KES_SEAL_KEY") && !ran.stderr.contains("c2VjcmV0"),
        "{ran:?}"
    );
}

#[test]
fn a_second_server_on_one_file_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let server = serve(dir, "kes");
    let error = fail(dir, &["server", "kes", "--addr=127.0.0.1:0"]);
    assert!(error.contains("keys.redb"), "{error}");
    // A check opens nothing.
    let ran = run(dir, &["server", "--check", "kes"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // Nor can a new configuration be made under a server that runs.
    let ran = run(dir, &["init", "--force", "kes"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    silent(&admin.run(dir, &server, "key create my-key"));
    server.stop();
}

#[test]
fn a_reload_keeps_the_open_file_whatever_it_is_called_and_takes_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let server = serve(dir, "kes");
    silent(&admin.run(dir, &server, "key create my-key"));
    reload(&server);
    std::os::unix::fs::symlink("keys.redb", dir.join("kes/link.redb")).unwrap();
    edit(dir, "kes/keys.redb\"", "kes/link.redb\"");
    edit(dir, "undelete: 7d", "undelete: 0s");
    reload(&server);
    let info = admin.run(dir, &server, "key info my-key");
    assert_eq!(info.code, Some(0), "{info:?}");

    edit(dir, "kes/link.redb\"", "kes/other.redb\"");
    server.signal(Signal::HUP);
    let banner = server.stdout_until("=> Server has reloaded");
    let expected = format!("KMS         Embedded: {}", absolute(dir, "kes/other.redb"));
    assert!(banner.contains(&expected), "{banner:?}");
    silent(&admin.run(dir, &server, "key create my-key"));

    // The first file is free again.
    edit(dir, "kes/other.redb\"", "kes/keys.redb\"");
    reload(&server);
    let again = admin.run(dir, &server, "key create my-key");
    assert!(again.stderr.contains("already exists"), "{again:?}");
    server.stop();
}

#[test]
fn the_administrator_can_have_another_api_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let admin = set_up(dir);
    let server = serve(dir, "kes");
    let key = succeed(dir, &["identity"]);
    let identity = succeed(dir, &["identity", "of", &key]);
    let old = server.value("Admin").to_owned();
    edit(dir, &old, &identity);
    reload(&server);
    let refused = admin.run(dir, &server, "key create my-key");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let capath = absolute(dir, "kes/server.crt");
    let variables = [
        ("KES_SERVER", server.address()),
        ("KES_API_KEY", key.as_str()),
        ("MINIO_KMS_KES_CAPATH", capath.as_str()),
    ];
    silent(&crate::daemon::client(dir, &variables, "key create my-key"));
    server.stop();
}
