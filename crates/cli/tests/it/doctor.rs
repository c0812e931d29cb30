//! `kes doctor`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use kes_peers::process::free_port;
use kes_testkit::{Credentials, TestCa};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, client};
use crate::kes::{command, run, succeed};
use crate::server::tutorial;
use crate::services::{Mount, NOBODY, Region};

/// What was found, without what depends on the machine that the tests run on.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    /// The finding that says this, in this check, and with a remedy unless it is fine.
    fn one(&self, severity: &str, check: &str, part: &str) -> &Value {
        let found = self.findings.iter().find(|finding| {
            finding["severity"] == severity
                && finding["check"] == check
                && finding["what"].as_str().unwrap().contains(part)
        });
        let found = found.unwrap_or_else(|| panic!("no {severity} {check} {part}: {:#?}", self.findings));
        if severity == "error" || severity == "warning" {
            assert!(found["remedy"].is_string(), "{found}");
        }
        found
    }

    /// What is not as it should be.
    fn bad(&self) -> Vec<String> {
        self.findings
            .iter()
            .filter(|finding| finding["severity"] == "error" || finding["severity"] == "warning")
            .map(|finding| format!("{} {}", finding["check"], finding["what"]))
            // A machine may be as slow as it is.
            .filter(|finding| !finding.contains("the key store takes "))
            .collect()
    }
}

fn doctor(folder: &Path, arguments: &[&str]) -> Found {
    doctor_with(folder, &[], arguments)
}

fn doctor_with(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Found {
    let arguments: Vec<_> = ["doctor", "--json"].iter().chain(arguments).copied().collect();
    let mut command = command(folder, &arguments);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "", "{arguments:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings: Vec<_> = report["findings"].as_array().unwrap().clone();
    let of = |severity| {
        findings
            .iter()
            .filter(|finding| finding["severity"] == severity)
            .count()
    };
    let (errors, warnings) = (of("error"), of("warning"));
    assert_eq!(
        (&report["errors"], &report["warnings"]),
        (&errors.into(), &warnings.into())
    );
    let expected = match (errors, warnings) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 1,
    };
    assert_eq!(output.status.code(), Some(expected), "{findings:#?}");
    Found {
        code: output.status.code(),
        findings: findings
            .into_iter()
            .filter(|finding| finding["check"] != "process")
            .collect(),
    }
}

/// Every file and folder with its content and the time of its last change.
fn tree(folder: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let content = if metadata.is_dir() {
            found.extend(tree(&entry.path()));
            Vec::new()
        } else {
            fs::read(entry.path()).unwrap()
        };
        let name = entry.path().display().to_string();
        found.insert(name, (metadata.modified().unwrap(), content));
    }
    found
}

/// A folder that `kes init` has made, with a port of its own.
fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "data", "--addr=127.0.0.1:0"]);
    folder
}

/// Replaces a text in a file.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_folder_of_kes_init_is_fine_and_is_left_as_it_was() {
    let folder = made();
    let before = tree(folder.path());
    let found = doctor(folder.path(), &["data"]);
    assert_eq!(found.bad(), [""; 0]);
    found.one("ok", "configuration", "is valid");
    found.one("ok", "certificate", "belongs to the certificate");
    found.one("ok", "store", "keys can be listed");
    found.one("note", "files", "same folder as the key store");
    assert_eq!(tree(folder.path()), before);

    let ran = run(folder.path(), &["doctor", "data", "--quiet", "--offline"]);
    assert!(!ran.stdout.contains("ok  "), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("data/config.yml: 0 errors, 0 warnings\n") || ran.code == Some(3));
}

