//! Keys copied between key stores.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kes_testkit::{Fault, FaultProxy, Gate, ProxiedRequest, soon};
use kes_types::is_name;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::Daemon;
use crate::kes::{Ran, command, fail, run, succeed};
use crate::services::{Mount, Region, vault};
use crate::terminal;

/// A folder with the configurations `fs-1.yml`, `fs-2.yml` and `embedded.yml` of key stores that are not there yet. The
/// configurations have nothing else in them.
struct Stores(tempfile::TempDir);

impl Stores {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        for number in [1, 2] {
            write(
                &format!("fs-{number}.yml"),
                &format!("keystore: {{fs: {{path: keys-{number}}}}}\n"),
            );
        }
        write(
            "embedded.yml",
            "keystore: {embedded: {path: keys.redb, seal: {file: seal.key}}}\n",
        );
        write("seal.key", "p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6c=\n");
        fs::set_permissions(dir.path().join("seal.key"), fs::Permissions::from_mode(0o600)).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn keys(&self, number: usize) -> PathBuf {
        self.path().join(format!("keys-{number}"))
    }

    /// Puts a key into the key store `fs-NUMBER.yml`.
    fn put(&self, number: usize, name: &str, value: &[u8]) {
        let folder = self.keys(number);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), value).unwrap();
    }

    fn migrate(&self, line: &str) -> Ran {
        run(self.path(), &words(line))
    }

    /// What is in the key store `fs-NUMBER.yml`.
    fn contents(&self, number: usize) -> Vec<(String, Vec<u8>)> {
        let Ok(folder) = self.keys(number).read_dir() else {
            return Vec::new();
        };
        let mut contents: Vec<_> = folder
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(path).unwrap())
            })
            .collect();
        contents.sort();
        contents
    }
}

fn words(line: &str) -> Vec<&str> {
    ["migrate"].into_iter().chain(line.split_whitespace()).collect()
}

/// A run that succeeded, and printed this.
#[track_caller]
fn printed(ran: &Ran, stdout: &str) {
    assert_eq!(
        (ran.code, ran.stderr.as_str(), ran.stdout.as_str()),
        (Some(0), "", stdout)
    );
}

/// Every key that any release has written.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let releases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crypto/tests/fixtures/releases");
    let mut keys = Vec::new();
    for release in releases.read_dir().unwrap() {
        let Ok(folder) = release.unwrap().path().join("keys").read_dir() else {
            continue;
        };
        for key in folder {
            let key = key.unwrap().path();
            let name = key.file_name().unwrap().to_str().unwrap().to_owned();
            keys.push((name, fs::read(key).unwrap()));
        }
    }
    keys.sort();
    assert!(keys.len() > 50);
    keys
}

