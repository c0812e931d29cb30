//! `kes server`, and the client commands against it.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::daemon::{Daemon, Manager, client};
use crate::kes::{Ran, command, fail, run, succeed};

const CONFIG: &str = "\
address: 127.0.0.1:0
admin:
  identity: disabled
tls:
  key: private.key
  cert: public.crt
policy:
  my-app:
    allow:
    - /v1/key/create/my-key*
    - /v1/key/generate/my-key*
    - /v1/key/decrypt/my-key*
    identities:
    - IDENTITY
keystore:
  fs:
    path: keys
";

/// A directory as in the "AWS Secrets Manager" tutorial, with a folder in place of that service: a server's certificate, a
/// client's, and a configuration that knows the client.
pub(crate) fn tutorial() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // For longer than there, since the server says of one that ends within thirty days that it does.
    let new = ["identity", "new", "--ip=127.0.0.1", "--expiry=8760h", "localhost"];
    succeed(dir.path(), &new);
    succeed(
        dir.path(),
        &[
            "identity",
            "new",
            "--key=client.key",
            "--cert=client.crt",
            "MyApp",
        ],
    );
    let identity = succeed(dir.path(), &["identity", "of", "client.crt"]);
    fs::write(
        dir.path().join("config.yml"),
        CONFIG.replace("IDENTITY", &identity),
    )
    .unwrap();
    dir
}

/// A run of the program as the client of the tutorial.
fn as_my_app(dir: &Path, server: &Daemon, line: &str) -> Ran {
    let server = format!("https://{}", server.address());
    let variables = [
        ("KES_SERVER", server.as_str()),
        ("KES_CLIENT_CERT", "client.crt"),
        ("KES_CLIENT_KEY", "client.key"),
        ("SSL_CERT_FILE", "public.crt"),
    ];
    client(dir, &variables, line)
}

pub(crate) fn silent(ran: &Ran) {
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn the_tutorial_works_line_by_line() {
    let dir = tutorial();
    let dir = dir.path();
    let server = Daemon::start(dir, &["--config", "config.yml", "--auth", "off"]);
    let notes = server.stderr_until("deprecated");
    assert_eq!(
        notes,
        ["deprecated: kes server --auth: use tls.auth in the configuration file"]
    );
    assert_eq!(server.value("KMS"), "Filesystem: keys");
    assert_eq!(
        (server.value("Admin"), server.value("Auth")),
        ("<disabled>", "off")
    );

    silent(&as_my_app(dir, &server, "key create my-key-1"));
    let data_key = as_my_app(dir, &server, "key dek my-key-1");
    let data_key: serde_json::Value = serde_json::from_str(&data_key.stdout).unwrap();
    let ciphertext = data_key["ciphertext"].as_str().unwrap();
    let opened = as_my_app(dir, &server, &format!("key decrypt my-key-1 {ciphertext}"));
    assert_eq!(
        opened.stdout,
        format!(
            "{{\"plaintext\":\"{}\"}}",
            data_key["plaintext"].as_str().unwrap()
        )
    );

    let refused = as_my_app(dir, &server, "key create other-key");
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "Error: not authorized: insufficient permissions (prohibited by policy)\n"
    );
    server.stop();
    assert!(dir.join("keys/my-key-1").exists());
}