#[test]
fn what_is_not_there_yet_is_not_made() {
    let folder = tutorial();
    let before = tree(folder.path());
    let found = doctor(folder.path(), &["--config=config.yml"]);
    found.one("note", "files", "no such folder yet");
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn the_identities_of_the_files_beside_are_compared() {
    let folder = tutorial();
    let found = doctor(folder.path(), &["--config=config.yml", "--offline"]);
    let identity = found.one("ok", "identities", "client.crt");
    assert_eq!(identity["key"], "policy.my-app.identities[0]");
    assert_eq!(identity["line"], 14);
    let key = succeed(folder.path(), &["identity"]);
    let found = doctor(
        folder.path(),
        &["--config=config.yml", "--offline", "--client-cert", &key],
    );
    found.one("warning", "identities", "it may do nothing");
    assert!(!format!("{:?}", found.findings).contains(&key));
    fs::remove_file(folder.path().join("client.crt")).unwrap();
    let found = doctor(folder.path(), &["--config=config.yml", "--offline"]);
    found.one("note", "identities", "no certificate at hand");
    let found = doctor(
        folder.path(),
        &["--config=config.yml", "--offline", "--client-cert=config.yml"],
    );
    found.one("error", "identities", "no certificate and no API key");
}

#[test]
fn certificates_that_clients_refuse_are_found() {
    let folder = tutorial();
    let write = |certificate: &str, key: &str| {
        fs::write(folder.path().join("public.crt"), certificate).unwrap();
        fs::write(folder.path().join("private.key"), key).unwrap();
    };
    let look = || doctor(folder.path(), &["--config=config.yml", "--offline"]);

    let expired = Credentials::expired("server");
    write(&expired.chain_pem(), &expired.key_pem());
    look().one("error", "certificate", "has expired on");

    // What is made for 30 days is fine on its first, and not in its last week.
    succeed(
        folder.path(),
        &[
            "identity",
            "new",
            "--force",
            "--ip=127.0.0.1",
            "--expiry=720h",
            "localhost",
        ],
    );
    look().one("ok", "certificate", "is valid until");

    let other = Credentials::self_signed("other");
    write(&other.chain_pem(), &expired.key_pem());
    look().one("error", "certificate", "does not work with the certificate");

    let (ca, another) = (TestCa::new("one"), TestCa::new("two"));
    let leaf = ca.issue("server");
    let key = leaf.key_pem();
    let leaf_pem = leaf.chain_pem();
    write(&format!("{leaf_pem}{}", another.pem()), &key);
    look().one("error", "certificate", "vouched for by");
    write(&format!("{leaf_pem}{}", ca.pem()), &key);
    look().one("note", "certificate", "ends with the root itself");
    write(&leaf_pem, &key);
    look().one("note", "certificate", "no root that this system trusts");

    for (content, part) in [
        ("", "is not usable"),
        ("no certificate", "is not usable"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "malformed",
        ),
    ] {
        write(content, &key);
        look().one("error", "certificate", part);
    }
    fs::remove_file(folder.path().join("public.crt")).unwrap();
    fs::create_dir(folder.path().join("public.crt")).unwrap();
    look().one("error", "certificate", "cannot be read");
}

#[test]
fn a_certificate_is_good_for_the_names_that_clients_use() {
    let folder = tutorial();
    let found = doctor_with(
        folder.path(),
        &[("KES_SERVER", "https://kes.example:7373")],
        &[
            "--config=config.yml",
            "--offline",
            "--address=localhost",
            "--address=10.0.0.1:7373",
        ],
    );
    found.one("ok", "names", "good for localhost, which --address names");
    found.one("error", "names", "not good for 10.0.0.1");
    let named = found.one(
        "error",
        "names",
        "not good for kes.example, which KES_SERVER names",
    );
    assert!(named["remedy"].as_str().unwrap().contains("--dns kes.example"));
}

#[test]
fn files_that_others_read_or_change_are_found() {
    let folder = tutorial();
    let look = || doctor(folder.path(), &["--config=config.yml", "--offline"]);
    let mode = |name: &str, mode| {
        fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    mode("private.key", 0o644);
    let found = look();
    let key = found.one("error", "files", "can read what is secret (mode 0644)");
    assert_eq!(
        (&key["key"], &key["file"]),
        (&"tls.key".into(), &"private.key".into())
    );
    mode("private.key", 0o640);
    look().one("note", "files", "can read what is secret (mode 0640)");
    mode("private.key", 0o600);
    mode("config.yml", 0o666);
    look().one("error", "files", "can change the file (mode 0666)");
    mode("config.yml", 0o644);
    fs::create_dir(folder.path().join("keys")).unwrap();
    mode("keys", 0o755);
    look().one("warning", "files", "can look into the folder of the keys");
    fs::write(folder.path().join("keys/a"), "secret").unwrap();
    mode("keys/a", 0o644);
    look().one("error", "files", "can read 1 keys");
    mode("keys", 0o700);
    assert_eq!(look().bad(), [""; 0]);
}

#[test]
fn policies_without_an_effect_are_found_with_their_line() {
    let folder = tutorial();
    let path = folder.path().join("config.yml");
    edit(
        &path,
        "    identities:\n",
        "    - /v1/key/create/my-key-1\n    - /v1/key/delete/my-key\n    deny:\n    - /v1/key/delete/*\n    - /v1/key/delete/a\n    identities:\n    - _placeholder\n",
    );
    edit(
        &path,
        "keystore:\n",
        "  nobodys:\n    allow:\n    - '*'\n  empty:\nkeystore:\n",
    );
    let found = doctor(folder.path(), &["--config=config.yml", "--offline"]);
    for (severity, part, line) in [
        (
            "note",
            "'/v1/key/create/my-key-1' adds nothing to '/v1/key/create/my-key*'",
            13,
        ),
        (
            "warning",
            "'/v1/key/delete/my-key' never allows anything: '/v1/key/delete/*' denies",
            14,
        ),
        (
            "note",
            "'/v1/key/delete/a' adds nothing to '/v1/key/delete/*'",
            17,
        ),
        (
            "warning",
            "no certificate can have the identity '_placeholder'",
            19,
        ),
        ("warning", "nobody has the policy 'nobodys'", 21),
        ("note", "'*' allows everything", 23),
        ("warning", "the policy 'empty' allows nothing", 24),
        ("note", "the admin is disabled", 3),
    ] {
        assert_eq!(found.one(severity, "policies", part)["line"], line, "{part}");
    }
    edit(&path, "  identity: disabled", "  identity: disabled # nobody");
    let alone = "admin: {identity: disabled}\ntls: {key: private.key, cert: public.crt}\nkeystore: {fs: {path: keys}}\n";
    fs::write(&path, alone).unwrap();
    let found = doctor(folder.path(), &["--config=config.yml", "--offline"]);
    found.one("warning", "policies", "nobody may do anything");
}

#[test]
fn a_server_that_runs_is_recognised_and_its_certificate_compared() {
    let folder = tutorial();
    let path = folder.path().join("config.yml");
    // A port that nobody else is given once the server is not running.
    edit(
        &path,
        "address: 127.0.0.1:0",
        &format!("address: 127.0.0.1:{}", free_port().unwrap()),
    );
    let server = Daemon::start(folder.path(), &["--config", "config.yml"]);
    let found = doctor(folder.path(), &["--config=config.yml"]);
    found.one("ok", "address", "a KES server of version");
    found.one("ok", "address", "uses the certificate in the file");
    assert_eq!(found.bad(), [""; 0]);
    let found = doctor(
        folder.path(),
        &["--config=config.yml", "--address", server.address()],
    );
    found.one("ok", "names", "which --address names");

    // A configuration of another server, which has not got its certificate.
    succeed(
        folder.path(),
        &[
            "identity",
            "new",
            "--ip=127.0.0.1",
            "--key=other.key",
            "--cert=other.crt",
            "localhost",
        ],
    );
    edit(&path, "cert: public.crt", "cert: other.crt");
    edit(&path, "key: private.key", "key: other.key");
    let found = doctor(folder.path(), &["--config=config.yml"]);
    found.one("warning", "address", "does not use the certificate in the file");
    server.stop();
    let found = doctor(folder.path(), &["--config=config.yml"]);
    found.one("note", "address", "the server is not running");
}

#[test]
fn what_listens_and_is_no_server_is_told_from_one() {
    let folder = tutorial();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the process of the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let path = folder.path().join("config.yml");
    edit(&path, "address: 127.0.0.1:0", &format!("address: {address}"));
    let found = doctor(folder.path(), &["--config=config.yml"]);
    let taken = found.one("error", "address", "no KES server");
    assert_eq!((&taken["key"], &taken["line"]), (&"address".into(), &1.into()));

    edit(&path, &address.to_string(), "192.0.2.1:7373");
    let found = doctor(folder.path(), &["--config=config.yml"]);
    found.one("error", "address", "this machine has no such address");
}

#[test]
fn a_try_leaves_nothing_in_the_key_store() {
    let folder = tutorial();
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::set_permissions(folder.path().join("keys"), Permissions::from_mode(0o700)).unwrap();
    let found = doctor(folder.path(), &["--config=config.yml", "--write"]);
    for part in [
        "a key can be made",
        "the new key can be read",
        "the new key is listed",
        "the new key is deleted",
    ] {
        found.one("ok", "store", part);
    }
    assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 0);

    let region = Region::new();
    let path = folder.path().join("config.yml");
    edit(&path, "keystore:\n  fs:\n    path: keys\n", &region.keystore());
    let found = doctor(folder.path(), &["--config=config.yml", "--write"]);
    found.one("ok", "store", "the new key can be read");
    found.one("ok", "store", "the new key is deleted");
    let (_, listed) = region.call("ListSecrets", &serde_json::json!({}));
    assert_eq!(listed["SecretList"], serde_json::json!([]));
}

#[test]
fn what_vault_does_not_permit_is_found() {
    let folder = tutorial();
    let path = folder.path().join("config.yml");
    let plain = fs::read_to_string(&path).unwrap();
    for version in [1, 2] {
        let mount = Mount::new(version);
        let text = plain.replace("keystore:\n  fs:\n    path: keys\n", &mount.keystore(""));
        fs::write(&path, text).unwrap();
        let found = doctor(folder.path(), &["--config=config.yml", "--write"]);
        for purpose in ["read keys", "create keys", "delete keys", "list keys"] {
            found.one("ok", "store", &format!("Vault permits to {purpose}"));
        }
        found.one("ok", "store", "the new key is deleted");
        assert!(!format!("{:?}", found.findings).contains(&mount.secret));

        // The key of a transit engine, which another policy could be about.
        let transit = mount.keystore(&format!(", transit: {{key: {}}}", mount.name));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&mount.keystore(""), &transit)).unwrap();
        let found = doctor(folder.path(), &["--config=config.yml"]);
        for purpose in [
            "decrypt keys (transit/decrypt/",
            "encrypt new keys (transit/encrypt/",
        ] {
            found.one("ok", "store", &format!("Vault permits to {purpose}"));
        }
        fs::write(&path, text).unwrap();

        mount.permit(&["create", "read"]);
        let found = doctor(folder.path(), &["--config=config.yml"]);
        let missing = found.one("warning", "store", "does not permit to delete keys");
        assert!(
            missing["remedy"]
                .as_str()
                .unwrap()
                .contains("capabilities = [\"delete\"]"),
            "{missing}"
        );
        found.one("warning", "store", "does not permit to list keys");
        // A key that cannot be deleted again is named.
        let found = doctor(folder.path(), &["--config=config.yml", "--write"]);
        let left = found.one("error", "store", "could not be deleted");
        assert!(
            left["what"].as_str().unwrap().contains("the key kes-doctor-"),
            "{left}"
        );
        mount.permit(&["list"]);
        let found = doctor(folder.path(), &["--config=config.yml"]);
        found.one("error", "store", "does not permit to read keys");
    }
}