#[test]
fn keys_of_every_release_come_out_as_they_went_in() {
    let stores = Stores::new();
    let all = fixtures();
    for (name, value) in &all {
        stores.put(1, name, value);
    }
    let count = all.len();
    assert!(all.iter().all(|(name, _)| is_name(name)));

    let there = stores.migrate("--from fs-1.yml --to embedded.yml --quiet");
    printed(&there, &format!("Copied {count} keys\n"));
    let file = fs::read(stores.path().join("keys.redb")).unwrap();
    for (name, value) in &all {
        assert!(
            !file.windows(value.len()).any(|window| window == value),
            "{name} is in the file as it is"
        );
    }
    let back = stores.migrate("--from embedded.yml --to fs-2.yml --quiet");
    printed(&back, &format!("Copied {count} keys\n"));
    assert_eq!(stores.contents(2), all);
    assert_eq!(stores.contents(1), all, "the source stays");
    for (name, _) in &all {
        let mode = stores.keys(2).join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn keys_go_through_vault_and_aws_and_come_out_as_they_went_in() {
    let stores = Stores::new();
    let (v2, v1, region) = (Mount::new(2), Mount::new(1), Region::new());
    for (file, keystore) in [
        ("vault-2.yml", v2.keystore("")),
        ("vault-1.yml", v1.keystore("")),
        ("aws.yml", region.keystore()),
    ] {
        fs::write(stores.path().join(file), keystore).unwrap();
    }
    let all = fixtures();
    for (name, value) in &all {
        stores.put(1, name, value);
    }
    let count = all.len();
    let route = ["fs-1", "vault-2", "aws", "vault-1", "embedded", "fs-2"];
    for (from, to) in route.iter().zip(&route[1..]) {
        let line = format!("--from {from}.yml --to {to}.yml --quiet");
        printed(&stores.migrate(&line), &format!("Copied {count} keys\n"));
        // The whole way again, and nothing changes.
        printed(
            &stores.migrate(&format!("{line} --merge")),
            &format!("Copied 0 keys; {count} were there already\n"),
        );
    }
    for (name, value) in &all {
        for stored in [v2.get(name), v1.get(name), region.get(name)] {
            assert_eq!(&stored, value, "{name}");
        }
    }
    assert_eq!(stores.contents(2), all);
}

#[test]
fn a_key_of_vault_or_aws_is_replaced_only_by_force() {
    let (mount, region) = (Mount::new(2), Region::new());
    let in_vault: &dyn Fn(&str) -> Vec<u8> = &|name| mount.get(name);
    let in_aws: &dyn Fn(&str) -> Vec<u8> = &|name| region.get(name);
    for (keystore, get) in [(mount.keystore(""), in_vault), (region.keystore(), in_aws)] {
        let stores = Stores::new();
        fs::write(stores.path().join("target.yml"), keystore).unwrap();
        for name in ["a", "b", "c"] {
            stores.put(1, name, name.as_bytes());
        }
        let line = |options: &str| format!("--from fs-1.yml --to target.yml {options}");
        printed(&stores.migrate(&line("-q b")), "Copied 1 key\n");
        stores.put(1, "b", b"another");
        let refused = stores.migrate(&line("-q"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.starts_with("Error: key 'b': "), "{refused:?}");
        let differs = stores.migrate(&line("-q --merge"));
        assert_eq!(
            differs.stderr,
            "Error: key 'b': the target has another key of this name\n"
        );
        assert_eq!(get("b"), b"b");

        printed(
            &stores.migrate(&line("--force --dry-run")),
            "replace b\nWould copy 0 keys, would replace 1; 2 were there already\n",
        );
        assert_eq!(get("b"), b"b");
        printed(
            &stores.migrate(&line("-q --force")),
            "Copied 0 keys, replaced 1; 2 were there already\n",
        );
        assert_eq!(get("b"), b"another");
    }
}

#[test]
fn what_else_is_in_vault_and_aws_is_left_alone() {
    let (mount, region) = (Mount::new(2), Region::new());
    let stores = Stores::new();
    for (file, keystore) in [("vault.yml", mount.keystore("")), ("aws.yml", region.keystore())] {
        fs::write(stores.path().join(file), keystore).unwrap();
    }
    mount.put("key", b"value");
    // Other programs have their own there.
    mount.put("some.thing", b"else");
    let folder = format!("{}/data/folder/key", mount.name);
    vault()
        .root("PUT", &folder, serde_json::json!({"data": {"a": "b"}}))
        .unwrap();
    printed(
        &stores.migrate("--from vault.yml --to aws.yml -q"),
        "Copied 1 key\n",
    );
    region.put("some/thing", b"else");
    printed(
        &stores.migrate("--from aws.yml --to fs-2.yml -q"),
        "Copied 1 key\n",
    );
    assert_eq!(stores.contents(2), [("key".to_owned(), b"value".to_vec())]);

    // One place, whoever asks.
    let token = mount.keystore_by("token: {file: token}", "");
    fs::write(stores.path().join("same.yml"), token).unwrap();
    let error = fail(stores.path(), &words("--from vault.yml --to same.yml"));
    assert!(error.contains("the same key store"), "{error}");
}

#[test]
fn only_the_keys_of_the_pattern_are_copied() {
    let stores = Stores::new();
    for name in ["a-1", "a-2", "a-3", "b-1", "ab"] {
        stores.put(1, name, name.as_bytes());
    }
    let line = |pattern: &str| format!("--from fs-1.yml --to fs-2.yml -q --merge {pattern}");
    printed(&stores.migrate(&line("a-[12]")), "Copied 2 keys\n");
    printed(&stores.migrate(&line("b-1")), "Copied 1 key\n");
    printed(&stores.migrate(&line("?b")), "Copied 1 key\n");
    printed(
        &stores.migrate(&line("*")),
        "Copied 1 key; 4 were there already\n",
    );
    assert_eq!(stores.contents(2), stores.contents(1));
    printed(
        &stores.migrate(&line("x*")),
        "Filesystem: keys-1 has no key that matches 'x*'\n",
    );
    let bad = stores.migrate(&line("a[b"));
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(1), ""));
    assert!(bad.stderr.starts_with("Error: invalid PATTERN: "), "{bad:?}");
}

#[test]
fn a_key_that_is_there_is_an_error_that_names_it() {
    for target in ["fs-2.yml", "embedded.yml"] {
        let stores = Stores::new();
        for name in ["a", "b", "c"] {
            stores.put(1, name, name.as_bytes());
        }
        let line = |options: &str| format!("--from fs-1.yml --to {target} {options}");
        printed(&stores.migrate(&line("-q b")), "Copied 1 key\n");
        // Also the same one.
        let refused = stores.migrate(&line("-q"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.stderr.starts_with("Error: key 'b': ") && refused.stderr.contains("--merge"),
            "{refused:?}"
        );

        assert_eq!(refused.stdout, "Copied 2 keys\n", "what had begun beside it");
        printed(
            &stores.migrate(&line("-q --merge")),
            "Copied 0 keys; 3 were there already\n",
        );
        stores.put(1, "b", b"another");
        stores.put(1, "c", b"yet another");
        let differs = stores.migrate(&line("-q --merge"));
        assert_eq!(differs.code, Some(1));
        for name in ["'b'", "'c'"] {
            assert!(differs.stderr.contains(name), "{differs:?}");
        }
        assert!(
            !differs.stderr.contains("another\n"),
            "no value is shown: {differs:?}"
        );

        printed(
            &stores.migrate(&line("-q --force")),
            "Copied 0 keys, replaced 2; 1 was there already\n",
        );
        printed(
            &stores.migrate(&line("-q --merge")),
            "Copied 0 keys; 3 were there already\n",
        );
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let stores = Stores::new();
    for name in ["a", "b", "c"] {
        stores.put(1, name, name.as_bytes());
    }
    for target in ["embedded.yml", "fs-2.yml"] {
        let ran = stores.migrate(&format!("--from fs-1.yml --to {target} --dry-run"));
        printed(&ran, "copy a\ncopy b\ncopy c\nWould copy 3 keys\n");
    }
    assert!(!stores.path().join("keys.redb").exists() && !stores.keys(2).exists());

    stores.put(2, "a", b"a");
    stores.put(2, "b", b"another");
    let before = stores.contents(2);
    let line = |options: &str| format!("--from fs-1.yml --to fs-2.yml --dry-run {options}");
    printed(
        &stores.migrate(&line("--force")),
        "replace b\ncopy c\nWould copy 1 key, would replace 1; 1 was there already\n",
    );
    let merged = stores.migrate(&line("--merge"));
    assert_eq!(
        (merged.code, merged.stdout.as_str()),
        (Some(1), "copy c\nWould copy 1 key; 1 was there already\n")
    );
    assert_eq!(
        merged.stderr,
        "Error: key 'b': the target has another key of this name\n"
    );
    let refused = stores.migrate(&line(""));
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused
            .stderr
            .lines()
            .filter(|line| line.contains("--merge"))
            .count(),
        2
    );
    assert_eq!(stores.contents(2), before);
}

#[test]
fn a_store_that_is_only_read_stays_as_it_is() {
    let stores = Stores::new();
    for name in ["a", "b"] {
        stores.put(1, name, name.as_bytes());
    }
    let file = stores.path().join("keys.redb");
    let there = stores.migrate("--from fs-1.yml --to embedded.yml -q a");
    printed(&there, "Copied 1 key\n");
    let before = fs::read(&file).unwrap();
    printed(
        &stores.migrate("--from fs-1.yml --to embedded.yml --merge --dry-run"),
        "copy b\nWould copy 1 key; 1 was there already\n",
    );
    assert!(fs::read(&file).unwrap() == before, "the target of a dry run");
    printed(
        &stores.migrate("--from embedded.yml --to fs-2.yml -q"),
        "Copied 1 key\n",
    );
    assert!(fs::read(&file).unwrap() == before, "the source");

    // A configuration of another time would reseal the store, and forget its deleted keys.
    let dir = stores.path();
    let seal = "qKioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKg=\n";
    fs::write(dir.join("other.key"), seal).unwrap();
    fs::set_permissions(dir.join("other.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(
        dir.join("another-time.yml"),
        "keystore: {embedded: {path: keys.redb, undelete: 0s, seal: [{file: other.key}, {file: seal.key}]}}\n",
    )
    .unwrap();
    printed(
        &stores.migrate("--from another-time.yml --to fs-2.yml -q --merge"),
        "Copied 0 keys; 1 was there already\n",
    );
    assert!(
        fs::read(&file).unwrap() == before,
        "whatever the configuration says"
    );
}

#[test]
fn what_no_key_can_be_called_is_listed_at_the_end() {
    let stores = Stores::new();
    for name in ["good", "bad.key", "-bad", &"b".repeat(81), ".hidden"] {
        stores.put(1, name, b"value");
    }
    let ran = stores.migrate("--from fs-1.yml --to embedded.yml -q");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "Copied 1 key\n"));
    let listed: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        listed,
        [
            "Error: '-bad' was not copied: no key can have this name".to_owned(),
            "Error: 'bad.key' was not copied: no key can have this name".to_owned(),
            format!(
                "Error: '{}' was not copied: no key can have this name",
                "b".repeat(81)
            ),
            "Error: 3 keys were not copied".to_owned(),
        ]
    );
    printed(
        &stores.migrate("--from fs-1.yml --to embedded.yml -q --merge good"),
        "Copied 0 keys; 1 was there already\n",
    );
}

