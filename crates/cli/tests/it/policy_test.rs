//! `kes policy test`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::daemon::{Daemon, client};
use crate::kes::{Ran, command, fail, run, succeed};
use crate::server::tutorial;

const POLICIES: &str = "\
admin:
  identity: 0000000000000000000000000000000000000000000000000000000000000001
policy:
  minio:
    allow:
      - /v1/key/create/*
      - /v1/key/decrypt/*
      - /v1/key/bulk/decrypt/*
      - /v1/key/list/minio-*
    deny:
      - /v1/key/*/internal*
    identities:
      - 0000000000000000000000000000000000000000000000000000000000000002
tls:
  key: ${NOT_SET}
  proxy:
    identities:
      - 0000000000000000000000000000000000000000000000000000000000000003
api:
  /v1/ready:
    skip_auth: true
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policies.yml"), POLICIES).unwrap();
    folder
}

fn digest(n: u8) -> String {
    format!("{n:064x}")
}

fn test(folder: &Path, arguments: &[&str]) -> Ran {
    let arguments: Vec<_> = ["policy", "test", "--policy-file=policies.yml"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    run(folder, &arguments)
}

#[test]
fn what_is_allowed_comes_with_the_rule_and_its_line() {
    let folder = folder();
    let ran = test(folder.path(), &["--policy=minio", "PUT", "/v1/key/create/a"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ran.stdout,
        "allow  PUT /v1/key/create/a\n  Who      policy:minio\n  Means    key_create, for policies /v1/key/create/a\n  \
         Because  policy 'minio' allows it by '/v1/key/create/*'\n  Rule     allow: /v1/key/create/* in policies.yml:6\n"
    );
}

#[test]
fn what_is_denied_fails_unless_it_is_expected() {
    let folder = folder();
    let request = ["--policy=minio", "PUT", "/v1/key/bulk/decrypt/internal-1"];
    let ran = test(folder.path(), &request);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout
            .contains("deny: /v1/key/*/internal* in policies.yml:11"),
        "{}",
        ran.stdout
    );
    let expected: Vec<_> = request.iter().chain(&["deny"]).copied().collect();
    assert_eq!(test(folder.path(), &expected).code, Some(0));
}

#[test]
fn everybody_has_a_verdict() {
    let folder = folder();
    for (who, method, path, code, reason) in [
        (
            format!("--identity={}", digest(1)),
            "DELETE",
            "/v1/key/delete/a",
            0,
            "this is the admin",
        ),
        (
            format!("--identity={}", digest(2)),
            "GET",
            "/v1/key/list/minio-a",
            0,
            "policies.yml:9",
        ),
        (
            format!("--identity={}", digest(2)),
            "GET",
            "/v1/key/list",
            1,
            "no rule of policy 'minio' allows it",
        ),
        (
            format!("--identity={}", digest(3)),
            "GET",
            "/v1/key/list",
            1,
            "TLS proxy",
        ),
        (
            format!("--identity={}", digest(4)),
            "GET",
            "/v1/status",
            1,
            "the identity has no policy",
        ),
        (
            format!("--identity={}", digest(4)),
            "GET",
            "/v1/identity/self/describe",
            0,
            "whoever has a certificate",
        ),
        (
            "--nobody".to_owned(),
            "GET",
            "/v1/ready",
            0,
            "nobody is asked for a certificate",
        ),
        (
            "--nobody".to_owned(),
            "GET",
            "/v1/status",
            1,
            "a client certificate is required (HTTP 400)",
        ),
        (
            "--policy=minio".to_owned(),
            "GET",
            "/v1/key/create/a",
            1,
            "this path takes PUT (HTTP 405)",
        ),
        (
            "--policy=minio".to_owned(),
            "GET",
            "/v1/nothing",
            1,
            "the server has no such path (HTTP 404)",
        ),
    ] {
        let ran = test(folder.path(), &[&who, method, path]);
        assert_eq!(ran.code, Some(code), "{who} {method} {path}: {ran:?}");
        assert!(
            ran.stdout.contains(reason),
            "{who} {method} {path}: {}",
            ran.stdout
        );
    }
}

#[test]
fn a_table_is_tested_line_by_line() {
    let folder = folder();
    let table = "\
# METHOD PATH             EXPECTED WHO
PUT /v1/key/create/a      allow
PUT /v1/key/decrypt/internal deny  # not even MinIO
GET /v1/statsu            none
GET /version              allow    nobody
";
    fs::write(folder.path().join("table"), table).unwrap();
    let ran = test(folder.path(), &["--policy=minio", "--table=table"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("4 of 4 as expected\n"), "{}", ran.stdout);

    // What is mistyped is no denial.
    fs::write(folder.path().join("table"), table.replace("none", "deny")).unwrap();
    let ran = test(folder.path(), &["--policy=minio", "--table=table"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout
            .contains("FAIL  none   GET /v1/statsu for policy:minio: line 4: want deny"),
        "{}",
        ran.stdout
    );
    let ran = test(folder.path(), &["--policy=minio", "--table=table", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 4);
    assert_eq!(found[1]["rule"]["place"], "policies.yml:11");
    assert_eq!(
        (&found[2]["verdict"], &found[2]["expected"], &found[2]["status"]),
        (&"none".into(), &"deny".into(), &404.into())
    );
}

#[test]
fn who_asks_may_be_a_certificate_or_an_api_key() {
    let folder = tutorial();
    for who in ["client.crt", "config.yml"] {
        let arguments = [
            "policy",
            "test",
            "--config=config.yml",
            "--identity",
            who,
            "PUT",
            "/v1/key/create/my-key",
        ];
        let ran = run(folder.path(), &arguments);
        let is_certificate = who == "client.crt";
        assert_eq!(ran.code == Some(0), is_certificate, "{ran:?}");
        assert_eq!(ran.stderr.is_empty(), is_certificate, "{ran:?}");
    }
    let key = succeed(folder.path(), &["identity"]);
    let arguments = [
        "policy",
        "test",
        "--config=config.yml",
        "--identity",
        &key,
        "GET",
        "/v1/status",
        "deny",
    ];
    let said = succeed(folder.path(), &arguments);
    assert!(said.contains("the identity has no policy"), "{said}");
    assert!(!said.contains(&key), "an API key is a secret: {said}");
}

#[test]
fn a_server_that_runs_is_asked_for_its_policies() {
    let folder = tutorial();
    let admin = succeed(folder.path(), &["identity"]);
    let identity = succeed(folder.path(), &["identity", "of", &admin]);
    let path = folder.path().join("config.yml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("identity: disabled", &format!("identity: {identity}")),
    )
    .unwrap();
    let server = Daemon::start(folder.path(), &["--config", "config.yml"]);
    let user = succeed(folder.path(), &["identity", "of", "client.crt"]);
    let ask = |line: &str| {
        let variables = [
            ("MINIO_KES_API_KEY", admin.as_str()),
            ("SSL_CERT_FILE", "public.crt"),
        ];
        let line = format!("policy test --server {} {line}", server.address());
        client(folder.path(), &variables, &line)
    };
    for (who, request, code) in [
        ("--policy my-app", "PUT /v1/key/create/my-key", 0),
        ("--policy my-app", "PUT /v1/key/create/other", 1),
        (&*format!("--identity {user}"), "PUT /v1/key/decrypt/my-key", 0),
        (&*format!("--identity {user}"), "DELETE /v1/key/delete/my-key", 1),
        (
            &*format!("--identity {identity}"),
            "DELETE /v1/key/delete/my-key",
            0,
        ),
        (&*format!("--identity {}", digest(9)), "GET /v1/status", 1),
    ] {
        let ran = ask(&format!("{who} {request}"));
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (Some(code), ""),
            "{who} {request}: {ran:?}"
        );
    }
    let ran = ask("--policy other GET /v1/status");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("policy does not exist"), "{ran:?}");
}

#[test]
fn what_cannot_be_tested_says_why() {
    let folder = folder();
    let failed = |arguments: &[&str]| {
        let arguments: Vec<_> = ["policy", "test"].iter().chain(arguments).copied().collect();
        fail(folder.path(), &arguments)
    };
    for (arguments, reason) in [
        (&[][..], "missing argument METHOD PATH"),
        (&["--policy=a", "GET", "/version"], "name where the policies are"),
        (&["--policy-file=policies.yml", "GET", "/version"], "say who asks"),
        (
            &["--policy-file=policies.yml", "--policy=other", "GET", "/version"],
            "there is no policy 'other'",
        ),
        (
            &["--policy-file=policies.yml", "--policy=a", "GET", "version"],
            "is not the path of a request",
        ),
        (
            &["--policy-file=policies.yml", "--policy=a", "G T", "/version"],
            "is not an HTTP method",
        ),
        (
            &[
                "--policy-file=policies.yml",
                "--policy=a",
                "GET",
                "/version",
                "maybe",
            ],
            "none of allow, deny and none",
        ),
        (
            &[
                "--policy-file=policies.yml",
                "--identity=a.crt",
                "GET",
                "/version",
            ],
            "neither an identity, an API key nor a file",
        ),
        (
            &[
                "--policy-file=policies.yml",
                "--policy=a",
                "--nobody",
                "GET",
                "/version",
            ],
            "cannot be used with",
        ),
        (
            &["--policy-file=missing.yml", "--policy=a", "GET", "/version"],
            "missing.yml: cannot be read",
        ),
        (
            &["--policy-file=.", "--policy=a", "GET", "/version"],
            "cannot be read",
        ),
        (
            &["--policy-file=policies.yml", "--table=missing"],
            "cannot read missing",
        ),
        (
            &[
                "--config=policies.yml",
                "--policy-file=policies.yml",
                "--policy=a",
                "GET",
                "/version",
            ],
            "cannot be used with",
        ),
    ] {
        let error = failed(arguments);
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
    // The credentials of a whole configuration are not there in a pipeline.
    let ran = run(
        folder.path(),
        &[
            "policy",
            "test",
            "--config=policies.yml",
            "--policy=minio",
            "GET",
            "/version",
        ],
    );
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("NOT_SET"), "{ran:?}");
}

#[test]
fn a_result_that_nobody_gets_is_an_error() {
    let folder = folder();
    let mut test = command(
        folder.path(),
        &[
            "policy",
            "test",
            "--policy-file=policies.yml",
            "--policy=minio",
            "GET",
            "/version",
        ],
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = test.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("Error: "));
}