/// The 2020 guide's server, whose certificate is a CA's and names no host, with the options that its command line has.
#[test]
fn options_of_2020_override_the_file() {
    let dir = tutorial();
    let dir = dir.path();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "localhost");
    fs::write(dir.join("kes-tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("kes-tls.key"), key.serialize_pem()).unwrap();
    let config = fs::read_to_string(dir.join("config.yml"))
        .unwrap()
        .replace("disabled", &"ab".repeat(32));
    fs::write(
        dir.join("config.yml"),
        config.replace("  key: private.key\n", "  key: nowhere\n"),
    )
    .unwrap();

    let server = Daemon::start(
        dir,
        &[
            "-config=config.yml",
            "--root=disabled",
            "--mtls-auth=ignore",
            "--tls-key=kes-tls.key",
            "--tls-cert=kes-tls.crt",
        ],
    );
    assert_eq!(
        (server.value("Admin"), server.value("Auth")),
        ("<disabled>", "off")
    );
    let variables = [
        ("KES_SERVER", server.address()),
        ("KES_CLIENT_TLS_KEY_FILE", "client.key"),
        ("KES_CLIENT_TLS_CERT_FILE", "client.crt"),
        ("MINIO_KMS_KES_CAPATH", "kes-tls.crt"),
    ];
    silent(&client(dir, &variables, "key create my-key-1"));
    silent(&client(dir, &variables[..3], "key create my-key-2 -k"));
    assert_eq!(client(dir, &variables[..3], "key create my-key-3").code, Some(1));
}

#[test]
fn an_option_without_its_value_leaves_the_file_alone() {
    let dir = tutorial();
    let config = fs::read_to_string(dir.path().join("config.yml")).unwrap();
    fs::write(
        dir.path().join("config.yml"),
        config.replace("tls:\n", "tls:\n  auth: on\n"),
    )
    .unwrap();
    // What a container is started with, also with variables that are meant for clients.
    let mut started = command(dir.path(), &["server", "--auth", "--config=config.yml"]);
    started
        .env("KES_SERVER", "https://127.0.0.1:7373")
        .env("KES_CLIENT_KEY", "x")
        .env("KES_CLIENT_CERT", "y");
    let mut server = Daemon::spawn(started);
    server.banner = server.stdout_until("=> ");
    assert_eq!(server.value("Auth"), "on");
    server.stop();
}

#[test]
fn a_reload_changes_policies_and_keeps_what_works() {
    let dir = tutorial();
    let dir = dir.path();
    let manager = Manager::new(dir);
    let mut started = command(dir, &["server", "--config", "config.yml"]);
    started.env("NOTIFY_SOCKET", dir.join("notify"));
    let mut server = Daemon::spawn(started);
    server.banner = server.stdout_until("=> ");
    assert_eq!(manager.next(), "READY=1\n");
    silent(&as_my_app(dir, &server, "key create my-key-1"));
    assert_eq!(as_my_app(dir, &server, "key create other-key").code, Some(1));

    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    fs::write(
        dir.join("config.yml"),
        config.replace("create/my-key*", "create/*") + "keys:\n- name: declared\n",
    )
    .unwrap();
    server.signal(Signal::HUP);
    assert!(manager.next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.next(), "READY=1\n");
    server.stdout_until("=> Server has reloaded");
    silent(&as_my_app(dir, &server, "key create other-key"));
    assert!(dir.join("keys/declared").exists());

    // From here on nothing changes, whatever is wrong.
    for broken in [
        "tls: [".to_owned(),
        config.replace("private.key", "no-such-file"),
        config.replace("path: keys", "path: /dev/null"),
    ] {
        fs::write(dir.join("config.yml"), broken).unwrap();
        server.signal(Signal::HUP);
        let line = server.stderr_until("cannot reload").pop().unwrap();
        assert!(line.contains("level=ERROR"), "{line}");
        assert!(manager.next().starts_with("RELOADING=1\n"));
        assert_eq!(manager.next(), "READY=1\n");
    }
    silent(&as_my_app(dir, &server, "key create other-key-2"));

    // Another store: its keys are other keys.
    fs::write(
        dir.join("config.yml"),
        config.replace("path: keys", "path: keys-2"),
    )
    .unwrap();
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
    silent(&as_my_app(dir, &server, "key create my-key-1"));
    assert!(dir.join("keys-2/my-key-1").exists());

    server.signal(Signal::INT);
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(
        std::iter::repeat_with(|| manager.next())
            .take(4)
            .any(|state| state == "STOPPING=1\n")
    );
}

#[test]
fn a_policy_can_be_changed_while_the_key_store_is_away() {
    let dir = tutorial();
    let dir = dir.path();
    let config = fs::read_to_string(dir.join("config.yml")).unwrap() + "keys:\n- name: my-key-1\n";
    fs::write(dir.join("config.yml"), &config).unwrap();
    let server = Daemon::start(dir, &["--config", "config.yml"]);
    fs::rename(dir.join("keys"), dir.join("away")).unwrap();

    let locked_out = config.replace("/v1/key/create/my-key*", "/v1/status");
    fs::write(dir.join("config.yml"), &locked_out).unwrap();
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
    let refused = as_my_app(dir, &server, "key create my-key-2");
    assert!(refused.stderr.contains("prohibited by policy"), "{refused:?}");

    // A key that is new must be created.
    fs::write(dir.join("config.yml"), locked_out.clone() + "- name: my-key-3\n").unwrap();
    server.signal(Signal::HUP);
    let line = server.stderr_until("cannot reload").pop().unwrap();
    assert!(line.contains("my-key-3"), "{line}");
    fs::rename(dir.join("away"), dir.join("keys")).unwrap();
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
    assert!(dir.join("keys/my-key-3").exists());

    // Another store has none of them.
    fs::write(
        dir.join("config.yml"),
        config.replace("path: keys", "path: keys-2"),
    )
    .unwrap();
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
    assert!(dir.join("keys-2/my-key-1").exists());
    server.stop();
}

#[test]
fn a_service_manager_hears_that_the_server_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    let mut started = command(dir.path(), &["server", "--dev", "--addr=127.0.0.1:0", "-q"]);
    started
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "20000");
    let server = Daemon::spawn(started);
    assert_eq!(manager.next(), "READY=1\n");
    while manager.next_of_all() != "WATCHDOG=1\n" {}
    server.signal(Signal::TERM);
    let (status, printed) = server.wait();
    assert_eq!(
        (status.code(), printed),
        (Some(0), vec!["=> Server has stopped".to_owned()]),
        "no banner if quiet"
    );
}

