//! The client commands against a server.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, client};
use crate::kes::{command, succeed};
use crate::server::{silent, tutorial};

#[test]
fn a_server_that_is_not_trusted_comes_with_a_hint() {
    let dir = tutorial();
    let dir = dir.path();
    let server = Daemon::start(dir, &["--config=config.yml"]);
    let address = server.address();
    let credentials = [
        ("KES_SERVER", address),
        ("KES_CLIENT_CERT", "client.crt"),
        ("KES_CLIENT_KEY", "client.key"),
    ];

    let refused = client(dir, &credentials, "key create my-key-1");
    assert_eq!(refused.code, Some(1));
    for hint in ["cannot trust the server", "MINIO_KMS_KES_CAPATH", "-k"] {
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
    assert_eq!(refused.stderr.lines().count(), 1);

    silent(&client(dir, &credentials, "key create my-key-1 -k"));
    silent(&client(dir, &credentials, "key create -k my-key-2"));
    let trusting = [&credentials[..], &[("MINIO_KMS_KES_CAPATH", "public.crt")]].concat();
    silent(&client(dir, &trusting, "key create my-key-3"));
}

#[test]
fn a_development_server_needs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Daemon::start(dir, &["--dev", "--addr", "127.0.0.1:0"]);
    let api_key = server.value("API Key");
    assert_eq!(server.value("Admin"), succeed(dir, &["identity", "of", api_key]));
    assert_eq!(server.value("KMS"), "In Memory");
    let kes = |line: &str| {
        client(
            dir,
            &[
                ("MINIO_KES_API_KEY", api_key),
                ("MINIO_KES_SERVER", server.address()),
            ],
            line,
        )
    };

    for name in ["a", "b", "c"] {
        silent(&kes(&format!("key create {name} -k")));
    }
    silent(&kes("key create d e -k"));
    let imported = STANDARD.encode([7; 32]);
    silent(&kes(&format!("key import f {imported} -k")));
    let note = kes(&format!("key create g {imported} -k"));
    assert_eq!((note.code, note.stdout.as_str()), (Some(0), ""));
    assert_eq!(
        note.stderr,
        "deprecated: kes key create NAME KEY: use kes key import\n"
    );
    let sealed = kes("key encrypt f message -k").stdout;
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    let opened = kes(&format!(
        "key decrypt g {} -k",
        sealed["ciphertext"].as_str().unwrap()
    ))
    .stdout;
    assert_eq!(
        opened,
        format!("{{\"plaintext\":\"{}\"}}", STANDARD.encode("message"))
    );

    let all = "Key\na\nb\nc\nd\ne\nf\ng\n";
    for line in ["ls -k", "key ls -k", "key ls * -k", "ls --insecure=true"] {
        assert_eq!(kes(line).stdout, all, "{line}");
    }
    let lines = kes("key list -k");
    assert_eq!(lines.stdout.lines().next(), Some(r#"{"name":"a"}"#));
    assert_eq!(lines.stderr, "deprecated: kes key list: use kes key ls\n");
    assert!(kes("key derive a -k").stdout.starts_with("{\"plaintext\":"));
    let lines = kes("identity list -k").stdout;
    assert_eq!(lines, format!("{{\"identity\":\"{}\"}}\n", server.value("Admin")));
    assert_eq!(kes("ls a* -k --json").stdout, "[\"a\"]\n");
    assert_eq!(kes("ls zzz -k --json").stdout, "[]\n");
    assert_eq!(kes("ls zzz -k").stdout, "");
    assert_eq!(
        kes("ls -i -k").stdout,
        format!("Identity\n{}\n", server.value("Admin"))
    );
    assert_eq!(kes("identity ls -k").stdout, kes("ls -ik").stdout);
    assert_eq!(kes("ls -p -k").stdout, "");

    let info: serde_json::Value = serde_json::from_str(&kes("key info a -k --json").stdout).unwrap();
    assert_eq!(
        (info["name"].as_str(), info["created_by"].as_str()),
        (Some("a"), Some(server.value("Admin")))
    );
    assert!(info["algorithm"] == "AES256" || info["algorithm"] == "ChaCha20");
    let info: serde_json::Value = serde_json::from_str(&kes("identity info -k --json").stdout).unwrap();
    assert_eq!(
        (info["identity"].as_str(), info["admin"].as_bool()),
        (Some(server.value("Admin")), Some(true))
    );

    silent(&kes("key rm a b -k"));
    let gone = kes("key rm a -k");
    assert_eq!(
        (gone.code, gone.stderr.as_str()),
        (Some(1), "Error: key does not exist\n")
    );
    let half = kes("key create x c y -k");
    assert_eq!(
        (half.code, half.stderr.as_str()),
        (Some(1), "Error: key 'c' was not created: key already exists\n")
    );
    let half = kes("key rm x a c -k");
    assert_eq!(
        (half.code, half.stderr.as_str()),
        (Some(1), "Error: key 'a' was not deleted: key does not exist\n")
    );
    let again = kes("key create c -k");
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (Some(1), "Error: key already exists\n"),
        "of one key it is known which it was"
    );
    silent(&kes("key create x -k"));
    assert_eq!(
        kes("ls -k").stdout,
        "Key\nc\nd\ne\nf\ng\nx\n",
        "what came before the failure stays"
    );

    assert_eq!(
        kes("status -k --short").stdout,
        format!("● {}\n", server.address())
    );
    let status: serde_json::Value = serde_json::from_str(&kes("status -k --json").stdout).unwrap();
    assert_eq!(status["keystore_unreachable"], false);
    let api: serde_json::Value = serde_json::from_str(&kes("status -k --json --api").stdout).unwrap();
    assert!(api.as_array().unwrap().len() > 20);

    let enclave = kes("key create h -k -e tenant-1");
    assert!(
        enclave.code == Some(0) && enclave.stderr.contains("tenant-1"),
        "{enclave:?}"
    );
    silent(&kes("key create i -k --enclave default"));
    for line in ["ls i -k", "status -k --short", "policy ls -k", "identity ls -k"] {
        let variables = [
            ("KES_API_KEY", api_key),
            ("KES_SERVER", server.address()),
            ("KES_ENCLAVE", "tenant-1"),
        ];
        let ran = client(dir, &variables, line);
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (
                Some(0),
                "Warning: enclaves do not exist any more: 'tenant-1' is ignored\n"
            ),
            "{line}"
        );
    }

    server.signal(Signal::HUP);
    silent(&kes("key create j -k"));
    server.stop();
}