#[test]
fn nothing_is_copied_from_nowhere_or_onto_itself() {
    let stores = Stores::new();
    let dir = stores.path();
    for from in ["fs-1.yml", "embedded.yml"] {
        let error = fail(dir, &words(&format!("--from {from} --to fs-2.yml")));
        assert!(error.contains("does not exist"), "{error}");
    }
    assert!(!stores.keys(1).exists() && !stores.keys(2).exists() && !dir.join("keys.redb").exists());

    fs::create_dir(stores.keys(1)).unwrap();
    printed(
        &stores.migrate("--from fs-1.yml --to fs-2.yml"),
        "Filesystem: keys-1 has no keys\n",
    );
    assert!(!stores.keys(2).exists());

    fs::write(dir.join("same.yml"), "keystore: {fs: {path: ./x/../keys-1}}\n").unwrap();
    fs::create_dir(dir.join("x")).unwrap();
    for to in ["fs-1.yml", "./fs-1.yml", "same.yml"] {
        let error = fail(dir, &words(&format!("--from fs-1.yml --to {to}")));
        assert!(error.contains("the same key store"), "{error}");
    }
}

#[test]
fn a_store_that_a_server_has_open_is_said_to_be_in_use() {
    let stores = Stores::new();
    let dir = stores.path();
    stores.put(1, "a", b"value");
    printed(
        &stores.migrate("--from fs-1.yml --to embedded.yml -q"),
        "Copied 1 key\n",
    );
    succeed(dir, &["identity", "new", "--ip", "127.0.0.1"]);
    fs::write(
        dir.join("server.yml"),
        "address: 127.0.0.1:0\nadmin: {identity: disabled}\ntls: {key: private.key, cert: public.crt}\n\
         keystore: {embedded: {path: keys.redb, seal: {file: seal.key}}}\n",
    )
    .unwrap();
    let server = Daemon::start(dir, &["--config=server.yml"]);
    let error = fail(dir, &words("--from embedded.yml --to fs-2.yml"));
    assert!(
        error.contains("in use") && error.contains("kes store backup"),
        "{error}"
    );
    let error = fail(dir, &words("--from fs-1.yml --to embedded.yml"));
    assert!(error.contains("in use") && error.contains("stop it"), "{error}");
    server.stop();
    printed(
        &stores.migrate("--from embedded.yml --to fs-2.yml -q"),
        "Copied 1 key\n",
    );
    assert_eq!(stores.contents(2), stores.contents(1));
}