#[test]
fn nothing_is_printed_before_the_server_listens() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = fail(dir.path(), &["server", "--dev", "--addr", &address]);
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
}

#[test]
fn a_server_without_a_configuration_keeps_keys_in_memory() {
    let dir = tutorial();
    let dir = dir.path();
    let identity = succeed(dir, &["identity", "of", "client.crt"]);
    let line = [
        "--addr=127.0.0.1:0",
        "--cert",
        "public.crt",
        "--key",
        "private.key",
        "--root",
        &identity,
    ];
    let server = Daemon::start(dir, &line);
    assert!(server.stderr_until("LOST").len() <= 2);
    assert_eq!(
        (server.value("KMS"), server.value("Admin")),
        ("In Memory", identity.as_str())
    );
    silent(&as_my_app(dir, &server, "key create anything"));

    for missing in [
        &["--root", &identity][..],
        &["--cert", "public.crt", "--key", "private.key"],
    ] {
        let line: Vec<_> = ["server"].iter().chain(missing).copied().collect();
        let ran = run(dir, &line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{missing:?}");
        assert!(
            ran.stderr.contains("name a folder, or use --config FILE"),
            "{ran:?}"
        );
    }
}

#[test]
fn a_configuration_is_checked_without_a_start() {
    let dir = tutorial();
    let dir = dir.path();
    assert_eq!(
        succeed(dir, &["server", "--check", "--config", "config.yml"]),
        "config.yml: the configuration is valid\n"
    );
    assert!(!dir.join("keys").exists(), "nothing is connected");

    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    fs::write(
        dir.join("wrong.yml"),
        config
            .replace("tls:", "tls:\n  auth: maybe")
            .replace("fs:", "fss:"),
    )
    .unwrap();
    let ran = run(dir, &["server", "--check", "--config", "wrong.yml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let (errors, warnings): (Vec<_>, Vec<_>) =
        ran.stderr.lines().partition(|line| line.starts_with("Error: "));
    assert_eq!((errors.len(), warnings.len()), (2, 1), "all at once: {ran:?}");
    assert!(
        errors.iter().all(|line| line.starts_with("Error: wrong.yml:")),
        "{ran:?}"
    );

    fs::write(
        dir.join("missing.yml"),
        config.replace("private.key", "no-such-file"),
    )
    .unwrap();
    assert!(fail(dir, &["server", "--check", "--config", "missing.yml"]).contains("no-such-file"));

    fs::write(dir.join("odd.yml"), config + "surprise: 1\n").unwrap();
    let ran = run(dir, &["server", "--check", "--config", "odd.yml"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("Warning: odd.yml:"), "{ran:?}");
    let ran = run(dir, &["server", "--check", "--strict", "--config", "odd.yml"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn a_check_reads_the_tls_files() {
    let dir = tutorial();
    let dir = dir.path();
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    fs::write(dir.join("garbage.pem"), "garbage").unwrap();
    for (wrong, named) in [
        (
            config.replace("key: private.key", "key: garbage.pem"),
            "garbage.pem",
        ),
        (
            config.replace("cert: public.crt", "cert: garbage.pem"),
            "garbage.pem",
        ),
        (
            config.replace("key: private.key", "key: client.key"),
            "client.key",
        ),
        (
            config.replace("tls:\n", "tls:\n  auth: on\n  ca: garbage.pem\n"),
            "garbage.pem",
        ),
        (
            config.replace("tls:\n", "tls:\n  auth: on\n  ca: no-such-file\n"),
            "no-such-file",
        ),
    ] {
        fs::write(dir.join("wrong.yml"), wrong).unwrap();
        let error = fail(dir, &["server", "--check", "--config", "wrong.yml"]);
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_key_store_that_is_not_built_is_named() {
    let dir = tutorial();
    let config = fs::read_to_string(dir.path().join("config.yml")).unwrap();
    let azure = "  azure:\n    keyvault:\n      endpoint: https://my-instance.vault.azure.net\n";
    fs::write(
        dir.path().join("config.yml"),
        config.replace("  fs:\n    path: keys\n", azure),
    )
    .unwrap();
    let error = fail(dir.path(), &["server", "--config", "config.yml"]);
    assert!(
        error.starts_with("keystore.azure.keyvault is configured, but this build has no such backend yet")
            && error.contains("keystore.vault"),
        "{error}"
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (line, want) in [
        (
            &["server", "--dev", "--config", "x"][..],
            "'--dev' cannot be used with '--config'",
        ),
        (
            &["server", "--dev", "folder"],
            "'--dev' keeps keys in memory, and cannot be used with the folder folder",
        ),
        (
            &["server", "--config", "x", "folder"],
            "'--config' cannot be used with the folder folder",
        ),
        (
            &["server", "--init"],
            "'--init' takes a folder: kes server --init DIR",
        ),
        (&["server", "--init", "--dev"], "'--init' takes a folder"),
        (&["server", "--init", "--config", "x"], "'--init' takes a folder"),
        (
            &["server", "--init", "--check", "folder"],
            "'--check' changes nothing, and cannot be used with '--init'",
        ),
        (&["server", "folder", "other"], "unexpected argument 'other'"),
        (
            &["server", "--init", "folder", "--addr", "localhost:7373"],
            "invalid value 'localhost:7373' for '--addr'",
        ),
        (
            &["server", "--dev", "--addr", "localhost:7373"],
            "invalid value 'localhost:7373' for '--addr'",
        ),
        (
            &["server", "--dev", "--auth=perhaps"],
            "invalid value 'perhaps' for '--auth'",
        ),
        (&["server", "--config", "no-such-file"], "no-such-file"),
    ] {
        let ran = run(dir.path(), line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line:?}");
        assert!(ran.stderr.contains(want), "{line:?}: {ran:?}");
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn whoever_says_nothing_is_told_the_three_ways_to_start() {
    for line in [&["server"][..], &["server", "-q"]] {
        let ran = run(Path::new("/"), line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line:?}");
        for way in [
            "kes server DIR ",
            "kes server --config FILE",
            "kes server --dev",
            "--init DIR",
        ] {
            assert!(ran.stderr.contains(way), "{ran:?}");
        }
    }
}

#[test]
fn memory_is_locked_on_request_or_the_start_fails() {
    const IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    let may_lock = u64::from_str_radix(capabilities, 16).unwrap() >> IPC_LOCK & 1 == 1
        || rustix::process::getrlimit(rustix::process::Resource::Memlock)
            .current
            .is_none();
    let dir = tempfile::tempdir().unwrap();
    let line = ["--dev", "--addr=127.0.0.1:0", "--mlock"];
    if may_lock {
        let server = Daemon::start(dir.path(), &line);
        assert_eq!(server.value("MLock"), "enabled");
        server.stop();
    } else {
        let line: Vec<_> = ["server"].iter().chain(&line).copied().collect();
        assert!(fail(dir.path(), &line).contains("cannot lock memory"));
    }
}