#[test]
fn a_key_store_that_is_away_is_an_error_with_a_remedy() {
    let folder = tutorial();
    let path = folder.path().join("config.yml");
    edit(
        &path,
        "keystore:\n  fs:\n    path: keys\n",
        &format!(
            "keystore: {{vault: {{endpoint: 'http://{NOBODY}', approle: {{id: an-id, secret: hush-hush}}}}}}\n"
        ),
    );
    let found = doctor(folder.path(), &["--config=config.yml"]);
    let away = found.one("error", "store", "Vault");
    assert_eq!(away["key"], "keystore.vault");
    assert!(!format!("{:?}", found.findings).contains("hush-hush"));
    let found = doctor_with(
        folder.path(),
        &[("HTTPS_PROXY", "http://user:hush@proxy:3128")],
        &["--config=config.yml", "--offline"],
    );
    found.one("ok", "proxies", "HTTPS_PROXY is set");
    assert!(!format!("{:?}", found.findings).contains("hush"));
}

#[test]
fn an_embedded_store_that_its_server_has_open_is_left_alone() {
    let folder = made();
    let _server = Daemon::start(folder.path(), &["data"]);
    let found = doctor(folder.path(), &["data", "--write"]);
    found.one("note", "store", "another process has the key store open");
    assert_eq!(
        found.code.map(|code| code == 1),
        Some(false),
        "{:#?}",
        found.findings
    );
}

