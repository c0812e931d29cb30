//! `kes identity`: keys and certificates on disk.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use kes_crypto::{ApiKey, pem};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::kes::{Ran, command, fail, run, succeed};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// The value behind `label` in the summary of a new identity.
fn labelled<'a>(summary: &'a str, label: &str) -> Option<&'a str> {
    summary
        .lines()
        .find_map(|line| line.strip_prefix(&format!("  {label:<13} ")))
}

fn with_certificate<T>(path: &Path, read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = pem::certificates(&fs::read(path).unwrap()).unwrap().remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    read(&certificate)
}

/// Common name, DNS names and IP addresses.
fn names(path: &Path) -> (String, Vec<String>, Vec<Vec<u8>>) {
    with_certificate(path, |certificate| {
        let common_name = certificate
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        let (mut dns, mut ip) = (Vec::new(), Vec::new());
        if let Some(names) = certificate.subject_alternative_name().unwrap() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                    GeneralName::IPAddress(address) => ip.push(address.to_vec()),
                    other => panic!("{other:?}"),
                }
            }
        }
        (common_name, dns, ip)
    })
}

#[test]
fn no_argument_makes_an_api_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = succeed(dir.path(), &["identity"]);
    assert!(ApiKey::parse(&key).is_ok() && key.starts_with("kes:v1:") && !key.ends_with('\n'));
    assert_ne!(succeed(dir.path(), &["identity"]), key);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_subject_alone_makes_no_files() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["identity", "new"][..], &["identity", "new", "MyApp"]] {
        let summary = succeed(dir.path(), arguments);
        let key = ApiKey::parse(labelled(&summary, "API key:").unwrap()).unwrap();
        assert_eq!(
            summary,
            format!(
                "\n  Identity:     {}\n  API key:      {}\n",
                key.identity(),
                *key.to_secret_text()
            )
        );
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

/// The first step of the "AWS Secrets Manager" tutorial.
#[test]
fn an_address_option_makes_files_with_default_names() {
    let dir = tempfile::tempdir().unwrap();
    let summary = succeed(dir.path(), &["identity", "new", "--ip", "127.0.0.1", "localhost"]);
    let (key, cert) = (dir.path().join("private.key"), dir.path().join("public.crt"));
    let api_key = ApiKey::parse(labelled(&summary, "API key:").unwrap()).unwrap();
    assert_eq!(
        summary,
        format!(
            "\n  Private key:  private.key\n  Certificate:  public.crt\n  Identity:     {}\n  API key:      {}\n",
            api_key.identity(),
            *api_key.to_secret_text()
        )
    );
    assert_eq!((mode(&key), mode(&cert)), (0o600, 0o644));
    assert_eq!(
        names(&cert),
        (
            "localhost".to_owned(),
            vec!["localhost".to_owned()],
            vec![vec![127, 0, 0, 1]]
        )
    );

    let before = (fs::read(&key).unwrap(), fs::read(&cert).unwrap());
    let error = fail(dir.path(), &["identity", "new", "--ip", "127.0.0.1", "localhost"]);
    assert_eq!(error, "private.key exists already: use --force to replace it");
    fs::remove_file(&key).unwrap();
    let error = fail(dir.path(), &["identity", "new", "--ip", "127.0.0.1", "localhost"]);
    assert_eq!(error, "public.crt exists already: use --force to replace it");
    assert!(!key.exists());

    succeed(dir.path(), &["identity", "new", "--force"]);
    assert_ne!((fs::read(&key).unwrap(), fs::read(&cert).unwrap()), before);
}

/// The client of the "AWS Secrets Manager" tutorial.
#[test]
fn every_way_to_ask_for_an_identity_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let summary = succeed(
        dir.path(),
        &[
            "identity",
            "new",
            "--key=client.key",
            "--cert=client.crt",
            "MyApp",
        ],
    );
    let identity = labelled(&summary, "Identity:").unwrap();
    let api_key = labelled(&summary, "API key:").unwrap();
    assert_eq!(labelled(&summary, "Private key:"), Some("client.key"));
    assert_eq!(labelled(&summary, "Certificate:"), Some("client.crt"));
    assert_eq!(
        names(&dir.path().join("client.crt")),
        ("MyApp".to_owned(), vec![], vec![])
    );

    for arguments in [
        &["identity", "of", "client.crt"][..],
        &["identity", "client.crt"],
        &["identity", api_key],
        &["tool", "identity", "of", "client.crt"],
        &["identity", "of", "--hash=SHA256", "client.crt"],
    ] {
        assert_eq!(succeed(dir.path(), arguments), identity, "{arguments:?}");
    }
    assert_eq!(succeed(dir.path(), &["identity", "client.key"]), api_key);
    let several = succeed(dir.path(), &["identity", "of", "client.crt", api_key]);
    assert_eq!(several.matches(identity).count(), 2);
}

