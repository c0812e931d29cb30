//! `kes init DIR`, and `kes server DIR` with and without `--init`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::daemon::{Daemon, client};
use crate::kes::{Ran, command, fail, run, succeed};
use crate::server::silent;

/// The variables that are set in a shell that the lines to paste have gone through, and that have to do with KES.
pub(crate) fn pasted(printed: &str) -> Vec<(String, String)> {
    let exports: String = printed
        .lines()
        .filter(|line| line.starts_with("export "))
        .map(|line| format!("{line}\n"))
        .collect();
    let shell = std::process::Command::new("/bin/sh")
        .args(["-euc", &format!("{exports}/usr/bin/env -0")])
        .env_clear()
        .output()
        .unwrap();
    assert!(shell.status.success(), "{shell:?}");
    let variables = String::from_utf8(shell.stdout).unwrap();
    variables
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, _)| name.contains("KES"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// An administrator of what `kes init` has printed something about.
pub(crate) struct Admin {
    api_key: String,
    capath: String,
}

impl Admin {
    pub(crate) fn of(printed: &str) -> Self {
        let pasted = pasted(printed);
        let value = |name: &str| pasted.iter().find(|(n, _)| n == name).unwrap().1.clone();
        Self {
            api_key: value("KES_API_KEY"),
            capath: value("MINIO_KMS_KES_CAPATH"),
        }
    }

    /// Runs a command against `server`, wherever it listens.
    pub(crate) fn run(&self, dir: &Path, server: &Daemon, line: &str) -> Ran {
        let variables = [
            ("KES_SERVER", server.address()),
            ("KES_API_KEY", self.api_key.as_str()),
            ("MINIO_KMS_KES_CAPATH", self.capath.as_str()),
        ];
        client(dir, &variables, line)
    }
}

/// A server in `folder`, on a port of its own.
pub(crate) fn serve(dir: &Path, folder: &str) -> Daemon {
    Daemon::start(dir, &[folder, "--addr=127.0.0.1:0"])
}

#[test]
fn one_command_takes_a_newcomer_to_a_server_with_durable_keys() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let line = ["--init", "./kes-data", "--addr=127.0.0.1:0"];
    let server = Daemon::start(dir, &line);
    let printed = server.banner.join("\n");
    let path = fs::canonicalize(dir).unwrap().join("kes-data/keys.redb");
    assert_eq!(server.value("KMS"), format!("Embedded: {}", path.display()));
    let admin = Admin::of(&printed);
    silent(&admin.run(dir, &server, "key create my-key"));
    server.kill();

    // The same command starts it again, and says nothing new.
    let server = Daemon::start(dir, &line);
    assert!(!server.banner.iter().any(|line| line.contains("KES_API_KEY")));
    let again = admin.run(dir, &server, "key create my-key");
    assert!(again.stderr.contains("already exists"), "{again:?}");
    server.stop();

    // So does the one without the option.
    let server = serve(dir, "kes-data");
    let info = admin.run(dir, &server, "key info my-key");
    assert_eq!(info.code, Some(0), "{info:?}");
    server.stop();
}

#[test]
fn what_init_makes_is_right_to_the_last_warning() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let printed = succeed(dir, &["init", "it's here"]);
    assert!(
        printed.ends_with("Start the server: kes server 'it'\\''s here'\n"),
        "{printed}"
    );
    assert_eq!(
        succeed(dir, &["server", "--check", "--strict", "it's here"]),
        "it's here/config.yml: the configuration is valid\n"
    );
    let server = serve(dir, "it's here");
    let admin = Admin::of(&printed);
    silent(&admin.run(dir, &server, "key create my-key"));
    server.stop();
}

