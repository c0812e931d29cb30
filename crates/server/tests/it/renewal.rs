//! Certificates that are renewed while the server runs: what it takes on, and what it does not.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kes_server::{CertificateSource, ClientAuth, Settings, TlsSettings};
use kes_testkit::{Credentials, Running, TestCa, TestServer, ThreadLog, soon, until};
use kes_types::{Clock as _, ManualClock};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustls::HandshakeKind;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_hours(24);

/// A folder with a certificate and its key, and a server that uses them.
struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    running: Running,
}

impl Rig {
    async fn new(first: &Credentials) -> Self {
        Self::with(first, |_| ()).await
    }

    async fn with(first: &Credentials, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), first);
        let clock = Arc::new(ManualClock::default());
        let mut server = TestServer {
            clock: clock.clone(),
            ..TestServer::default()
        };
        server.settings.tls = files(folder.path());
        change(&mut server.settings);
        let running = server.start().await;
        let rig = Self {
            folder,
            clock,
            running,
        };
        assert!(rig.shows(first).await);
        rig
    }

    fn cert(&self) -> PathBuf {
        self.folder.path().join("public.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("private.key")
    }

    fn write(&self, credentials: &Credentials) {
        write(self.folder.path(), credentials);
    }

    async fn look(&self) {
        soon("the look", self.running.server().look_at_tls_files()).await;
    }

    async fn look_often(&self) {
        for _ in 0..5 {
            self.look().await;
        }
    }

    /// Whether new connections get this certificate.
    async fn shows(&self, credentials: &Credentials) -> bool {
        let connection = self.running.app().tls().await.unwrap();
        let shown = connection.get_ref().1.peer_certificates().unwrap();
        shown[0] == credentials.chain()[0]
    }

    /// Two looks see the change, and only the second takes it on.
    async fn takes_on(&self, former: &Credentials, fresh: &Credentials, how: &str) {
        self.look().await;
        assert!(self.shows(former).await, "{how}: after one look");
        self.look().await;
        assert!(self.shows(fresh).await, "{how}: after two looks");
    }
}

fn write(folder: &Path, credentials: &Credentials) {
    fs::write(folder.join("public.crt"), credentials.chain_pem()).unwrap();
    fs::write(folder.join("private.key"), credentials.key_pem()).unwrap();
}

fn files(folder: &Path) -> TlsSettings {
    TlsSettings {
        certificate: CertificateSource::Files {
            cert: folder.join("public.crt"),
            key: folder.join("private.key"),
            password: None,
        },
        client_auth: ClientAuth::AnyCertificate,
        ca: None,
    }
}

fn credentials<const N: usize>() -> [Credentials; N] {
    std::array::from_fn(|number| Credentials::self_signed(&format!("server-{number}")))
}

