//! `kes store`, and `kes key undelete`, against a server and offline.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon::{Daemon, client};
use crate::kes::{Ran, command, fail, run, succeed};
use crate::server::silent;
use crate::terminal;

const SEAL: &str = "p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6c=\n";
const OTHER_SEAL: &str = "qKioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKg=\n";

/// A folder with what a server with an embedded key store needs, and the admin's API key.
struct Site {
    dir: tempfile::TempDir,
    api_key: String,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        succeed(dir.path(), &["identity", "new", "--ip", "127.0.0.1", "localhost"]);
        let api_key = succeed(dir.path(), &["identity"]);
        let site = Self { dir, api_key };
        site.write_seal("seal.key", SEAL);
        site.write_seal("other.key", OTHER_SEAL);
        site.configure("config.yml", "keys.redb", "{file: seal.key}");
        site
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write_seal(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn configure(&self, name: &str, store: &str, seal: &str) {
        let admin = succeed(self.path(), &["identity", "of", &self.api_key]);
        let text = format!(
            "address: 127.0.0.1:0\nadmin: {{identity: {admin}}}\ntls: {{key: private.key, cert: public.crt}}\n\
             keystore: {{embedded: {{path: {store}, seal: {seal}}}}}\n"
        );
        fs::write(self.path().join(name), text).unwrap();
    }

    fn start(&self, config: &str) -> Daemon {
        Daemon::start(self.path(), &["--config", config])
    }

    /// A run of the program as the admin.
    fn admin(&self, server: &str, line: &str) -> Ran {
        let variables = [
            ("MINIO_KES_SERVER", server),
            ("MINIO_KES_API_KEY", &self.api_key),
            ("SSL_CERT_FILE", "public.crt"),
        ];
        client(self.path(), &variables, line)
    }

    /// The same, which prints JSON.
    #[track_caller]
    fn admin_json(&self, server: &str, line: &str) -> Value {
        json(&self.admin(server, line))
    }

    fn offline(&self, line: &str) -> Ran {
        run(self.path(), &line.split(' ').collect::<Vec<_>>())
    }

    #[track_caller]
    fn offline_json(&self, line: &str) -> Value {
        json(&self.offline(line))
    }

    fn fail(&self, line: &str) -> String {
        fail(self.path(), &line.split(' ').collect::<Vec<_>>())
    }

    /// The names in the folder, without what this site began with.
    fn names(&self) -> Vec<String> {
        let known = [
            "config.yml",
            "other.key",
            "private.key",
            "public.crt",
            "seal.key",
            "keys.redb",
        ];
        let names = self.path().read_dir().unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !known.contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The value of a label in a description.
#[track_caller]
fn value<'a>(ran: &'a Ran, label: &str) -> &'a str {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let line = ran
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{label:<12}")));
    line.unwrap_or_else(|| panic!("{label}: {ran:?}"))
}

#[test]
fn a_backup_is_verified_and_restored_to_the_same_store() {
    let site = Site::new();
    let server = site.start("config.yml");
    let at = server.address();
    silent(&site.admin(at, "key create a b c gone"));
    silent(&site.admin(at, "key rm gone"));
    let dek = site.admin_json(at, "key dek b");

    let before = site.admin_json(at, "store info --json");
    assert_eq!(before["type"], "embedded");
    assert_eq!((&before["keys"], &before["deleted_keys"]), (&3.into(), &1.into()));
    assert_eq!(before.get("last_backup"), None);
    assert_eq!(value(&site.admin(at, "store info"), "Backup"), "never");

    let backup = site.admin(at, "store backup out.backup");
    assert_eq!((value(&backup, "Keys"), value(&backup, "Deleted")), ("3", "1"));
    assert_eq!(value(&backup, "Id"), before["id"].as_str().unwrap());
    let file = site.path().join("out.backup");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(site.names(), ["out.backup"]);

    let after = site.admin(at, "store info");
    assert_eq!(value(&after, "Path"), "keys.redb");
    assert!(value(&after, "Backup").starts_with("20"), "{after:?}");
    assert!(value(&after, "Seal").starts_with("key ") && after.stdout.contains("(file seal.key)"));
    assert_eq!(value(&after, "Deleted"), "1 (kept for 7 days)");

    // An existing file stays, unless it is to be replaced.
    silent(&site.admin(at, "key create d"));
    let bytes = fs::read(&file).unwrap();
    let refused = site.admin(at, "store backup out.backup");
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (
            Some(1),
            "Error: out.backup exists already: use --force to replace it\n"
        )
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let replaced = site.admin_json(at, "store backup out.backup --force --json");
    assert_eq!(
        (&replaced["keys"], &replaced["path"]),
        (&4.into(), &"out.backup".into())
    );
    assert_eq!(replaced["size"], file.metadata().unwrap().len());

    for seal in [
        "--config config.yml",
        "--seal seal.key",
        "--seal other.key --seal seal.key",
    ] {
        let verified = site.offline_json(&format!("store verify out.backup --json {seal}"));
        assert_eq!(verified["digest"], replaced["digest"]);
        assert_eq!(
            (&verified["keys"], &verified["deleted_keys"]),
            (&4.into(), &1.into())
        );
    }
    let wrong = site.fail("store verify out.backup --seal other.key");
    assert!(wrong.contains("other.key"), "{wrong}");

    // Never in the place of a store, and never that of a server that runs.
    assert!(
        site.fail("store restore out.backup --config config.yml")
            .contains("exists")
    );
    assert!(
        site.fail("store verify keys.redb --config config.yml")
            .contains("in use")
    );
    server.stop();
    let closed = site.offline("store verify keys.redb --config config.yml");
    assert_eq!(value(&closed, "Digest"), replaced["digest"].as_str().unwrap());

    site.configure("restored.yml", "restored.redb", "{file: seal.key}");
    let restored = site.offline("store restore out.backup --config restored.yml");
    assert_eq!(value(&restored, "Path"), "restored.redb");
    assert_eq!(value(&restored, "Digest"), replaced["digest"].as_str().unwrap());
    let server = site.start("restored.yml");
    let at = server.address();
    assert_eq!(site.admin(at, "ls").stdout, "Key\na\nb\nc\nd\n");
    let ciphertext = dek["ciphertext"].as_str().unwrap();
    let opened = site.admin_json(at, &format!("key decrypt b {ciphertext}"));
    assert_eq!(opened["plaintext"], dek["plaintext"]);
    silent(&site.admin(at, "key undelete gone"));
    server.stop();
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let site = Site::new();
    let server = site.start("config.yml");
    silent(&site.admin(server.address(), "key create a b c"));
    site.admin_json(server.address(), "store backup good --json");
    server.stop();
    let good = fs::read(site.path().join("good")).unwrap();
    site.configure("restored.yml", "restored.redb", "{file: seal.key}");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (what, bytes) in [
        ("cut", &good[..good.len() - 1]),
        ("empty", &[][..]),
        ("flipped", &flipped),
        ("text", b"this is no backup\n"),
    ] {
        fs::write(site.path().join(what), bytes).unwrap();
        for line in [
            format!("store verify {what} --config config.yml"),
            format!("store restore {what} --config restored.yml"),
        ] {
            let error = site.fail(&line);
            assert!(error.contains(what), "{line}: {error}");
        }
        fs::remove_file(site.path().join(what)).unwrap();
    }
    assert_eq!(site.names(), ["good", "restored.yml"]);
}

#[test]
fn a_deleted_key_comes_back_and_what_cannot_stops_the_rest() {
    let site = Site::new();
    let server = site.start("config.yml");
    let at = server.address();
    silent(&site.admin(at, "key create a b c"));
    let dek = site.admin_json(at, "key dek a");
    silent(&site.admin(at, "key rm a b c"));
    assert_eq!(site.admin(at, "ls").stdout, "");
    let taken = site.admin(at, "key create a");
    assert_eq!(
        (taken.code, taken.stderr.as_str()),
        (Some(1), "Error: key already exists\n")
    );

    silent(&site.admin(at, "key undelete a"));
    let ciphertext = dek["ciphertext"].as_str().unwrap();
    let opened = site.admin_json(at, &format!("key decrypt a {ciphertext}"));
    assert_eq!(opened["plaintext"], dek["plaintext"]);

    let half = site.admin(at, "key undelete b never-was c");
    assert_eq!((half.code, half.stdout.as_str()), (Some(1), ""));
    assert_eq!(
        half.stderr,
        "Error: key 'never-was' was not brought back: key does not exist\n"
    );
    assert_eq!(
        site.admin(at, "ls").stdout,
        "Key\na\nb\n",
        "in order, up to the first failure"
    );
    let there = site.admin(at, "key undelete a");
    assert_eq!(there.code, Some(1), "{there:?}");
    server.stop();
}

#[test]
fn a_store_is_resealed_offline() {
    let site = Site::new();
    let server = site.start("config.yml");
    silent(&site.admin(server.address(), "key create a b"));
    let busy = site.fail("store reseal --config config.yml");
    assert!(busy.contains("in use") && busy.contains("SIGHUP"), "{busy}");
    server.stop();
    let digest = site.offline_json("store verify keys.redb --seal seal.key --json")["digest"].clone();

    let same = site.offline_json("store reseal --config config.yml --json");
    assert_eq!(same["seals"].as_array().unwrap().len(), 1);
    assert_eq!(same["seals"][0]["source"], "file seal.key");

    // The new one alone does not open it.
    site.configure("new.yml", "keys.redb", "{file: other.key}");
    assert!(site.fail("store reseal --config new.yml").contains("other.key"));
    site.configure("both.yml", "keys.redb", "[{file: other.key}, {file: seal.key}]");
    let both = site.offline("store reseal --config both.yml");
    assert!(
        value(&both, "Seal").contains("key") && both.stdout.matches("(file ").count() == 2,
        "{both:?}"
    );
    let new = site.offline_json("store reseal --config new.yml --json");
    assert_eq!(new["seals"].as_array().unwrap().len(), 1);
    assert_eq!(new["seals"][0]["source"], "file other.key");

    let wrong = site.fail("store verify keys.redb --seal seal.key");
    assert!(wrong.contains("seal.key"), "{wrong}");
    let verified = site.offline_json("store verify keys.redb --seal other.key --json");
    assert_eq!(verified["digest"], digest, "the keys are the same");
}

#[test]
fn other_key_stores_have_nothing_of_this() {
    let site = Site::new();
    let fs = fs::read_to_string(site.path().join("config.yml")).unwrap();
    let (before, _) = fs.split_once("keystore:").unwrap();
    fs::write(
        site.path().join("fs.yml"),
        format!("{before}keystore: {{fs: {{path: keys}}}}\n"),
    )
    .unwrap();
    let server = site.start("fs.yml");
    for line in ["store info", "store backup out", "key undelete a"] {
        let ran = site.admin(server.address(), line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("key store"), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    assert!(!site.path().join("out").exists());
    server.stop();
    for line in ["store reseal --config fs.yml", "store restore a --config fs.yml"] {
        assert!(site.fail(line).contains("keystore.fs"));
    }
}

/// Passes connections on to `target`, and cuts each when so many bytes have come back.
fn cut_after(target: String, limit: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
            });
            let mut back = &client;
            let _ = std::io::copy(&mut (&server).take(limit), &mut back);
            let _ = back.flush();
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    });
    address
}