#[test]
fn options_of_init_are_in_the_configuration_and_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let line = [
        "init",
        "kes",
        "--addr",
        ":7443",
        "--ip=10.1.2.3,10.1.2.4",
        "--dns",
        "kes.example.com",
    ];
    let printed = succeed(dir, &line);
    assert!(
        printed.contains("export KES_SERVER=https://127.0.0.1:7443 "),
        "{printed}"
    );
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "10.1.2.4",
        "kes.example.com",
    ] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
    let config = fs::read_to_string(dir.join("kes/config.yml")).unwrap();
    assert!(config.contains("\naddress: \":7443\"\n"), "{config}");

    for (line, want) in [
        (
            &["init", "x", "--addr=localhost:1"][..],
            "invalid value 'localhost:1' for '--addr'",
        ),
        (
            &["init", "x", "--ip=localhost"],
            "invalid value 'localhost' for '--ip'",
        ),
        (&["init"], "missing argument DIR"),
        (
            &["init", "--config", "f", "x"],
            "`kes init --config` belonged to the servers of 2022 and 2023",
        ),
    ] {
        let error = fail(dir, line);
        assert!(error.contains(want), "{error}");
    }
    assert!(!dir.join("x").exists());
}

#[test]
fn a_folder_without_a_configuration_is_not_served_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("mount")).unwrap();
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/photo.jpg"), "x").unwrap();
    for (folder, what) in [("absent", "does not exist"), ("mount", "is empty")] {
        for check in [&[][..], &["--check"]] {
            let error = fail(dir, &[&["server", folder], check].concat());
            assert!(error.starts_with(&format!("{folder} {what}")), "{error}");
            assert!(error.contains("a volume that is not mounted"), "{error}");
            for way in ["kes init ", "kes server --init "] {
                assert!(error.contains(&format!("`{way}{folder}`")), "{error}");
            }
        }
    }
    assert!(!dir.join("absent").exists());
    let error = fail(dir, &["server", "other"]);
    assert!(error.contains("other has no config.yml"), "{error}");
    let error = fail(dir, &["server", "--init", "other"]);
    assert!(error.contains("other content (\"photo.jpg\")"), "{error}");
    let error = fail(dir, &["init", "other"]);
    assert!(error.contains("nothing has been changed"), "{error}");
    assert_eq!(dir.join("other").read_dir().unwrap().count(), 1);

    succeed(dir, &["init", "mount"]);
    assert_eq!(
        dir.join("mount").metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    let error = fail(dir, &["init", "mount"]);
    assert!(error.contains("config.yml exists already"), "{error}");
    let config = fs::read(dir.join("mount/config.yml")).unwrap();
    let seal = fs::read(dir.join("mount/seal.key")).unwrap();
    succeed(dir, &["init", "-f", "mount"]);
    assert_ne!(fs::read(dir.join("mount/config.yml")).unwrap(), config);
    assert_eq!(fs::read(dir.join("mount/seal.key")).unwrap(), seal);
}

#[test]
fn the_api_key_is_seen_by_somebody_or_nothing_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut init = command(dir.path(), &["init", "kes"]);
    let ran: Ran = init
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!dir.path().join("kes/config.yml").exists());
    succeed(dir.path(), &["init", "kes"]);
}

/// Kills `kes init` when a file appears, or in the moments after, and then does it again.
#[test]
fn a_killed_init_leaves_what_can_be_finished() {
    for file in ["seal.key", "keys.redb", "server.key", "server.crt", "config.yml"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let folder = dir.join("kes");
        let mut init = command(dir, &["init", "kes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !folder.join(file).exists() && init.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        init.kill().unwrap();
        init.wait().unwrap();
        let seal = fs::read(folder.join("seal.key")).unwrap();
        if !folder.join("config.yml").exists() {
            let error = fail(dir, &["server", "kes"]);
            assert!(error.contains("is not finished"), "{error}");
        }

        let server = Daemon::start(dir, &["--init", "kes", "--addr=127.0.0.1:0"]);
        server.stop();
        assert_eq!(fs::read(folder.join("seal.key")).unwrap(), seal);
        let ran = run(dir, &["server", "--check", "--strict", "kes"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}