#[tokio::test]
async fn files_that_are_written_anew_in_any_way_are_taken_on() {
    let [first, second, third, fourth] = credentials();
    let rig = Rig::new(&first).await;
    let mut open = rig.running.app().connect().await.unwrap();
    open.send("GET", "/version", "").await.ok();

    // Truncated and written.
    rig.write(&second);
    rig.takes_on(&first, &second, "written").await;

    // Written beside and renamed, as most programs that renew do.
    let other = tempfile::tempdir_in(rig.folder.path()).unwrap();
    write(other.path(), &third);
    for name in ["public.crt", "private.key"] {
        fs::rename(other.path().join(name), rig.folder.path().join(name)).unwrap();
    }
    rig.takes_on(&second, &third, "renamed").await;

    // Removed and made, as some editors do, with the time of the old file, as a coarse clock gives it.
    let times: Vec<_> = [rig.cert(), rig.key()]
        .iter()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect();
    fs::remove_file(rig.cert()).unwrap();
    fs::remove_file(rig.key()).unwrap();
    rig.write(&fourth);
    for (path, time) in [rig.cert(), rig.key()].iter().zip(times) {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    rig.takes_on(&third, &fourth, "made anew").await;
    open.send("GET", "/version", "").await.ok();
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_followed() {
    let [first, second] = credentials();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // As Kubernetes mounts a secret.
    for (name, credentials) in [("..2026_1", &first), ("..2026_2", &second)] {
        fs::create_dir(root.join(name)).unwrap();
        write(&root.join(name), credentials);
    }
    symlink("..2026_1", root.join("..data")).unwrap();
    for name in ["public.crt", "private.key"] {
        symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let rig = Rig::with(&first, |settings| settings.tls = files(root)).await;
    symlink("..2026_2", root.join("..new")).unwrap();
    fs::rename(root.join("..new"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join("..2026_1")).unwrap();
    rig.takes_on(&first, &second, "the link").await;
}

#[tokio::test]
async fn what_changes_from_look_to_look_is_not_taken_on() {
    let [first, second, third] = credentials();
    let rig = Rig::new(&first).await;
    let (log, _guard) = ThreadLog::capture();
    for round in 0..6 {
        rig.write([&second, &third][round % 2]);
        rig.look().await;
        assert!(rig.shows(&first).await, "{round}");
    }
    rig.look().await;
    assert!(rig.shows(&third).await);
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line = log.line("the TLS files have changed: new connections get what they say now");
    assert!(line.contains("INFO") && line.contains("public.crt"), "{line}");
}

#[tokio::test]
async fn half_a_pair_waits_for_the_other_half() {
    let [first, second] = credentials();
    let rig = Rig::new(&first).await;
    let (log, _guard) = ThreadLog::capture();
    fs::write(rig.cert(), second.chain_pem()).unwrap();
    rig.look_often().await;
    assert!(rig.shows(&first).await);
    let line = log.line("cannot be used");
    for part in [
        "ERROR",
        "public.crt",
        "private.key",
        "replace the certificate and its key together",
    ] {
        assert!(line.contains(part), "{line}");
    }
    fs::write(rig.key(), second.key_pem()).unwrap();
    rig.takes_on(&first, &second, "the key").await;
    log.line("the TLS files can be used again");
    assert_eq!(log.text().lines().count(), 2, "{}", log.text());
}

/// Ways to make files unusable, what is said of it, and of which file.
#[tokio::test]
async fn files_that_cannot_be_used_leave_what_there_is_and_are_said_once() {
    type Break = fn(&Rig);
    const READABLE: &str = "put a PEM file there that the user of this process may read";
    const WHOLE: &str = "put the whole PEM file there";
    let cases: [(&str, Break, &str, &str, &str); 12] = [
        (
            "a folder",
            |rig| {
                fs::remove_file(rig.cert()).unwrap();
                fs::create_dir(rig.cert()).unwrap();
            },
            "public.crt",
            "it is a folder",
            READABLE,
        ),
        (
            "a folder",
            |rig| {
                fs::remove_file(rig.key()).unwrap();
                fs::create_dir(rig.key()).unwrap();
            },
            "private.key",
            "it is a folder",
            READABLE,
        ),
        (
            "huge",
            |rig| File::create(rig.cert()).unwrap().set_len(1 << 40).unwrap(),
            "public.crt",
            "larger than",
            READABLE,
        ),
        (
            "huge",
            |rig| File::create(rig.key()).unwrap().set_len(1 << 40).unwrap(),
            "private.key",
            "larger than",
            READABLE,
        ),
        (
            "half a certificate",
            |rig| halve(&rig.cert()),
            "public.crt",
            "is not usable",
            WHOLE,
        ),
        (
            "half a key",
            |rig| halve(&rig.key()),
            "private.key",
            "is not usable",
            WHOLE,
        ),
        (
            "empty",
            |rig| fs::write(rig.cert(), "").unwrap(),
            "public.crt",
            "there is no certificate",
            WHOLE,
        ),
        (
            "a dangling link",
            |rig| {
                fs::remove_file(rig.cert()).unwrap();
                symlink("nowhere", rig.cert()).unwrap();
            },
            "public.crt",
            "No such file",
            READABLE,
        ),
        (
            "a link to itself",
            |rig| {
                fs::remove_file(rig.key()).unwrap();
                symlink("private.key", rig.key()).unwrap();
            },
            "private.key",
            "symbolic link",
            READABLE,
        ),
        (
            "a pipe",
            |rig| pipe(&rig.cert()),
            "public.crt",
            "it is a pipe",
            READABLE,
        ),
        (
            "a pipe",
            |rig| pipe(&rig.key()),
            "private.key",
            "it is a pipe",
            READABLE,
        ),
        (
            "away",
            |rig| fs::remove_file(rig.key()).unwrap(),
            "private.key",
            "No such file",
            READABLE,
        ),
    ];
    let [first, second] = credentials();
    for (what, break_it, file, reason, remedy) in cases {
        let rig = Rig::new(&first).await;
        let (log, guard) = ThreadLog::capture();
        break_it(&rig);
        rig.look().await;
        assert_eq!(log.text(), "", "{what}: it may be on its way");
        rig.look_often().await;
        let line = log.line("cannot be used");
        for part in ["ERROR", file, reason, remedy] {
            assert!(line.contains(part), "{what}: {part}: {line}");
        }
        assert_eq!(log.text().lines().count(), 1, "{what}: {}", log.text());
        assert!(rig.shows(&first).await, "{what}");

        // What was there before is as good as what is new.
        for path in [rig.cert(), rig.key()] {
            _ = fs::remove_file(&path);
            _ = fs::remove_dir(&path);
        }
        rig.write(&first);
        rig.look_often().await;
        log.line("the TLS files are those in use again");
        assert_eq!(log.text().lines().count(), 2, "{what}: {}", log.text());
        rig.write(&second);
        rig.takes_on(&first, &second, what).await;
        drop(guard);
    }
}

fn halve(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, &text[..text.len() / 2]).unwrap();
}

/// Puts a pipe there that nobody writes to.
fn pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn a_file_that_may_not_be_read_any_more_leaves_what_there_is() {
    let [first, second] = credentials();
    let rig = Rig::new(&first).await;
    let (log, _guard) = ThreadLog::capture();
    fs::set_permissions(rig.key(), Permissions::from_mode(0o000)).unwrap();
    rig.look_often().await;
    assert!(rig.shows(&first).await);
    // Nothing is forbidden to root.
    if File::open(rig.key()).is_err() {
        let line = log.line("cannot be used");
        assert!(
            line.contains("private.key") && line.contains("Permission denied"),
            "{line}"
        );
    } else {
        assert_eq!(log.text(), "");
    }
    fs::set_permissions(rig.key(), Permissions::from_mode(0o600)).unwrap();
    rig.look_often().await;
    rig.write(&second);
    rig.takes_on(&first, &second, "a file that may be read again")
        .await;
}

#[tokio::test]
async fn another_fault_is_said_as_well() {
    let [first, second] = credentials();
    let rig = Rig::new(&first).await;
    let (log, _guard) = ThreadLog::capture();
    fs::remove_file(rig.key()).unwrap();
    rig.look_often().await;
    log.line("No such file");
    rig.write(&second);
    halve(&rig.cert());
    rig.look_often().await;
    log.line("public.crt' is not usable");
    assert_eq!(log.text().lines().count(), 2, "{}", log.text());
    assert!(rig.shows(&first).await);
}

#[tokio::test]
async fn a_key_with_a_password_is_renewed_with_the_same_password() {
    const PASSWORD: &str = "correct-horse";
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs");
    let first = Credentials::self_signed("first");
    let rig = Rig::with(&first, |settings| {
        let CertificateSource::Files { password, .. } = &mut settings.tls.certificate else {
            panic!()
        };
        *password = Some(Zeroizing::new(PASSWORD.to_owned()));
    })
    .await;
    let (log, _guard) = ThreadLog::capture();
    // When that certificate is valid.
    rig.clock.advance(1000 * DAY);
    fs::copy(certs.join("sec1.crt"), rig.cert()).unwrap();
    fs::copy(certs.join("sec1-aes256.key"), rig.key()).unwrap();
    rig.look().await;
    rig.look().await;
    assert!(!rig.shows(&first).await);
    log.line("the TLS files have changed: new connections get what they say now");

    // A key with another password takes a reload, since the password is in the configuration.
    let other = kes_crypto::pem::private_key(first.key_pem().as_bytes(), None).unwrap();
    let encrypted = kes_crypto::pem::encrypt_private_key(other.expose_secret(), b"other").unwrap();
    fs::write(rig.cert(), first.chain_pem()).unwrap();
    fs::write(rig.key(), encrypted.as_bytes()).unwrap();
    rig.look_often().await;
    assert!(!rig.shows(&first).await);
    let line = log.line("cannot be used");
    assert!(
        line.contains("private.key") && line.contains("set tls.password"),
        "{line}"
    );
    assert!(!line.contains(PASSWORD) && !line.contains("other"), "{line}");
}

#[tokio::test]
async fn ca_files_are_watched_where_clients_are_verified() {
    let [first] = credentials();
    let (old, new) = (TestCa::new("old"), TestCa::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let cas = folder.path().join("cas");
    fs::create_dir(&cas).unwrap();
    fs::write(cas.join("old.pem"), old.pem()).unwrap();
    let path = cas.clone();
    let mut server = TestServer::default();
    write(folder.path(), &first);
    server.settings.tls = TlsSettings {
        client_auth: ClientAuth::Verified,
        ca: Some(path),
        ..files(folder.path())
    };
    let running = server.start().await;
    let look = async || soon("the look", running.server().look_at_tls_files()).await;
    let is_trusted = async |ca: &TestCa| {
        let client = running.client(&ca.issue("client"));
        soon("an answer", client.try_send("GET", "/version", ""))
            .await
            .is_ok()
    };
    assert!(is_trusted(&old).await && !is_trusted(&new).await);

    // Another file in the folder.
    fs::write(cas.join("new.pem"), new.pem()).unwrap();
    look().await;
    assert!(!is_trusted(&new).await);
    look().await;
    assert!(is_trusted(&old).await && is_trusted(&new).await);

    // One that is no CA's.
    let (log, guard) = ThreadLog::capture();
    fs::write(cas.join("garbage.pem"), "garbage").unwrap();
    for _ in 0..4 {
        look().await;
    }
    let line = log.line("cannot be used");
    assert!(
        line.contains("garbage.pem") && line.contains("put CA certificates there"),
        "{line}"
    );
    assert!(is_trusted(&old).await && is_trusted(&new).await);
    fs::remove_file(cas.join("garbage.pem")).unwrap();
    pipe_new(&cas.join("pipe.pem"));
    for _ in 0..4 {
        look().await;
    }
    assert!(log.text().contains("pipe.pem"), "{}", log.text());
    fs::remove_file(cas.join("pipe.pem")).unwrap();

    // And one less.
    fs::remove_file(cas.join("old.pem")).unwrap();
    look().await;
    look().await;
    assert!(!is_trusted(&old).await && is_trusted(&new).await);
    drop(guard);
}

fn pipe_new(path: &Path) {
    fs::write(path, "").unwrap();
    pipe(path);
}

#[tokio::test]
async fn cas_of_nobody_who_is_verified_are_not_looked_at() {
    let [first] = credentials();
    let rig = Rig::with(&first, |settings| settings.tls.ca = Some("/nowhere/ca".into())).await;
    let (log, _guard) = ThreadLog::capture();
    rig.look_often().await;
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn a_reload_takes_files_on_at_once_and_the_watch_has_nothing_to_add() {
    let [first, second, third] = credentials();
    let rig = Rig::new(&first).await;
    rig.write(&second);
    rig.look().await;
    let mut settings = TestServer::default_settings();
    settings.tls = files(rig.folder.path());
    rig.running.server().reload(settings, None).unwrap();
    assert!(rig.shows(&second).await);
    let (log, _guard) = ThreadLog::capture();
    rig.look_often().await;
    assert_eq!(log.text(), "");

    // To files elsewhere, while a change of the old ones is on its way.
    let other = tempfile::tempdir().unwrap();
    write(other.path(), &third);
    rig.write(&first);
    rig.look().await;
    let mut settings = TestServer::default_settings();
    settings.tls = files(other.path());
    rig.running.server().reload(settings, None).unwrap();
    rig.look_often().await;
    assert!(rig.shows(&third).await);
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn reloads_and_looks_at_the_same_time_end_with_what_is_configured_last() {
    let pairs: [Credentials; 2] = credentials();
    let rig = Rig::new(&pairs[0]).await;
    let folders: Vec<_> = pairs
        .iter()
        .map(|pair| {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), pair);
            folder
        })
        .collect();
    let server = rig.running.server();
    for round in 0..40 {
        let now = round % 2;
        // The files of the configuration that goes change as well.
        write(folders[1 - now].path(), &Credentials::self_signed("late"));
        write(folders[now].path(), &pairs[now]);
        let mut settings = TestServer::default_settings();
        settings.tls = files(folders[now].path());
        let reload = async {
            tokio::task::yield_now().await;
            server.reload(settings, None).unwrap();
        };
        tokio::join!(rig.look(), rig.look(), reload, rig.look());
        assert!(rig.shows(&pairs[now]).await, "{round}");
    }
}

#[tokio::test]
async fn a_pair_that_clients_would_refuse_does_not_replace_one_that_they_accept() {
    let [first] = credentials();
    let rig = Rig::new(&first).await;
    let now = rig.clock.now();
    let (log, _guard) = ThreadLog::capture();
    rig.write(&Credentials::expired("expired"));
    rig.look_often().await;
    assert!(rig.shows(&first).await);
    let line = log.line("cannot be used");
    for part in [
        "public.crt",
        "expired at 1971-01-01T00:00:00Z",
        "put a certificate there that is valid now",
    ] {
        assert!(line.contains(part), "{line}");
    }

    let early = Credentials::valid_between("early", now + DAY, now + 300 * DAY);
    rig.write(&early);
    rig.look_often().await;
    assert!(rig.shows(&first).await);
    log.line("is not valid before 2024-05-02T00:00:00Z");
    rig.clock.advance(DAY - Duration::from_secs(1));
    rig.look_often().await;
    assert!(rig.shows(&first).await);
    // Nobody has to touch the files.
    rig.clock.advance(Duration::from_secs(1));
    rig.look().await;
    assert!(rig.shows(&early).await);
    log.line("the TLS files can be used again");
    assert_eq!(log.text().lines().count(), 3, "{}", log.text());
}

#[tokio::test]
async fn where_no_certificate_is_valid_any_will_do() {
    let expired = Credentials::expired("first");
    let rig = Rig::new(&expired).await;
    let other = Credentials::expired("other");
    rig.write(&other);
    rig.takes_on(&expired, &other, "an expired one for another").await;
}

#[tokio::test]
async fn that_a_certificate_ends_is_said_daily_from_thirty_days_before() {
    let now = ManualClock::default().now();
    let first = Credentials::valid_between("first", now - 100 * DAY, now + 31 * DAY);
    let (log, _guard) = ThreadLog::capture();
    let rig = Rig::new(&first).await;
    let lines = || log.text().lines().map(str::to_owned).collect::<Vec<_>>();
    rig.look_often().await;
    assert_eq!(lines(), [""; 0]);
    assert_eq!(rig.running.server().certificate_dates(), None);
    let expiry = (now + 31 * DAY).unix_timestamp();
    let metric = format!("kes_tls_certificate_expiry_timestamp_seconds {expiry}\n");
    let metrics = rig.running.admin().get("/v1/metrics").await.ok().text();
    assert!(metrics.contains(&metric), "{metrics}");

    rig.clock.advance(DAY);
    rig.look_often().await;
    let line = log.line("expires at 2024-06-01T00:00:00Z, in 30 days");
    assert!(
        line.contains("WARN")
            && line.contains("public.crt")
            && line.contains("put a new one and its key in place"),
        "{line}"
    );
    assert_eq!(
        rig.running.server().certificate_dates().unwrap(),
        "expires at 2024-06-01T00:00:00Z, in 30 days"
    );
    rig.clock.advance(DAY - Duration::from_secs(1));
    rig.look_often().await;
    // A reload adds none.
    let mut settings = TestServer::default_settings();
    settings.tls = files(rig.folder.path());
    rig.running.server().reload(settings, None).unwrap();
    assert_eq!(lines().len(), 1);
    rig.clock.advance(Duration::from_secs(1));
    rig.look_often().await;
    assert_eq!(lines().len(), 2);
    for _ in 0..28 {
        rig.clock.advance(DAY);
        rig.look_often().await;
    }
    assert_eq!(lines().len(), 30);
    log.line("in 1 day:");

    // Once it has ended, it is an error, and at once.
    rig.clock.advance(DAY + Duration::from_secs(1));
    rig.look_often().await;
    let line = log.line("expired at 2024-06-01T00:00:00Z");
    assert!(line.contains("ERROR") && line.contains("public.crt"), "{line}");
    assert_eq!(lines().len(), 31);

    // Another certificate that ends soon is said at once, and one that does not, not at all.
    let now = rig.clock.now();
    rig.write(&Credentials::valid_between(
        "second",
        now - 100 * DAY,
        now + 5 * DAY,
    ));
    rig.look_often().await;
    log.line("expires at 2024-06-06T00:00:01Z, in 5 days");
    rig.write(&Credentials::self_signed("third"));
    rig.look_often().await;
    let seen = lines().len();
    rig.clock.advance(40 * DAY);
    rig.look_often().await;
    assert_eq!(lines().len(), seen);
    let metrics = rig.running.admin().get("/v1/metrics").await.ok().text();
    assert!(!metrics.contains(&metric), "{metrics}");
}

#[tokio::test]
async fn the_certificate_of_a_development_server_ends_too() {
    let now = ManualClock::default().now();
    let made = Credentials::valid_between("made", now - 100 * DAY, now + 10 * DAY);
    let clock = Arc::new(ManualClock::default());
    let mut server = TestServer {
        clock: clock.clone(),
        ..TestServer::default()
    };
    server.settings.tls.certificate = CertificateSource::Memory {
        cert: made.chain_pem(),
        key: Zeroizing::new(made.key_pem()),
    };
    let (log, _guard) = ThreadLog::capture();
    let running = server.start().await;
    let line = log.line("in 10 days");
    assert!(line.contains("a restart makes a new one"), "{line}");
    clock.advance(DAY);
    running.server().look_at_tls_files().await;
    log.line("in 9 days");
}

#[tokio::test]
async fn the_cas_of_the_system_are_read_anew_now_and_then() {
    let [first] = credentials();
    let ca = TestCa::new("ca");
    let cas = tempfile::NamedTempFile::new().unwrap();
    fs::write(cas.path(), ca.pem()).unwrap();
    let rig = Rig::with(&first, |settings| {
        settings.tls.client_auth = ClientAuth::Verified;
        settings.tls.ca = Some(cas.path().to_owned());
    });
    let rig = rig.await;
    let (log, _guard) = ThreadLog::capture();
    let client = rig.running.client(&ca.issue("client"));
    let kind = async || {
        client.get("/version").await.ok();
        let connection = client.tls().await.unwrap();
        connection.get_ref().1.handshake_kind().unwrap()
    };
    rig.look().await;
    assert_eq!(kind().await, HandshakeKind::Resumed);
    rig.clock.advance(Duration::from_secs(15 * 60 - 1));
    rig.look_often().await;
    assert_eq!(kind().await, HandshakeKind::Resumed);
    // Sessions are resumed with those CAs only that they were verified against.
    rig.clock.advance(Duration::from_secs(1));
    rig.look().await;
    let connection = client.tls().await.unwrap();
    assert_eq!(connection.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    rig.look_often().await;
    assert_eq!(kind().await, HandshakeKind::Resumed);
    assert!(!log.text().contains("TLS files"), "{}", log.text());
}

#[tokio::test]
async fn a_server_that_looks_by_itself_takes_files_on_and_ends() {
    let [first, second] = credentials();
    let mut rig = Rig::with(&first, |_| ()).await;
    rig.running
        .server
        .as_mut()
        .unwrap()
        .watch_tls(Duration::from_millis(1));
    rig.write(&second);
    until("the new certificate is shown", async || rig.shows(&second).await).await;
    soon("the end", rig.running.shutdown(Duration::from_secs(3600))).await;
}