#[test]
fn a_configuration_is_read_for_its_key_store_alone() {
    let stores = Stores::new();
    let dir = stores.path();
    stores.put(1, "a", b"value");
    fs::write(
        dir.join("partly.yml"),
        "address: nonsense\ntls: {}\npolicy: 7\nkeystore: {fs: {path: keys-2}}\n",
    )
    .unwrap();
    let ran = stores.migrate("--from fs-1.yml --target partly.yml -q");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "Copied 1 key\n"),
        "{ran:?}"
    );

    let error = fail(dir, &words("--from missing.yml --to fs-2.yml"));
    assert!(error.starts_with("missing.yml: cannot be read"), "{error}");
    fs::write(dir.join("none.yml"), "address: 0.0.0.0:7373\n").unwrap();
    assert!(fail(dir, &words("--from fs-1.yml --to none.yml")).contains("keystore"));
    fs::write(
        dir.join("vault.yml"),
        "keystore: {vault: {endpoint: https://127.0.0.1:1, approle: {id: a, secret: very-secret}}}\n",
    )
    .unwrap();
    let error = fail(dir, &words("--from fs-1.yml --to vault.yml"));
    assert!(
        error.starts_with("the target: ")
            && error.contains("https://127.0.0.1:1")
            && !error.contains("very-secret"),
        "{error}"
    );
}

