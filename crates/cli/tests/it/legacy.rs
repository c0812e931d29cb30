//! Spellings of former releases, each with what comes out of it and the line that names the current form, which is printed once, and
//! on the standard error. The commands that follow a log by a former name are in `inspection`, `kes tool migrate` in `migrate`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::daemon::Daemon;
use crate::inspection::Place;
use crate::kes::{Ran, command, run, succeed};
use crate::server::tutorial;

/// What a server is started with, what its banner says then, and what it says about the options.
type ServerOption = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const SERVER_OPTIONS: &[ServerOption] = &[
    (
        "--root=IDENTITY",
        &[("Admin", "IDENTITY")],
        "--root: use admin.identity",
    ),
    (
        "--root disabled",
        &[("Admin", "<disabled>")],
        "--root: use admin.identity",
    ),
    (
        "--root _",
        &[("Admin", "<disabled>")],
        "--root: use admin.identity",
    ),
    // An empty one is none.
    ("--root=", &[("Admin", "ADMIN")], "--root: use admin.identity"),
    ("--mtls-auth verify", &[("Auth", "on")], "--auth: use tls.auth"),
    ("--mtls-auth=ignore", &[("Auth", "off")], "--auth: use tls.auth"),
    ("--auth on", &[("Auth", "on")], "--auth: use tls.auth"),
    ("--auth VERIFY", &[("Auth", "on")], "--auth: use tls.auth"),
    ("--auth=Off", &[("Auth", "off")], "--auth: use tls.auth"),
    ("--auth=ignore", &[("Auth", "off")], "--auth: use tls.auth"),
    // Without a value, the file decides, and the next option is an option.
    (
        "--auth --root=disabled",
        &[("Auth", "on"), ("Admin", "<disabled>")],
        "--root, --auth: use admin.identity, tls.auth",
    ),
    // The files that the configuration names are not there.
    (
        "--key client.key --cert client.crt",
        &[],
        "--key, --cert: use tls.key, tls.cert",
    ),
    (
        "--tls-key client.key --tls-cert=client.crt",
        &[],
        "--key, --cert: use tls.key, tls.cert",
    ),
];

/// Options before those with two dashes were the only ones, and what is said about how they are typed.
const SINGLE_DASHES: &[(&str, &str)] = &[
    (
        "-config=config.yml -addr 127.0.0.1:0",
        "-config, -addr: use --config, --addr",
    ),
    (
        "-config config.yml -quiet",
        "-config, -quiet: use --config, --quiet",
    ),
];

/// A former command, what is now typed in its place, and its name.
const RENAMED: &[(&str, &str, &str)] = &[
    ("key delete a", "key rm b", "kes key delete: use kes key rm"),
    ("key list none*", "key ls none*", "kes key list: use kes key ls"),
    (
        "policy list none*",
        "policy ls none* --json",
        "kes policy list: use kes policy ls",
    ),
    (
        "policy list",
        "policy ls --json",
        "kes policy list: use kes policy ls",
    ),
    (
        "identity list none*",
        "identity ls none*",
        "kes identity list: use kes identity ls",
    ),
    (
        "tool identity of public.crt",
        "identity of public.crt",
        "kes tool identity of: use kes identity of",
    ),
    (
        "tool identity of --hash SHA-256 public.crt",
        "identity of --hash=sha256 public.crt",
        "kes tool identity of: use kes identity of",
    ),
    (
        "tool identity of --hash sha384 public.crt",
        "identity of --hash SHA384 public.crt",
        "kes tool identity of: use kes identity of",
    ),
];