/// The server of "Deploy MinIO and KES with Server-Side Encryption".
#[test]
fn options_after_the_subject_count() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        "identity new kes_server --key kes-server.key --cert kes-server.cert --ip 127.0.0.1 --dns localhost";
    succeed(dir.path(), &line.split(' ').collect::<Vec<_>>());
    let cert = dir.path().join("kes-server.cert");
    assert_eq!(
        names(&cert),
        (
            "kes_server".to_owned(),
            vec!["localhost".to_owned()],
            vec![vec![127, 0, 0, 1]]
        )
    );
    with_certificate(&cert, |certificate| {
        let validity = certificate.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(seconds, 720 * 3600);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.flags == 1);
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && extended.server_auth);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        assert!(certificate.raw_serial().len() >= 15);
    });
}

/// The client of the "MinIO KMS Quickstart Guide" of 2020.
#[test]
fn the_old_name_of_the_command_always_writes_files() {
    let dir = tempfile::tempdir().unwrap();
    let line = "tool identity new MinIO --key=minio.key --cert=minio.cert --time=8760h";
    succeed(dir.path(), &line.split(' ').collect::<Vec<_>>());
    with_certificate(&dir.path().join("minio.cert"), |certificate| {
        let validity = certificate.validity();
        assert_eq!(
            validity.not_after.timestamp() - validity.not_before.timestamp(),
            31_536_000
        );
    });
    succeed(dir.path(), &["tool", "identity", "new"]);
    assert!(dir.path().join("private.key").exists() && dir.path().join("public.crt").exists());
}

#[test]
fn a_missing_file_option_has_its_default() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["identity", "new", "--key", "a.key"]);
    assert!(dir.path().join("a.key").exists() && dir.path().join("public.crt").exists());
    let common_name = names(&dir.path().join("public.crt")).0;
    assert_eq!(
        common_name,
        succeed(dir.path(), &["identity", "of", "public.crt"])
    );
}