#[test]
fn a_bad_api_key_or_two_kinds_of_credentials_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq";
    let ran = client(
        dir.path(),
        &[("KES_API_KEY", key), ("KES_CLIENT_KEY", "client.key")],
        "ls",
    );
    assert_eq!(
        ran.stderr,
        "Error: KES_API_KEY and KES_CLIENT_KEY are both set: unset one of them\n"
    );
    let ran = client(
        dir.path(),
        &[("KES_CLIENT_KEY", "a"), ("KES_CLIENT_CERT", "b")],
        "ls",
    );
    assert_eq!(
        ran.stderr,
        "Error: cannot read b: No such file or directory (os error 2)\n"
    );
}

/// Answers `CONNECT` for any host with a connection to `target`, and tells which host was asked for.
fn proxy(target: String) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, hosts) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let _ = asked.send(head.split(' ').nth(1).unwrap().to_owned());
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let server = TcpStream::connect(&target).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    (address, hosts)
}

#[test]
fn a_proxy_is_used_for_servers_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let server = Daemon::start(dir.path(), &["--dev", "--addr=127.0.0.1:0"]);
    let (proxy, hosts) = proxy(server.address().to_owned());
    let proxy = format!("http://{proxy}");
    let key = ("MINIO_KES_API_KEY", server.value("API Key"));

    let elsewhere = [
        key,
        ("HTTPS_PROXY", proxy.as_str()),
        ("KES_SERVER", "kes.test:7373"),
    ];
    silent(&client(dir.path(), &elsewhere, "key create a -k"));
    assert_eq!(hosts.recv().unwrap(), "kes.test:7373");

    let here = [
        key,
        ("HTTPS_PROXY", proxy.as_str()),
        ("KES_SERVER", server.address()),
    ];
    assert_eq!(client(dir.path(), &here, "ls -k").stdout, "Key\na\n");
    assert!(hosts.try_recv().is_err(), "this machine needs no proxy");
}