/// Commands of which the server knows nothing any more, and a word of what is to be done instead.
const GONE: &[(&str, &str, &str)] = &[
    ("enclave create tenant", "enclave", "one server per tenant"),
    ("enclave info tenant", "enclave", "one server per tenant"),
    ("enclave rm tenant", "enclave", "one server per tenant"),
    ("secret create name --file secret", "secret", "no replacement"),
    ("secret info name", "secret", "no replacement"),
    ("secret show -p name", "secret", "no replacement"),
    ("secret ls", "secret", "no replacement"),
    ("secret rm name", "secret", "no replacement"),
    ("policy create name file", "policy create", "SIGHUP"),
    ("policy add name file", "policy add", "SIGHUP"),
    ("policy assign name identity", "policy assign", "SIGHUP"),
    ("policy rm name", "policy rm", "SIGHUP"),
    ("policy delete name", "policy delete", "SIGHUP"),
    ("identity assign identity name", "identity assign", "SIGHUP"),
    ("identity rm identity", "identity rm", "SIGHUP"),
    ("identity forget identity", "identity forget", "SIGHUP"),
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// A folder with a server's and a client's certificate, and a configuration that says the opposite of most former options.
fn folder() -> (tempfile::TempDir, String) {
    let dir = tutorial();
    let admin = "ab".repeat(32);
    let path = dir.path().join("config.yml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("identity: disabled", &format!("identity: {admin}"))
        .replace("  cert: public.crt\n", "  cert: public.crt\n  auth: on\n");
    fs::write(&path, text).unwrap();
    (dir, admin)
}

#[test]
fn former_options_of_the_server_are_honoured_and_named() {
    let (dir, admin) = folder();
    let dir = dir.path();
    let other = "cd".repeat(32);
    let text = fs::read_to_string(dir.join("config.yml")).unwrap();
    let text = text
        .replace("private.key", "nowhere")
        .replace("public.crt", "nowhere");
    fs::write(dir.join("without-files.yml"), text).unwrap();
    for (options, banner, note) in SERVER_OPTIONS {
        let options = options.replace("IDENTITY", &other);
        let config = if options.contains("key") {
            "without-files.yml"
        } else {
            "config.yml"
        };
        let line: Vec<_> = ["--config", config].into_iter().chain(words(&options)).collect();
        let server = Daemon::start(dir, &line);
        for (label, value) in *banner {
            let value = value.replace("IDENTITY", &other).replace("ADMIN", &admin);
            assert_eq!(server.value(label), value, "{options}");
        }
        assert_eq!(
            server.stderr_until("deprecated"),
            [format!("deprecated: kes server {note} in the configuration file")],
            "{options}"
        );
        server.stop();
    }
}

#[test]
fn options_with_one_dash_are_long_options() {
    let (dir, _) = folder();
    for (options, note) in SINGLE_DASHES {
        let line: Vec<_> = ["server"].into_iter().chain(words(options)).collect();
        let server = Daemon::spawn(command(dir.path(), &line));
        assert_eq!(
            server.stderr_until("deprecated"),
            [format!("deprecated: {note}")],
            "{options}"
        );
        if options.contains("quiet") {
            // Nothing tells when it listens: that it does is another test's.
            continue;
        }
        server.stdout_until("=> ");
        server.stop();
    }
}

#[test]
fn a_quiet_server_prints_no_banner() {
    let (dir, _) = folder();
    let mut line = command(dir.path(), &["server", "--config=config.yml", "-q"]);
    let manager = crate::daemon::Manager::new(dir.path());
    line.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let server = Daemon::spawn(line);
    while !manager.next().contains("READY=1") {}
    server.signal(rustix::process::Signal::TERM);
    let (status, printed) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(printed.iter().all(|line| line.starts_with("=> ")), "{printed:?}");
}

#[test]
fn a_former_value_that_never_was_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for option in ["--auth=maybe", "--mtls-auth=maybe", "--mtls-auth maybe"] {
        let line: Vec<_> = ["server", "--config=config.yml"]
            .into_iter()
            .chain(words(option))
            .collect();
        let ran = run(dir.path(), &line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{option}");
        assert!(
            ran.stderr.contains("\nError: invalid value 'maybe' for '--auth'")
                && ran.stderr.lines().count() == 2,
            "{ran:?}"
        );
    }
}

#[test]
fn renamed_commands_do_what_their_successors_do() {
    let place = Place::new();
    assert_eq!(place.kes("key create a b").code, Some(0));
    for (former, now, note) in RENAMED {
        let (was, is) = (place.kes(former), place.kes(now));
        assert_eq!(
            (was.code, was.stdout.as_str(), was.stderr),
            (Some(0), is.stdout.as_str(), format!("deprecated: {note}\n")),
            "{former}"
        );
        assert_eq!((is.code, is.stderr.as_str()), (Some(0), ""), "{now}");
    }
    assert_eq!(place.kes("key ls").stdout, "", "both have been deleted");
}

#[test]
fn renamed_commands_print_what_they_did() {
    let place = Place::new();
    assert_eq!(place.kes("key create a").code, Some(0));
    let former = |line: &str, note: &str| {
        let Ran { code, stdout, stderr } = place.kes(line);
        assert_eq!(
            (code, stderr),
            (Some(0), format!("deprecated: {note}\n")),
            "{line}"
        );
        stdout
    };
    let derived = "kes key derive: use kes key dek";
    for line in ["key derive a", "key derive a Y29udGV4dA=="] {
        let data_key: serde_json::Value = serde_json::from_str(&former(line, derived)).unwrap();
        assert!(
            data_key["plaintext"].is_string() && data_key["ciphertext"].is_string(),
            "{line}"
        );
    }
    let listed = "kes key list: use kes key ls";
    for line in ["key list", "key list --json", "key list a*"] {
        assert_eq!(former(line, listed), "{\"name\":\"a\"}\n", "{line}");
    }
    let identities = former("identity list", "kes identity list: use kes identity ls");
    assert!(identities.lines().count() == 2, "{identities}");
    for line in identities.lines() {
        let identity: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(identity["identity"].as_str().map(str::len), Some(64));
    }
    let imported = "kes key create NAME KEY: use kes key import";
    assert_eq!(
        former(
            "key create c AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            imported
        ),
        ""
    );
    assert_eq!(place.kes("key ls").stdout, "Key\na\nc\n");
}

#[test]
fn the_former_name_of_a_new_identity_takes_former_options() {
    for (options, files) in [
        ("--key=a.key --cert=a.cert --time 8760h", ["a.key", "a.cert"]),
        ("-t 8760h", ["private.key", "public.crt"]),
        ("NAME --server --time=1h", ["private.key", "public.crt"]),
        ("NAME -key b.key", ["b.key", "public.crt"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let line: Vec<_> = ["tool", "identity", "new"]
            .into_iter()
            .chain(words(options))
            .collect();
        let ran = run(dir.path(), &line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stdout.contains("  Private key:  ") && ran.stdout.contains("  Identity:     "),
            "{ran:?}"
        );
        assert!(
            files.iter().all(|file| dir.path().join(file).exists()),
            "{options}"
        );
        let notes: Vec<_> = ran.stderr.lines().collect();
        assert!(
            notes.contains(&"deprecated: kes tool identity new: use kes identity new"),
            "{ran:?}"
        );
        assert!(
            notes.len() <= 3 && notes.iter().all(|note| note.starts_with("deprecated: ")),
            "{ran:?}"
        );
        assert_eq!(
            ran.stderr.contains("kes identity new --server: leave it out"),
            options.contains("--server"),
            "{ran:?}"
        );
        // Files are not replaced by mistake by a former name either.
        let again = run(dir.path(), &line);
        assert_eq!(again.code, Some(1), "{again:?}");
        let forced: Vec<_> = line.iter().copied().chain(["-f"]).collect();
        assert_eq!(run(dir.path(), &forced).code, Some(0), "{options}");
    }
}

#[test]
fn a_certificate_still_comes_through_the_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["identity", "new", "--key=a.key", "--cert=a.crt"]);
    let identity = succeed(dir.path(), &["identity", "of", "a.crt"]);
    for line in [&["tool", "identity", "of"][..], &["tool", "identity", "of", "-"]] {
        let mut command = command(dir.path(), line);
        command.stdin(fs::File::open(dir.path().join("a.crt")).unwrap());
        let ran: Ran = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
            .into();
        assert_eq!(
            (ran.code, ran.stdout, ran.stderr.as_str()),
            (
                Some(0),
                identity.clone(),
                "deprecated: kes tool identity of: use kes identity of\n"
            )
        );
    }
}

#[test]
fn what_has_gone_from_the_server_is_said_without_asking_one() {
    for (line, name, instead) in GONE {
        let ran = run(Path::new("/"), &words(line));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}");
        assert!(
            ran.stderr
                .starts_with(&format!("Error: `kes {name}` does not exist any more: ")),
            "{ran:?}"
        );
        assert!(
            ran.stderr.contains(instead) && ran.stderr.lines().count() == 1,
            "{ran:?}"
        );
    }
}

#[test]
fn a_state_of_its_own_is_nothing_that_a_server_has_any_more() {
    for line in ["init --config file folder", "init -config=file -f folder"] {
        let ran = run(Path::new("/"), &words(line));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}");
        assert!(
            ran.stderr
                .contains("Error: `kes init --config` belonged to the servers of 2022 and 2023"),
            "{ran:?}"
        );
    }
}

#[test]
fn updates_were_asked_for_by_an_option() {
    for line in ["-u", "--update"] {
        let ran = run(Path::new("/"), &words(line));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}");
        assert!(
            ran.stderr.starts_with(
                "deprecated: kes --update: use kes update\nError: this program does not update itself"
            ),
            "{ran:?}"
        );
    }
}

#[test]
fn an_enclave_is_accepted_wherever_it_was_and_named_once() {
    let place = Place::new();
    for line in [
        "key create a -e tenant",
        "key ls --enclave=tenant",
        "policy ls -e tenant",
        "identity ls -e tenant",
    ] {
        let ran = place.kes(line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stderr.lines().count() == 1 && ran.stderr.contains("tenant"),
            "{ran:?}"
        );
        let silent = line.replace("tenant", "default").replace("create a", "create b");
        assert_eq!(place.kes(&silent).stderr, "", "{silent}");
    }
}