#[test]
fn nothing_is_left_when_a_file_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let error = fail(
        dir.path(),
        &["identity", "new", "--key", "a.key", "--cert", "no/such/dir.crt"],
    );
    assert!(error.starts_with("cannot write no/such/dir.crt: "), "{error}");
    fail(
        dir.path(),
        &["identity", "new", "--key", "same", "--cert", "same"],
    );
    fail(dir.path(), &["identity", "new", "--ip", "localhost"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn an_encrypted_key_hides_the_api_key() {
    let dir = tempfile::tempdir().unwrap();
    // Without a terminal, which a session of its own does not have.
    let run = |arguments: &[&str], password: Option<&str>| -> Ran {
        let mut command = std::process::Command::new("setsid");
        command
            .arg("--wait")
            .arg(env!("CARGO_BIN_EXE_kes"))
            .args(arguments)
            .current_dir(dir.path());
        command
            .env_remove("MINIO_KMS_KES_KEY_PASSWORD")
            .stdin(Stdio::null());
        if let Some(password) = password {
            command.env("MINIO_KMS_KES_KEY_PASSWORD", password);
        }
        command.output().unwrap().into()
    };
    let refused = run(&["identity", "new", "--encrypt"], None);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no terminal"), "{refused:?}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);

    let made = run(&["identity", "new", "--encrypt"], Some("hunter2"));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(labelled(&made.stdout, "API key:"), None);
    let pem = fs::read_to_string(dir.path().join("private.key")).unwrap();
    assert!(
        pem.contains("Proc-Type: 4,ENCRYPTED") && pem.contains("DEK-Info: AES-256-CBC,"),
        "{pem}"
    );

    let api_key = run(&["identity", "private.key"], Some("hunter2")).stdout;
    assert_eq!(
        ApiKey::parse(&api_key).unwrap().identity().as_str(),
        labelled(&made.stdout, "Identity:").unwrap()
    );
    assert_eq!(run(&["identity", "private.key"], Some("wrong")).code, Some(1));
}

#[test]
fn a_password_is_asked_for_on_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    // Answers the prompts of a run in a session of its own, whose terminal this is.
    let run = |arguments: &[&str], answers: &[(&str, &str)]| {
        let (mut terminal, side) = crate::terminal::open();
        let mut command = std::process::Command::new("setsid");
        command
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_kes")])
            .args(arguments)
            .current_dir(dir.path());
        command.env_remove("MINIO_KMS_KES_KEY_PASSWORD");
        command
            .stdin(side.try_clone().unwrap())
            .stdout(Stdio::piped())
            .stderr(side);
        let child = command.spawn().unwrap();
        drop(command);
        for (prompt, answer) in answers {
            let shown = terminal.read_until(prompt);
            assert!(!shown.contains("hunter2"), "no echo: {shown}");
            terminal.wait_for_no_echo();
            terminal.write(&format!("{answer}\n"));
        }
        let output = child.wait_with_output().unwrap();
        let shown = terminal.read_to_end();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            shown,
        )
    };
    let new = ["identity", "new", "--encrypt"];
    let (code, _, shown) = run(&new, &[("Enter", "hunter2"), ("Confirm", "hunter3")]);
    assert!(code == Some(1) && shown.contains("not the same"), "{shown}");
    let (code, _, shown) = run(&new, &[("Enter", ""), ("Confirm", "")]);
    assert!(code == Some(1) && shown.contains("empty"), "{shown}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let (code, summary, shown) = run(&new, &[("Enter", "hunter2"), ("Confirm", "hunter2")]);
    assert_eq!(code, Some(0), "{shown}");

    let (code, api_key, _) = run(
        &["identity", "private.key"],
        &[("password for private.key", "hunter2")],
    );
    assert_eq!(code, Some(0));
    let identity = ApiKey::parse(&api_key).unwrap().identity().to_string();
    assert_eq!(Some(identity.as_str()), labelled(&summary, "Identity:"));
    // Ctrl-C.
    let (code, stdout, shown) = run(
        &["identity", "private.key"],
        &[("password for private.key", "\u{3}")],
    );
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(!shown.contains("Error"), "{shown:?}");
}

#[test]
fn json_says_the_same_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let json = succeed(dir.path(), &["identity", "new", "--json", "--key=a", "--cert=b"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (value["private_key"].as_str(), value["certificate"].as_str()),
        (Some("a"), Some("b"))
    );
    let key = ApiKey::parse(value["api_key"].as_str().unwrap()).unwrap();
    assert_eq!(value["identity"].as_str(), Some(key.identity().as_str()));
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn a_certificate_comes_through_the_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["identity", "new", "--key", "a.key"]);
    let identity = succeed(dir.path(), &["identity", "of", "public.crt"]);
    // What stands around the certificate does not matter.
    let pem = [
        fs::read(dir.path().join("a.key")).unwrap(),
        fs::read(dir.path().join("public.crt")).unwrap(),
    ]
    .concat();
    for arguments in [&["identity", "of"][..], &["identity", "of", "-"]] {
        let mut child = command(dir.path(), arguments);
        let mut child = child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&pem).unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, identity.as_bytes());
    }
}

#[test]
fn a_file_without_a_certificate_has_no_identity() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    assert_eq!(
        fail(dir.path(), &["identity", "of", "empty"]),
        "empty: there is no certificate"
    );
    assert_eq!(
        fail(dir.path(), &["identity", "empty"]),
        "empty holds neither a certificate nor a private key"
    );
    assert_eq!(run(dir.path(), &["identity", "of", "no-such-file"]).code, Some(1));
}
