//! Bad input from outside: files that are none, servers that are none, disks without space, streams that are closed.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kes_testkit::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::kes::{Ran, command, succeed};

const API_KEY: &str = "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq";

/// The one line that a command says that fails, and prints nothing.
fn one_line(ran: &Ran, what: &str) -> String {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{what}: {ran:?}");
    let line = ran
        .stderr
        .strip_prefix("Error: ")
        .and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("{what}: {ran:?}"));
    assert!(!line.contains('\n'), "{what}: {line}");
    line.to_owned()
}

fn with(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = command(directory, arguments);
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap().into()
}

/// The names of what is in `directory`.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = directory
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes one file of each bad kind in `directory`.
fn bad_files(directory: &Path) -> [&'static str; 7] {
    fs::write(directory.join("empty"), "").unwrap();
    fs::write(directory.join("binary"), (0..=255).collect::<Vec<u8>>()).unwrap();
    fs::write(directory.join("text"), "neither this nor that\n").unwrap();
    fs::create_dir(directory.join("folder")).unwrap();
    // Has no blocks on the disk, and more bytes than the memory.
    File::create(directory.join("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    symlink("loop", directory.join("loop")).unwrap();
    ["absent", "empty", "binary", "text", "folder", "huge", "loop"]
}

#[test]
fn a_bad_file_is_named_by_every_command_that_reads_one_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    succeed(dir, &["identity", "new", "--key=client.key", "--cert=client.crt"]);
    succeed(dir, &["init", "data"]);
    fs::remove_file(dir.join("data/keys.redb")).unwrap();
    fs::write(dir.join("fs.yml"), "keystore: {fs: {path: keys}}\n").unwrap();
    for bad in bad_files(dir) {
        let before = names(dir);
        let key = ("KES_CLIENT_KEY", bad);
        let cert = ("KES_CLIENT_CERT", bad);
        let good_key = ("KES_CLIENT_KEY", "client.key");
        let good_cert = ("KES_CLIENT_CERT", "client.crt");
        let nowhere = ("KES_SERVER", "127.0.0.1:1");
        for (line, variables) in [
            (&["server", "--config", bad][..], &[][..]),
            (&["server", "--check", "--config", bad], &[]),
            (&["server", "--dev", "--mlock", "--config", bad], &[]),
            (&["config", "convert", bad], &[]),
            (&["migrate", "--from", bad, "--to", "fs.yml"], &[]),
            (&["migrate", "--from", "fs.yml", "--to", bad], &[]),
            (&["identity", bad], &[]),
            (&["identity", "of", bad], &[]),
            (&["identity", "of", "client.crt", bad], &[]),
            (&["ls"], &[key, good_cert, nowhere]),
            (&["ls"], &[good_key, cert, nowhere]),
            (
                &["ls"],
                &[("KES_API_KEY", API_KEY), ("MINIO_KMS_KES_CAPATH", bad), nowhere],
            ),
            (&["store", "verify", bad, "--config", "data/config.yml"], &[]),
            (&["store", "restore", bad, "--config", "data/config.yml"], &[]),
        ] {
            let what = format!("{line:?} {variables:?}");
            // A folder without CA certificates in it has none to add, as those of Go programs.
            if bad == "folder" && variables.iter().any(|(name, _)| *name == "MINIO_KMS_KES_CAPATH") {
                continue;
            }
            let mut ran = with(dir, line, variables);
            // Neither of the two forms that a configuration can have.
            if let Some((first, rest)) = ran.stderr.split_once('\n')
                && bad == "text"
                && rest.contains("TOML")
            {
                assert!(first.starts_with("Error: text:1: "), "{what}: {ran:?}");
                ran.stderr = rest.to_owned();
            }
            let error = one_line(&ran, &what);
            let names_it = if line.contains(&"--dev") { "--config" } else { bad };
            assert!(error.contains(names_it), "{what}: {error}");
            assert!(
                error.len() < 400 && !error.chars().any(char::is_control),
                "{what}: {error:?}"
            );
            assert_eq!(names(dir), before, "{what}");
        }
    }
}

#[test]
fn variables_that_are_no_text_are_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let dir = tempfile::tempdir().unwrap();
    for name in [
        "MINIO_KES_SERVER",
        "MINIO_KES_API_KEY",
        "KES_CLIENT_KEY",
        "MINIO_KMS_KES_CAPATH",
    ] {
        let mut command = command(dir.path(), &["ls"]);
        let ran = command.env(name, OsStr::from_bytes(b"\xff")).output().unwrap();
        assert_eq!(
            one_line(&ran.into(), name),
            format!("{name}: the value is not UTF-8 text")
        );
    }
}