#[test]
fn a_backup_that_breaks_off_leaves_nothing() {
    let site = Site::new();
    let server = site.start("config.yml");
    let keys: Vec<_> = (0..300).map(|number| format!("key-{number}")).collect();
    silent(&site.admin(server.address(), &format!("key create {}", keys.join(" "))));
    let whole = site.admin_json(server.address(), "store backup whole --json");
    let size = whole["size"].as_u64().unwrap();
    assert!(size > 30_000, "{size}");

    // The handshake takes a few kilobytes.
    for limit in [8_000, size / 2, size] {
        let cut = cut_after(server.address().to_owned(), limit);
        let ran = site.admin(&cut, "store backup out");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{limit}: {ran:?}");
        assert!(ran.stderr.starts_with("Error: "), "{ran:?}");
        assert_eq!(site.names(), ["whole"]);
    }
    server.stop();
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    let site = Site::new();
    // Takes connections and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut started = command(site.path(), &["store", "backup", "out", "-k"]);
        started
            .env("MINIO_KES_API_KEY", &site.api_key)
            .env("MINIO_KES_SERVER", mute.local_addr().unwrap().to_string());
        let child = started
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut connection, _) = mute.accept().unwrap();
        connection.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(site.names().len(), 1, "it is on its way");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stdout, output.stderr),
            (Some(1), vec![], vec![])
        );
        assert_eq!(site.names(), [""; 0]);
    }
}

#[test]
fn a_terminal_sees_how_far_a_verification_is() {
    let site = Site::new();
    let server = site.start("config.yml");
    silent(&site.admin(server.address(), "key create a b c"));
    site.admin_json(server.address(), "store backup out --json");
    server.stop();
    let (terminal, side) = terminal::open();
    let mut verify = command(
        site.path(),
        &["store", "verify", "out", "--seal=seal.key", "--json"],
    );
    verify
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(side);
    assert!(verify.status().unwrap().success());
    drop(verify);
    let shown = terminal.read_to_end();
    assert!(shown.contains("3 keys"), "{shown:?}");
}
