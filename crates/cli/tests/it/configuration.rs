//! `kes config`, and older configuration files at a server.

use std::fs;

use crate::kes::{command, fail, run, succeed};

/// What a release of 2020 read.
const OLDER: &str = "\
address = \"127.0.0.1:7373\"

[tls]
key  = \"server.key\"
cert = \"server.crt\"

[policy.minio]
paths      = [ \"/v1/key/create/minio-*\" ]
identities = [ \"${MINIO_IDENTITY}\" ]

[cache.expiry]
all = \"5m\"

[keystore.fs]
path = \"keys\"
";

/// The same today.
const CURRENT: &str = "\
# Written by `kes config convert`. Check it by `kes server --check --config FILE`.
# The file that it was made from looks like one for v0.1.0 to v0.7.2.
# That was TOML; this is YAML.

address: 127.0.0.1:7373

tls:
  key: server.key
  cert: server.crt

policy:
  minio:
    # was `paths` before v0.15.0
    allow:
      - /v1/key/create/minio-*
    identities:
      - ${MINIO_IDENTITY}

cache:
  expiry:
    # was `cache.expiry.all` before v0.8.0
    any: 5m

keystore:
  fs:
    path: keys
";

#[test]
fn an_older_file_is_printed_in_the_current_form() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kes.toml"), OLDER).unwrap();
    let ran = run(folder.path(), &["config", "convert", "kes.toml"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.stdout, CURRENT);
    let kept = fs::read_to_string(folder.path().join("kes.toml")).unwrap();
    assert_eq!(kept, OLDER);
}

#[test]
fn an_older_file_and_what_it_is_converted_to_can_both_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    succeed(
        folder.path(),
        &[
            "identity",
            "new",
            "--key=server.key",
            "--cert=server.crt",
            "--ip=127.0.0.1",
            "server",
        ],
    );
    fs::write(folder.path().join("kes.toml"), OLDER).unwrap();
    let converted = succeed(folder.path(), &["config", "convert", "kes.toml"]);
    fs::write(folder.path().join("kes.yml"), converted).unwrap();
    for (file, warnings) in [("kes.toml", 2), ("kes.yml", 0)] {
        let mut check = command(
            folder.path(),
            &["server", "--check", "--config", file, "--root=disabled"],
        );
        let identity = "dd46485bedc9ad2909d2e8f9017216eec4413bc5c64b236d992f7ec19c843c5f";
        let output = check.env("MINIO_IDENTITY", identity).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{file}: {stderr}");
        let deprecated = stderr
            .lines()
            .filter(|line| line.contains(&format!("{file}:")) && line.contains("is deprecated since"))
            .count();
        assert_eq!(deprecated, warnings, "{file}: {stderr}");
    }
}

#[test]
fn what_cannot_be_converted_says_where_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &[u8]| {
        fs::write(folder.path().join("kes.yml"), text).unwrap();
        fail(folder.path(), &["config", "convert", "kes.yml"])
    };
    assert_eq!(refused(b""), "kes.yml: is empty");
    assert_eq!(
        refused(b"root: a\nadmin:\n  identity: b\n"),
        "kes.yml:1: root: is not the same as `admin.identity` in line 3: remove it"
    );
    assert_eq!(refused(b"root: \xff\n"), "kes.yml: line 1 is not UTF-8 text");
    assert_eq!(
        refused(b"kms:\n  aws:\n    address: a\n"),
        "kes.yml:2: kms.aws: was removed in v0.8.0 without a replacement"
    );
    let missing = fail(folder.path(), &["config", "convert", "missing.yml"]);
    assert!(missing.starts_with("missing.yml: cannot be read: "), "{missing}");
    let none = fail(folder.path(), &["config", "convert"]);
    assert!(none.contains("missing argument FILE"), "{none}");
}

#[test]
fn nothing_is_written_where_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kes.toml"), OLDER).unwrap();
    let mut convert = command(folder.path(), &["config", "convert", "kes.toml"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = convert.stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("Error: "), "{stderr}");
}