#[test]
fn arguments_that_are_no_text_are_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let dir = tempfile::tempdir().unwrap();
    for line in [&["identity", "of"][..], &["key", "create"], &[]] {
        let mut command = command(dir.path(), line);
        let ran = command.arg(OsStr::from_bytes(b"a\xff")).output().unwrap();
        assert_eq!(
            one_line(&ran.into(), "no text"),
            "argument 'a\u{fffd}' is not UTF-8"
        );
    }
}

#[test]
fn whoever_has_no_home_can_use_every_command_but_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    succeed(dir, &["--version"]);
    succeed(dir, &["identity"]);
    let key = [("KES_API_KEY", API_KEY), ("KES_SERVER", "127.0.0.1:1")];
    let error = one_line(&with(dir, &["ls"], &key), "ls");
    assert!(error.contains("127.0.0.1:1"), "{error}");
    let error = one_line(
        &with(dir, &["--auto-completion"], &[("SHELL", "/bin/bash")]),
        "completion",
    );
    assert!(error.contains("HOME"), "{error}");
}

#[test]
fn a_standard_output_that_is_closed_is_nobody_who_waits_for_a_result() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "--version",
        "--help",
        "identity",
        "completion bash",
        "identity of KEY",
    ] {
        let ran = Command::new("sh")
            .args(["-c", &format!("exec \"$0\" {} >&-", line.replace("KEY", API_KEY))])
            .arg(env!("CARGO_BIN_EXE_kes"))
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!((ran.status.code(), ran.stderr), (Some(0), vec![]), "{line}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_of_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(
        dir.join("old.yml"),
        "root: disabled\nkeys: {fs: {path: /tmp/keys}}\n",
    )
    .unwrap();
    for line in [
        &["--version"][..],
        &["--help"],
        &["key", "--help"],
        &["identity"],
        &["identity", API_KEY],
        &["identity", "of", API_KEY],
        &["identity", "new", "--json"],
        &["completion", "zsh"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(dir, line).stdout(full).output().unwrap();
        assert_eq!(
            (
                output.status.code(),
                String::from_utf8(output.stderr).unwrap().as_str()
            ),
            (
                Some(1),
                "Error: cannot write to the standard output: No space left on device (os error 28)\n"
            ),
            "{line:?}"
        );
    }
}

/// Runs `script` in a folder on a disk of `pages` pages, which only it sees. `$KES` is the program.
fn on_a_small_disk(pages: u32, script: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let unshare = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let size = pages * 4096;
    let script = format!(
        "mount -t tmpfs -o size={size} none \"$PLACE\" || exit 99; cd \"$PLACE\" || exit 99; {script}"
    );
    let output = Command::new("unshare")
        .args([unshare, "sh", "-c", &script])
        .env("PLACE", dir.path())
        .env("KES", env!("CARGO_BIN_EXE_kes"))
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_ne!(ran.code, Some(99), "no disk of its own: {ran:?}");
    ran
}

#[test]
fn a_full_disk_leaves_no_half_of_a_pair() {
    for pages in [0, 1] {
        // Room for the folder alone; and for one of the two files.
        let fill = if pages == 0 { "printf x > filler; " } else { "" };
        let ran = on_a_small_disk(
            1,
            &format!(
                "{fill}\"$KES\" identity new --key a.key --cert a.crt; code=$?; ls -A | grep -v filler; exit $code"
            ),
        );
        let error = one_line(&ran, "a full disk");
        assert!(
            error.starts_with("cannot write a.") && error.contains("No space left on device"),
            "{error}"
        );
    }
}

#[test]
fn a_full_disk_leaves_the_pair_that_was_to_be_replaced() {
    let script = r#"
        "$KES" identity new --key a.key --cert a.crt > summary || exit 98
        rm summary
        before=$(cat a.key a.crt)
        "$KES" identity new --key a.key --cert a.crt --force
        code=$?
        [ "$(cat a.key a.crt)" = "$before" ] || exit 97
        [ "$(ls -A | tr '\n' ' ')" = "a.crt a.key " ] || exit 96
        exit $code"#;
    let error = one_line(&on_a_small_disk(3, script), "a full disk");
    assert!(error.contains("No space left on device"), "{error}");
}

#[test]
fn a_full_disk_is_named_by_what_writes_folders() {
    for line in ["init data", "man pages"] {
        let ran = on_a_small_disk(1, &format!("printf x > filler; exec \"$KES\" {line}"));
        let error = one_line(&ran, line);
        assert!(error.contains("No space left on device"), "{line}: {error}");
        let folder = line.split(' ').nth(1).unwrap();
        assert!(error.contains(folder), "{line}: {error}");
    }
}

/// What a server does that is none.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Closes the connection at once.
    Nothing,
    /// Is not one that speaks TLS.
    Plain,
    /// Closes the connection when it has the request.
    Silence,
    /// Says these bytes over TLS, and closes the connection.
    Bytes(&'static str),
    /// Sends a body without end.
    Endless,
    /// Never answers.
    Hang,
}

struct Server {
    address: String,
    _runtime: Runtime,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = acceptor();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), answer));
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let credentials = Credentials::self_signed("127.0.0.1");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(credentials.key()).unwrap();
    let key = CertifiedKey::new(credentials.chain(), key);
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    TlsAcceptor::from(Arc::new(config))
}