#[test]
fn the_older_spelling_works_with_a_note() {
    let stores = Stores::new();
    stores.put(1, "a", b"value");
    let ran = run(
        stores.path(),
        &["tool", "migrate", "-from", "fs-1.yml", "-to=fs-2.yml", "--quiet"],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Copied 1 key\n"));
    assert_eq!(
        ran.stderr,
        "deprecated: -from, -to: use --from, --to\ndeprecated: kes tool migrate: use kes migrate\n"
    );
}

#[test]
fn a_terminal_shows_a_bar_and_a_pipe_the_result() {
    let stores = Stores::new();
    for number in 0..300 {
        stores.put(1, &format!("key-{number}"), b"value");
    }
    let (terminal, side) = terminal::open();
    let mut migration = command(stores.path(), &words("--from fs-1.yml --to fs-2.yml"));
    let child = migration
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(side)
        .spawn()
        .unwrap();
    drop(migration);
    let shown = terminal.read_to_end();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap().as_str()
        ),
        (Some(0), "Copied 300 keys\n")
    );
    assert!(shown.contains("of 300 keys") && shown.contains('█'), "{shown:?}");
    let gone = shown.rsplit('\r').next().unwrap();
    assert!(!gone.contains("keys"), "the bar is taken away: {shown:?}");

    let (terminal, side) = terminal::open();
    let mut migration = command(
        stores.path(),
        &words("--from fs-1.yml --to fs-2.yml --merge --quiet"),
    );
    migration
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(side);
    assert!(migration.status().unwrap().success());
    drop(migration);
    assert_eq!(terminal.read_to_end(), "", "no bar when it is to be quiet");
}

#[test]
fn an_interrupt_stops_between_keys() {
    const KEYS: usize = 300;
    let stores = Stores::new();
    for number in 0..KEYS {
        stores.put(
            1,
            &format!("key-{number:04}"),
            format!("value {number}").as_bytes(),
        );
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    for signal in [Signal::INT, Signal::TERM] {
        let mount = Mount::new(2);
        let (service, proxy) = (vault().endpoint(), FaultProxy::start(vault().endpoint()));
        let keystore = mount.keystore("").replace(service, &proxy.endpoint());
        fs::write(stores.path().join("target.yml"), keystore).unwrap();
        // In the middle it waits until the signal has been sent.
        let gate = Gate::new();
        let in_the_middle = |request: &ProxiedRequest| request.path().ends_with("/key-0020");
        proxy.once(in_the_middle, Fault::Hold(gate.clone(), Box::new(Fault::Pass)));
        let mut migration = command(stores.path(), &words("--from fs-1.yml --to target.yml"));
        let child = migration
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        runtime.block_on(soon("the middle", gate.reached()));
        kill_process(Pid::from_child(&child), signal).unwrap();
        gate.open();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
        let copied: Vec<_> = mount
            .names()
            .into_iter()
            .map(|name| (name.clone(), mount.get(&name)))
            .collect();
        assert!(copied.len() < KEYS, "it did not wait for the end");
        let last = ran.stdout.lines().last().unwrap();
        assert_eq!(
            last,
            format!("Copied {} keys", copied.len()),
            "nothing else is left there"
        );
        let all = stores.contents(1);
        assert_eq!(
            copied[..],
            all[..copied.len()],
            "those that come first, and whole"
        );
        let rest = stores.migrate("--from fs-1.yml --to target.yml --merge -q");
        assert_eq!(rest.code, Some(0), "{rest:?}");
        assert_eq!(mount.names().len(), KEYS);
    }
}

#[test]
fn nobody_reading_the_output_stops_it_quietly() {
    let stores = Stores::new();
    for number in 0..100 {
        stores.put(1, &format!("key-{number}"), b"value");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut migration = command(stores.path(), &words("--from fs-1.yml --to fs-2.yml --dry-run"));
    let output = migration.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
