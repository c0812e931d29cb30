use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use kes_peers::process::{PATIENCE, Server, wait_until};

/// A process that starts a server and ends without dropping it, as tests do whose peer is in a `static`.
#[test]
fn child_with_a_server() {
    let Some(folder) = env::var_os("KES_PEERS_CHILD") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let mut sleep = Command::new("sleep");
    let server = Server::start(
        "sleep",
        sleep.arg("600"),
        &folder.join("out"),
        &folder.join("err"),
    )
    .unwrap();
    fs::write(folder.join("pid"), server.id().to_string()).unwrap();
    std::mem::forget(server);
    if folder.join("abort").exists() {
        std::process::abort();
    }
}

fn ends_with_its_owner(abort: bool) {
    let folder = tempfile::tempdir().unwrap();
    if abort {
        fs::write(folder.path().join("abort"), "").unwrap();
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner::child_with_a_server"])
        .env("KES_PEERS_CHILD", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.success(), !abort);
    let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
    wait_until("the server to end", PATIENCE, || Ok((!runs(&pid)).then_some(()))).unwrap();
}

/// Whether a process runs; one that nobody has waited for yet does not.
fn runs(pid: &str) -> bool {
    let said = Command::new("ps")
        .args(["-o", "stat=", "-p", pid])
        .output()
        .unwrap();
    let state = String::from_utf8_lossy(&said.stdout);
    !state.trim().is_empty() && !state.starts_with('Z')
}

#[test]
fn a_server_that_is_never_dropped_ends_with_the_process() {
    ends_with_its_owner(false);
}

#[test]
fn a_server_ends_when_its_owner_is_killed() {
    ends_with_its_owner(true);
}

#[test]
fn a_dropped_server_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let server = Server::start("sleep", Command::new("sleep").arg("600"), &out, &err).unwrap();
    let pid = server.id().to_string();
    assert!(runs(&pid));
    drop(server);
    assert!(!runs(&pid));
}

#[test]
fn a_server_that_ended_by_itself_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut server = Server::start("true", &mut Command::new("true"), &out, &err).unwrap();
    let error = wait_until("its end", Duration::from_secs(30), || {
        Ok(server.check_alive().err())
    })
    .unwrap();
    assert_eq!(error.to_string(), "true ended by itself: exit status: 0");
}

/// The same with a peer, whose folder must not stay behind either.
#[test]
fn child_with_a_peer() {
    let Some(file) = env::var_os("KES_PEERS_CHILD_PEER") else {
        return;
    };
    let vault = kes_peers::Vault::start().unwrap();
    fs::write(file, vault.endpoint()).unwrap();
    std::mem::forget(vault);
    std::process::abort();
}

#[test]
fn a_peer_of_a_process_that_was_killed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tmp")).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner::child_with_a_peer"])
        .env("KES_PEERS_CHILD_PEER", folder.path().join("endpoint"))
        .env("TMPDIR", folder.path().join("tmp"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    let endpoint = fs::read_to_string(folder.path().join("endpoint")).unwrap();
    let address = endpoint.strip_prefix("http://").unwrap();
    wait_until("Vault to end and its files to go", PATIENCE, || {
        let gone = fs::read_dir(folder.path().join("tmp"))?.next().is_none();
        Ok((gone && TcpStream::connect(address).is_err()).then_some(()))
    })
    .unwrap();
}
