//! The health listener of `kes server`, and certificates that change while it runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use kes_testkit::{Credentials, TestClient};
use kes_types::{Clock as _, SystemClock};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::kes::{fail, run, succeed};
use crate::server::tutorial;

/// Longer than anything here takes, so that a test that waits in vain fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of the tutorial with a health listener at `address`.
fn with_health(dir: &Path, address: &str) -> String {
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    let config = config + "health:\n  address: " + address + "\n";
    fs::write(dir.join("config.yml"), &config).unwrap();
    config
}

/// The answer to a request without TLS.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn probes_and_scrapers_are_answered_without_a_certificate() {
    let dir = tutorial();
    let dir = dir.path();
    let config = with_health(dir, "127.0.0.1:0");
    let server = Daemon::start(dir, &["--config", "config.yml"]);
    let health = server.value("Health").strip_prefix("· http://").unwrap();
    assert_ne!(health, server.address());
    assert!(get(health, "/v1/ready").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(get(health, "/version").contains("\r\n\r\n{\"version\":\""));
    let metrics = get(health, "/v1/metrics");
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    for line in [
        "\nkes_keystore_online 1\n",
        "\nkes_tls_certificate_expiry_timestamp_seconds ",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(get(health, "/v1/status").starts_with("HTTP/1.1 404 "));

    // What listens goes on listening; another address takes a restart.
    for other in [
        config.replace("health:\n  address: 127.0.0.1:0\n", ""),
        config.replace("127.0.0.1:0\n", "0.0.0.0:0\n"),
    ] {
        fs::write(dir.join("config.yml"), other).unwrap();
        server.signal(Signal::HUP);
        let lines = server.stderr_until("a new health.address takes a restart");
        assert!(lines.last().unwrap().contains("level=WARN"), "{lines:?}");
        server.stdout_until("=> Server has reloaded");
        assert!(get(health, "/v1/ready").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let health = health.to_owned();
    server.stop();
    assert!(TcpStream::connect(health).is_err());
}

#[test]
fn there_is_no_health_listener_unless_one_is_wanted() {
    let dir = tutorial();
    let server = Daemon::start(dir.path(), &["--config", "config.yml"]);
    assert!(
        !server.banner.iter().any(|line| line.starts_with("Health")),
        "{:?}",
        server.banner
    );
    server.stop();
}

#[test]
fn a_health_address_that_is_taken_is_named_with_its_line_and_nothing_starts() {
    let dir = tutorial();
    let dir = dir.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = with_health(dir, &address);
    let line = config.lines().count();
    let error = fail(dir, &["server", "--config", "config.yml"]);
    let expected = format!("config.yml:{line}: health.address: cannot listen on {address}: ");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_health_address_that_others_can_reach_is_warned_of() {
    let dir = tutorial();
    let dir = dir.path();
    let config = with_health(dir, "0.0.0.0:0");
    let line = config.lines().count();
    let warning =
        format!("Warning: config.yml:{line}: health.address: can be reached from beyond a private network");
    let ran = run(dir, &["server", "--check", "--config", "config.yml"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains(&warning), "{ran:?}");
    let ran = run(dir, &["server", "--check", "--strict", "--config", "config.yml"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let server = Daemon::start(dir, &["--config", "config.yml"]);
    assert!(server.stderr_until("health.address")[0].starts_with(&warning));
    assert!(server.value("Health").starts_with("· http://"));
    server.stop();

    fs::write(
        dir.join("config.yml"),
        config
            .replace(
                "health:\n  address: 0.0.0.0:0",
                "health:\n  address: 127.0.0.1:7373",
            )
            .replace("address: 127.0.0.1:0", "address: 127.0.0.1:7373"),
    )
    .unwrap();
    let error = fail(dir, &["server", "--config", "config.yml"]);
    assert!(
        error.starts_with(&format!(
            "config.yml:{line}: health.address: is where the server listens"
        )),
        "{error}"
    );
}

/// Makes the server's certificate and key anew.
fn renew(dir: &Path, expiry: &str) {
    succeed(
        dir,
        &[
            "identity",
            "new",
            "--force",
            "--expiry",
            expiry,
            "--ip",
            "127.0.0.1",
            "localhost",
        ],
    );
}

/// The certificate in the file of the server's.
fn on_disk(dir: &Path) -> Vec<u8> {
    let pem = fs::read(dir.join("public.crt")).unwrap();
    kes_crypto::pem::certificates(&pem).unwrap().remove(0)
}

/// The certificate that a new connection is shown.
fn shown(server: &Daemon) -> Vec<u8> {
    let client = TestClient::new(
        server.address().parse().unwrap(),
        Some(&Credentials::self_signed("client")),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = client.tls().await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    })
}

#[test]
fn a_certificate_that_is_renewed_is_shown_without_a_reload() {
    let dir = tutorial();
    let dir = dir.path();
    renew(dir, "8760h");
    let server = Daemon::start(dir, &["--config", "config.yml"]);
    let first = on_disk(dir);
    assert_eq!(shown(&server), first);

    renew(dir, "8760h");
    let renewed = on_disk(dir);
    assert_ne!(first, renewed);
    let started = Instant::now();
    while shown(&server) != renewed {
        assert!(started.elapsed() < PATIENCE, "the old certificate is still shown");
    }
    let line = server.stderr_until("the TLS files have changed").pop().unwrap();
    assert!(
        line.contains("level=INFO") && line.contains("certificate=public.crt"),
        "{line}"
    );

    fs::write(dir.join("public.crt"), "garbage").unwrap();
    let line = server.stderr_until("cannot be used").pop().unwrap();
    for part in [
        "level=ERROR",
        "public.crt",
        "there is no certificate",
        "remedy=\"put the whole PEM file there\"",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(shown(&server), renewed);
    server.stop();
}

#[test]
fn a_certificate_that_ends_soon_is_told_of_at_the_start_and_by_a_check() {
    let dir = tutorial();
    let dir = dir.path();
    renew(dir, "8760h");
    let check = |dir| run(dir, &["server", "--check", "--config", "config.yml"]);
    assert_eq!((check(dir).code, check(dir).stderr.as_str()), (Some(0), ""));

    let (now, day) = (SystemClock.now(), Duration::from_hours(24));
    let ending = Credentials::valid_between("localhost", now - 100 * day, now + 10 * day);
    fs::write(dir.join("public.crt"), ending.chain_pem()).unwrap();
    fs::write(dir.join("private.key"), ending.key_pem()).unwrap();
    let ran = check(dir);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with("Warning: public.crt: the TLS certificate expires at ")
            && ran.stderr.contains(" days: put a new one"),
        "{ran:?}"
    );
    let server = Daemon::start(dir, &["--config", "config.yml"]);
    assert!(server.value("Certificate").starts_with("expires at "));
    let line = server
        .stderr_until("the TLS certificate expires at")
        .pop()
        .unwrap();
    assert!(
        line.contains("level=WARN") && line.contains("certificate=public.crt"),
        "{line}"
    );
    server.stop();
}