#[test]
fn whatever_is_named_as_the_configuration_there_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kes.yml");
    let look = || {
        let found = doctor(folder.path(), &["--config=kes.yml"]);
        found.one("error", "configuration", "").clone()
    };
    assert!(look()["what"].as_str().unwrap().starts_with("cannot be read"));
    for (content, part) in [
        (vec![], "is empty"),
        (vec![0; 100], ""),
        (vec![0xff; 100], "is not UTF-8"),
        (vec![b'#'; 2 << 20], "larger than 1 MiB"),
    ] {
        fs::write(&path, content).unwrap();
        assert!(look()["what"].as_str().unwrap().contains(part));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    // A folder is one of `kes init`, which has a configuration in it.
    assert!(look()["file"].as_str().unwrap().ends_with("config.yml"));
    let ran = run(folder.path(), &["doctor"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("missing argument"), "{ran:?}");
}

#[test]
fn with_strict_a_warning_is_an_error() {
    let folder = tutorial();
    let path = folder.path().join("config.yml");
    edit(&path, "keystore:\n", "unknown: 1\nkeystore:\n");
    let found = doctor(folder.path(), &["--config=config.yml", "--offline"]);
    assert_eq!(found.code, Some(3));
    found.one("warning", "configuration", "is not a known key");
    let found = doctor(folder.path(), &["--config=config.yml", "--offline", "--strict"]);
    assert_eq!(found.code, Some(1));
}

#[test]
fn whoever_gives_up_is_not_kept_and_the_key_of_the_try_goes() {
    let folder = tutorial();
    // Connections to it are taken and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    edit(
        &folder.path().join("config.yml"),
        "keystore:\n  fs:\n    path: keys\n",
        &format!("keystore: {{vault: {{endpoint: 'http://{address}', approle: {{id: a, secret: b}}}}}}\n"),
    );
    let mut doctor = command(folder.path(), &["doctor", "--config=config.yml"]);
    let child = doctor
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    // Once it has connected, it waits, and hears signals.
    let (_stream, _) = silent.accept().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_person_reads_what_it_is_where_and_what_to_do() {
    let folder = tutorial();
    fs::set_permissions(folder.path().join("private.key"), Permissions::from_mode(0o644)).unwrap();
    let ran = client(folder.path(), &[], "doctor --config config.yml --offline");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains(
            "error   files         private.key: tls.key: everybody on this machine can read what is secret (mode 0644)\n                      -> chmod 600 private.key\n"
        ),
        "{}",
        ran.stdout
    );
}