#[test]
fn a_proxy_that_does_not_answer_is_named_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    // Closed at once, and nobody else gets it as long as this one is bound.
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in reserved.incoming() {
            drop(client);
        }
    });
    let proxy = format!("http://user:secret@{address}");
    let key = succeed(dir.path(), &["identity"]);
    let variables = [
        ("KES_API_KEY", key.as_str()),
        ("HTTPS_PROXY", proxy.as_str()),
        ("KES_SERVER", "kes.test:7373"),
    ];
    let ran = client(dir.path(), &variables, "ls");
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(1), 1), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with("Error: cannot reach the server at kes.test:7373: ")
            && ran
                .stderr
                .ends_with(&format!(", through the proxy at {address}\n")),
        "{ran:?}"
    );
}

#[test]
fn an_interrupted_client_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = succeed(dir.path(), &["identity"]);
    for signal in [Signal::INT, Signal::TERM] {
        let mut started = command(dir.path(), &["ls", "-k"]);
        started
            .env("MINIO_KES_API_KEY", &key)
            .env("MINIO_KES_SERVER", silent.local_addr().unwrap().to_string());
        let child = started
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut connection, _) = silent.accept().unwrap();
        // The first bytes of the handshake: from then on it waits.
        connection.read_exact(&mut [0; 5]).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stdout, output.stderr),
            (Some(1), vec![], vec![])
        );
    }
}

#[test]
fn the_standard_output_alone_decides_how_results_look() {
    let dir = tempfile::tempdir().unwrap();
    let server = Daemon::start(dir.path(), &["--dev", "--addr=127.0.0.1:0"]);
    let run = |arguments: &[&str], stdout: Stdio, stderr: Stdio| {
        let mut command = command(dir.path(), arguments);
        command
            .env("MINIO_KES_API_KEY", server.value("API Key"))
            .env("MINIO_KES_SERVER", server.address());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        drop(command);
        let mut printed = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut printed).unwrap();
        }
        assert!(child.wait().unwrap().success(), "{arguments:?}");
        printed
    };
    run(&["key", "create", "a", "-k"], Stdio::null(), Stdio::null());

    // A pipe, with the standard error output on a terminal.
    let (_terminal, side) = crate::terminal::open();
    let piped = run(&["key", "dek", "a", "-k"], Stdio::piped(), side.into());
    assert!(
        piped.starts_with("{\"plaintext\":\"") && !piped.contains('\n'),
        "{piped}"
    );

    // A terminal, with the standard error output in a pipe.
    let (terminal, side) = crate::terminal::open();
    run(&["key", "dek", "a", "-k"], side.into(), Stdio::null());
    let shown = terminal.read_to_end();
    assert!(
        shown.starts_with("{\r\n  plaintext : ") && shown.ends_with("\r\n}\r\n"),
        "{shown:?}"
    );

    let (terminal, side) = crate::terminal::open();
    run(&["key", "ls", "-k"], side.into(), Stdio::null());
    assert_eq!(terminal.read_to_end(), "\u{1b}[4mKey\u{1b}[0m\r\na\r\n");
    let (terminal, side) = crate::terminal::open();
    run(&["key", "ls", "-k", "--color=never"], side.into(), Stdio::null());
    assert_eq!(terminal.read_to_end(), "Key\r\na\r\n");
}
