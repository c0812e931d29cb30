//! The commands that look into a server: policies, identities, logs, metrics.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Pid, Signal, kill_process};

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

    /// A command that goes on until it is ended.
    fn follow(&self, arguments: &[&str]) -> Daemon {
        Daemon::spawn(self.command(arguments))
    }

    /// Follows the audit log, of which everything up to now has been read.
    fn audit(&self) -> Daemon {
        let log = self.follow(&["log"]);
        assert_eq!(log.stdout_until("Time"), [HEADER]);
        silent(&self.kes("ls up-to-here"));
        log.stdout_until("/v1/key/list/up-to-here");
        log
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::kes::command(self.path(), arguments);
        command.envs(self.variables()).stdin(Stdio::null());
        command
    }

    /// What a command shows on a terminal.
    fn shown(&self, arguments: &[&str]) -> String {
        let (terminal, side) = terminal::open();
        let mut command = self.command(arguments);
        command.stdout(side);
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

const HEADER: &str =
    "Time      Status  Identity              IP               API                             Latency";

/// Ends a command that must have nothing more to say.
fn end(followed: Daemon, signal: Signal) -> Option<i32> {
    followed.signal(signal);
    let (status, rest) = followed.wait();
    assert!(rest.is_empty(), "{rest:?}");
    status.code()
}

#[test]
fn the_logs_are_shown_as_they_are_written() {
    let place = Place::new();
    let table = place.audit();
    // The request that the other command begins with is in the log.
    let json = place.follow(&["log", "--json", "--audit"]);
    table.stdout_until("/v1/log/audit");
    let errors = place.follow(&["log", "--error"]);
    table.stdout_until("/v1/log/error");
    let errors_json = place.follow(&["log", "--error", "--json", "--audit=false"]);
    table.stdout_until("/v1/log/error");

    silent(&place.kes("key create my-key"));
    let admin = identity_of(place.path(), &place.admin);
    let rows = table.stdout_until("/v1/key/create/my-key");
    let row = rows.last().unwrap();
    assert!(
        row.contains(&format!(
            "  200     {}  127.0.0.1        /v1/key/create/my-key           ",
            &admin[..20]
        )),
        "{row}"
    );
    let events = json.stdout_until("/v1/key/create/my-key");
    let event: serde_json::Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(
        (
            event["request"]["ip"].as_str(),
            event["request"]["identity"].as_str()
        ),
        (Some("127.0.0.1"), Some(&*admin))
    );
    assert_eq!(event["response"]["code"], 200);
    assert!(event["response"]["time"].as_u64().unwrap() > 1000, "{event}");

    fs::write(place.path().join("config.yml"), "nonsense: true\n").unwrap();
    place.server.signal(Signal::HUP);
    errors.stdout_until("cannot reload");
    let event = errors_json.stdout_until("cannot reload");
    let event: serde_json::Value = serde_json::from_str(event.last().unwrap()).unwrap();
    assert!(
        event["message"].as_str().unwrap().contains("cannot reload"),
        "{event}"
    );

    // Ctrl-C is how this ends; being ended is another thing.
    assert_eq!(end(table, Signal::INT), Some(0));
    assert_eq!(end(json, Signal::TERM), Some(1));
    // So is a server that stops.
    let Place {
        server, dir: _dir, ..
    } = place;
    server.stop();
    assert_eq!(errors.wait().0.code(), Some(0));
}

#[test]
fn a_log_that_breaks_off_is_an_error() {
    let Place {
        dir, server, admin, ..
    } = Place::new();
    let variables = [
        ("MINIO_KES_API_KEY", admin.as_str()),
        ("MINIO_KES_SERVER", server.address()),
        ("SSL_CERT_FILE", "public.crt"),
    ];
    let mut command = crate::kes::command(dir.path(), &["log"]);
    command.envs(variables);
    let log = Daemon::spawn(command);
    log.stdout_until("Time");
    let address = server.address().to_owned();
    server.kill();
    let error = log.stderr_until("Error: ");
    assert!(error[0].contains(&address), "{error:?}");
    assert_eq!(log.wait().0.code(), Some(1));
}

#[test]
fn a_log_that_nobody_reads_ends() {
    let place = Place::new();
    let mut log = place
        .command(&["log"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut header = String::new();
    BufReader::new(log.stdout.take().unwrap())
        .read_line(&mut header)
        .unwrap();
    assert_eq!(header.trim_end(), HEADER);
    // Nothing is logged any more, and it ends all the same.
    let output = log.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn a_log_whose_reader_is_slow_can_be_interrupted() {
    let place = Place::new();
    let other = place.audit();
    let (_reader, writer) = UnixStream::pair().unwrap();
    set_socket_send_buffer_size(&writer, 1).unwrap();
    let mut log = place
        .command(&["log", "--json"])
        .stdout(OwnedFd::from(writer))
        .spawn()
        .unwrap();
    other.stdout_until("/v1/log/audit");
    for _ in 0..30 {
        place.kes("ls");
        other.stdout_until("/v1/key/list/");
    }
    kill_process(Pid::from_child(&log), Signal::INT).unwrap();
    assert_eq!(log.wait().unwrap().code(), Some(0));
}

#[test]
fn logs_were_followed_by_other_names() {
    let place = Place::new();
    let table = place.audit();
    let by_name = |line: &[&str], note: &str| {
        let log = place.follow(line);
        assert_eq!(log.stderr_until("deprecated"), [note]);
        table.stdout_until("/v1/log/");
        log
    };
    let json = by_name(&["log", "trace"], "deprecated: kes log trace: use kes log");
    let rows = by_name(&["audit", "trace"], "deprecated: kes audit trace: use kes log");
    silent(&place.kes("ls zzz"));
    let event = json.stdout_until("/v1/key/list/zzz");
    assert!(event.last().unwrap().starts_with("{\"time\":\""), "{event:?}");
    assert_eq!(rows.stdout_until("/v1/key/list/zzz")[0], HEADER);

    let errors = by_name(
        &["log", "trace", "--type", "error"],
        "deprecated: kes log trace: use kes log --error",
    );
    assert_eq!(end(errors, Signal::INT), Some(0));
}

#[test]
fn metrics_are_printed_again_and_again() {
    let place = Place::new();
    silent(&place.kes("key create my-key"));
    let metrics = place.follow(&["metric", "--rate=10ms"]);
    let polled = [(); 3].map(|()| metrics.stdout_until("}").pop().unwrap());
    let polled = polled.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    assert!(
        polled[0]["kes_http_request_success"].as_u64() >= Some(1),
        "{polled:?}"
    );
    assert!(
        polled[0]["kes_http_response_time"]["10000000000"].as_u64() >= Some(1),
        "{polled:?}"
    );
    assert!(polled[0]["kes_system_up_time"].as_u64() < polled[2]["kes_system_up_time"].as_u64());
    metrics.signal(Signal::INT);
    assert_eq!(metrics.wait().0.code(), Some(0));

    let old = place.follow(&["log", "trace", "--type=metric"]);
    assert_eq!(
        old.stderr_until("deprecated"),
        ["deprecated: kes log trace: use kes metric"]
    );
    old.stdout_until("kes_system_up_time");
    // Another line may come in between.
    old.signal(Signal::INT);
    assert_eq!(old.wait().0.code(), Some(0));

    let metrics = place.follow(&["metric", "--rate=10ms"]);
    metrics.stdout_until("kes_system_up_time");
    let Place {
        server, dir: _dir, ..
    } = place;
    server.stop();
    assert!(metrics.stderr_until("Error: ")[0].contains("cannot reach the server"));
    assert_eq!(metrics.wait().0.code(), Some(1));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    for line in [
        &["log"][..],
        &["metric"],
        &["policy", "ls"],
        &["completion", "bash"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(line).stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line:?}: {error}");
        assert_eq!(
            error, "Error: cannot write to the standard output: No space left on device (os error 28)\n",
            "{line:?}"
        );
    }
}
