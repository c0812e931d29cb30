//! The commands that look into a server: policies, identities, logs, metrics.

use std::fs;
use std::path::Path;

use crate::daemon::{Daemon, client};
use crate::kes::{Ran, succeed};
use crate::server::silent;
use crate::terminal;

const CONFIG: &str = "\
address: 127.0.0.1:0
admin:
  identity: ADMIN
tls:
  key: private.key
  cert: public.crt
policy:
  minio:
    allow:
    - /v1/key/list/*
    - /v1/key/create/*
    deny:
    - /v1/key/create/internal*
    identities:
    - USER
  nothing: {}
keystore:
  fs:
    path: keys
";

/// A server with policies, its administrator and one user.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) server: Daemon,
    admin: String,
    user: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        succeed(path, &["identity", "new", "--ip", "127.0.0.1"]);
        let (admin, user) = (succeed(path, &["identity"]), succeed(path, &["identity"]));
        let config = CONFIG
            .replace("ADMIN", &identity_of(path, &admin))
            .replace("USER", &identity_of(path, &user));
        fs::write(path.join("config.yml"), config).unwrap();
        let server = Daemon::start(path, &["--config=config.yml"]);
        Self {
            dir,
            server,
            admin,
            user,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The variables with which a command asks the server as its administrator.
    pub(crate) fn variables(&self) -> [(&str, &str); 3] {
        self.variables_of(&self.admin)
    }

    fn variables_of<'a>(&'a self, key: &'a str) -> [(&'a str, &'a str); 3] {
        [
            ("MINIO_KES_API_KEY", key),
            ("MINIO_KES_SERVER", self.server.address()),
            ("SSL_CERT_FILE", "public.crt"),
        ]
    }

    pub(crate) fn kes(&self, line: &str) -> Ran {
        client(self.path(), &self.variables(), line)
    }

    fn kes_as_user(&self, line: &str) -> Ran {
        client(self.path(), &self.variables_of(&self.user), line)
    }

    /// What a command shows on a terminal.
    fn shown(&self, arguments: &[&str]) -> String {
        let (terminal, side) = terminal::open();
        let mut command = crate::kes::command(self.path(), arguments);
        command.envs(self.variables()).stdout(side);
        assert!(command.spawn().unwrap().wait().unwrap().success());
        drop(command);
        terminal.read_to_end().replace("\r\n", "\n")
    }
}

fn identity_of(path: &Path, key: &str) -> String {
    succeed(path, &["identity", "of", key])
}

/// What is printed, as JSON, of a command that succeeds.
fn json(ran: &Ran) -> serde_json::Value {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn policies_are_listed_described_and_shown() {
    let place = Place::new();
    assert_eq!(place.kes("policy ls").stdout, "Policy\nminio\nnothing\n");
    assert_eq!(place.kes("policy ls min*").stdout, "Policy\nminio\n");
    assert_eq!(place.kes("policy ls --json n").stdout, "[\"nothing\"]\n");
    assert_eq!(place.kes("policy ls zzz --json").stdout, "[]\n");
    silent(&place.kes("policy ls zzz"));
    let old = place.kes("policy list");
    assert_eq!(
        (old.code, old.stdout.as_str(), old.stderr.as_str()),
        (
            Some(0),
            "[\"minio\",\"nothing\"]\n",
            "deprecated: kes policy list: use kes policy ls\n"
        )
    );
    assert_eq!(
        place.shown(&["policy", "ls", "--color=always"]),
        "\u{1b}[4mPolicy\u{1b}[0m\nminio\nnothing\n"
    );

    let admin = identity_of(place.path(), &place.admin);
    let info = place.kes("policy info minio").stdout;
    let lines: Vec<_> = info.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "Name        minio"), "{info}");
    assert!(lines[1].starts_with("Date        20"), "{info}");
    assert_eq!(lines[2], format!("Created by  {admin}"));
    let info = json(&place.kes("policy info minio --json"));
    assert_eq!(
        (info["name"].as_str(), info["created_by"].as_str()),
        (Some("minio"), Some(&*admin))
    );

    let rules = place.kes("policy show minio").stdout;
    assert!(
        rules.starts_with(
            "{\"allow\":{\"/v1/key/create/*\":{},\"/v1/key/list/*\":{}},\"deny\":{\"/v1/key/create/internal*\":{}},\
             \"created_at\":\"20"
        ) && rules.ends_with(&format!("\",\"created_by\":\"{admin}\"}}\n")),
        "{rules}"
    );
    let shown = place.shown(&["policy", "show", "minio"]);
    assert!(
        shown.starts_with("Allow:\n  · /v1/key/create/*\n  · /v1/key/list/*\n\nDeny:\n  · /v1/key/create/internal*\n\nCreated at: 20"),
        "{shown}"
    );
    let indented = place.shown(&["policy", "show", "minio", "--json"]);
    assert!(indented.starts_with("{\n  \"allow\": {\n"), "{indented}");

    let absent = place.kes("policy show other");
    assert_eq!(
        (absent.code, absent.stderr.as_str()),
        (Some(1), "Error: policy does not exist\n")
    );
    let denied = place.kes_as_user("policy info minio");
    assert_eq!(denied.code, Some(1));
    assert!(denied.stderr.ends_with("(prohibited by policy)\n"), "{denied:?}");
    let enclave = place.kes("policy ls -e tenant-1");
    assert!(
        enclave.code == Some(0) && enclave.stderr.contains("tenant-1"),
        "{enclave:?}"
    );
}

#[test]
fn identities_are_described_with_their_policy() {
    let place = Place::new();
    let user = identity_of(place.path(), &place.user);
    let own = place.kes_as_user("identity info").stdout;
    assert!(own.starts_with(&format!("Identity    {user}\n")), "{own}");
    assert!(
        own.ends_with(
            "\n\nPolicy      minio\nAllow\n            · /v1/key/create/*\n            · /v1/key/list/*\nDeny\n            · /v1/key/create/internal*\n"
        ),
        "{own}"
    );
    let own = json(&place.kes_as_user("identity info --json"));
    assert_eq!(own["policy"], "minio");
    assert_eq!(own["deny"], serde_json::json!({"/v1/key/create/internal*": {}}));
    let other = place.kes(&format!("identity info {user}")).stdout;
    assert!(
        other.starts_with(&format!("Identity    {user}\nPolicy      minio\n")),
        "{other}"
    );
    assert!(other.contains("\nRole        User\n"), "{other}");
    let mut both = [user, identity_of(place.path(), &place.admin)];
    both.sort();
    assert_eq!(
        place.kes("identity ls").stdout,
        format!("Identity\n{}\n{}\n", both[0], both[1])
    );
}