/// Errors are those of a client that has gone.
async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, answer: Answer) {
    match answer {
        Answer::Nothing => return,
        Answer::Plain => {
            // Reads what it is told, so that nothing is left that resets the connection.
            let mut hello = [0; 5];
            let _ = stream.read_exact(&mut hello).await;
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            return;
        }
        Answer::Silence | Answer::Bytes(_) | Answer::Endless | Answer::Hang => {}
    }
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    match answer {
        Answer::Nothing | Answer::Plain | Answer::Silence => {}
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
        Answer::Endless => {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"")
                .await;
            while stream.write_all(&[b'x'; 1 << 14]).await.is_ok() {}
        }
        Answer::Hang => std::future::pending().await,
    }
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

/// Commands that print something which a server has said.
const ASKING: &[&str] = &[
    "ls",
    "ls -i --json",
    "ls -p",
    "key ls",
    "key info a",
    "key dek a",
    "key encrypt a b",
    "key decrypt a AAAA",
    "policy ls",
    "policy info a",
    "policy show a --json",
    "identity ls",
    "identity info",
    "identity info 3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
    "status",
    "status --api --json",
    "metric",
    "store info",
];
/// Those that only want to hear that it has happened.
const TELLING: &[&str] = &["key create a", "key rm a", "key undelete a"];

fn ask(server: &Server, line: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let arguments: Vec<_> = line.split(' ').chain(["-k"]).collect();
    let variables = [("KES_API_KEY", API_KEY), ("KES_SERVER", server.address.as_str())];
    with(dir.path(), &arguments, &variables)
}

#[test]
fn a_server_that_is_none_is_named_on_one_line() {
    for answer in [
        Answer::Nothing,
        Answer::Plain,
        Answer::Silence,
        Answer::Bytes("SSH-2.0-OpenSSH_9.2\r\n"),
        Answer::Bytes("\0\u{1}\u{2}\u{3}"),
        Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"name\":"),
    ] {
        let server = Server::start(answer);
        for line in [ASKING, TELLING].concat() {
            // What changes something may not say that nothing has happened, only what it knows.
            let what = format!("{line} {answer:?}");
            if TELLING.contains(&line)
                && matches!(answer, Answer::Bytes(text) if text.starts_with("HTTP/1.1 200"))
            {
                continue;
            }
            let error = one_line(&ask(&server, line), &what);
            assert!(error.contains(&server.address), "{what}: {error}");
        }
    }
}

#[test]
fn an_answer_that_is_none_is_an_error_on_one_line() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"name\":",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n5",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n\u{1b}[2J",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::start(Answer::Bytes(answer));
        for line in ASKING {
            // No name at all is an empty list of names, as servers send it that send one name a line.
            if answer.ends_with("Length: 0\r\n\r\n") && (line.contains("ls")) {
                continue;
            }
            let error = one_line(&ask(&server, line), &format!("{line} {answer:?}"));
            assert!(!error.chars().any(char::is_control), "{line}: {error:?}");
        }
    }
    for (answer, said) in [
        (
            "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 16\r\n\r\n<h1>\u{1b}[2J</h1>\r\n",
            "the server answered 500 Internal Server Error",
        ),
        (
            "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nbad \u{1b}[2J\r\n",
            "bad  [2J",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"message\":\"bad\"}",
            "bad",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"error\":\"old\"}",
            "old",
        ),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503"),
    ] {
        let server = Server::start(Answer::Bytes(answer));
        for line in [ASKING, TELLING].concat() {
            let error = one_line(&ask(&server, line), &format!("{line} {answer:?}"));
            assert!(error.contains(said), "{line}: {error:?}");
            assert!(!error.chars().any(char::is_control), "{line}: {error:?}");
        }
    }
}

#[test]
fn an_answer_without_end_is_given_up() {
    let server = Server::start(Answer::Endless);
    for line in [
        "ls",
        "key dek a",
        "status",
        "metric",
        "identity info",
        "log --json",
    ] {
        let error = one_line(&ask(&server, line), line);
        assert!(!error.is_empty(), "{line}");
    }
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let server = Server::start(Answer::Hang);
    // Side by side, since each waits as long as the client is patient.
    std::thread::scope(|scope| {
        let asked: Vec<_> = ["ls", "key dek a", "key create a", "status", "metric"]
            .into_iter()
            .map(|line| (line, scope.spawn(|| ask(&server, line))))
            .collect();
        for (line, thread) in asked {
            let error = one_line(&thread.join().unwrap(), line);
            assert!(
                error.contains(&server.address) && error.contains("20s"),
                "{line}: {error}"
            );
        }
    });
}
