//! Reloads: what changes at once, and what nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use kes_keyring::CacheSettings;
use kes_keystore::StoreOp;
use kes_server::{CertificateSource, ClientAuth, Settings, TlsSettings};
use kes_testkit::{
    Credentials, FaultyStore, Gate, Protocol, Running, Step, TestCa, TestServer, admin, app, soon, until,
};
use rustls::HandshakeKind;
use zeroize::Zeroizing;

const DENIED: &str = "not authorized: insufficient permissions";
const GENERATE: &str = "/v1/key/generate/my-key";

/// The settings of the running server.
fn same() -> Settings {
    TestServer::default_settings()
}

async fn over(store: &FaultyStore) -> Running {
    let running = TestServer::over(Arc::new(store.clone())).start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    running.app().put(GENERATE, "").await.ok();
    running
}

#[tokio::test]
async fn connections_streams_and_the_cache_survive() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    let reads = store.calls(StoreOp::Get);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = running.app().over(protocol).connect().await.unwrap();
        connection.send("PUT", GENERATE, "").await.ok();
        let mut following = running.admin().over(protocol).connect().await.unwrap();
        let mut audit = following.follow("/v1/log/audit").await;
        for _ in 0..3 {
            running.server().reload(same(), None).unwrap();
            running.server().reload_tls().unwrap();
            connection.send("PUT", GENERATE, "").await.ok();
            running.app().put(GENERATE, "").await.ok();
        }
        for _ in 0..6 {
            assert!(soon("the event", audit.frame()).await.unwrap().unwrap().is_data());
        }
    }
    assert_eq!(store.calls(StoreOp::Get), reads);
    assert_eq!(store.closed(), 0);
}

#[tokio::test]
async fn an_old_store_is_closed_once_after_its_last_request() {
    let (old, new) = (FaultyStore::new(), FaultyStore::new());
    let mut server = TestServer::over(Arc::new(old.clone())).with_own_error_log();
    server.settings.limits.header_timeout = Duration::from_secs(3600);
    let mut running = server.start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    new.put("another", &old.value("my-key").unwrap());
    let gate = Gate::new();
    old.next(StoreOp::Get, Step::WaitBefore(gate.clone()));
    let client = running.app();
    let request = tokio::spawn(async move { client.put(GENERATE, "").await });
    soon("the request reaches the store", gate.reached()).await;

    let keyring = running
        .environment
        .keyring(Arc::new(new.clone()), CacheSettings::default());
    running.server().reload(same(), Some(keyring)).unwrap();
    // New requests go to the new store, while the old request goes on with the old one.
    running
        .app()
        .put(GENERATE, "")
        .await
        .fails(404, "key does not exist");
    running.app().put("/v1/key/generate/another", "").await.ok();
    assert_eq!(old.closed(), 0);
    assert!(!request.is_finished());
    gate.open();
    soon("the answer", request).await.unwrap().ok();
    until("the old store is closed", async || old.closed() > 0).await;
    assert_eq!(new.closed(), 0);

    let keyring = running
        .environment
        .keyring(Arc::new(new.clone()), CacheSettings::default());
    running.server().reload(same(), Some(keyring)).unwrap();
    until("the replaced key ring closes its store", async || {
        new.closed() > 0
    })
    .await;
    soon("the end", running.shutdown(Duration::from_secs(10))).await;
    assert_eq!((old.closed(), new.closed()), (1, 2));
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing_and_closes_what_it_brought() {
    let (store, unused) = (FaultyStore::new(), FaultyStore::new());
    let running = over(&store).await;
    let reads = store.calls(StoreOp::Get);
    let broken: [fn(&mut Settings); 4] = [
        |settings| settings.policies[0].identities.push(admin().identity()),
        |settings| {
            settings.tls.certificate = CertificateSource::Memory {
                cert: Credentials::self_signed("one").chain_pem(),
                key: Zeroizing::new(Credentials::self_signed("other").key_pem()),
            };
        },
        |settings| {
            settings.tls.certificate = CertificateSource::Files {
                cert: "/nowhere/public.crt".into(),
                key: "/nowhere/private.key".into(),
                password: None,
            };
        },
        |settings| {
            settings.tls.client_auth = ClientAuth::Verified;
            settings.tls.ca = Some("/nowhere/ca".into());
        },
    ];
    for (round, break_it) in broken.iter().enumerate() {
        let mut settings = same();
        settings.policies[0].policy.allow.clear();
        break_it(&mut settings);
        let keyring = running
            .environment
            .keyring(Arc::new(unused.clone()), CacheSettings::default());
        running.server().reload(settings, Some(keyring)).unwrap_err();
        until("the new store is closed", async || unused.closed() == round + 1).await;
        running.app().put(GENERATE, "").await.ok();
        running.admin().get("/v1/metrics").await.ok();
    }
    assert_eq!((store.closed(), store.calls(StoreOp::Get)), (0, reads));
}

#[tokio::test]
async fn policies_change_for_connections_that_are_open() {
    let store = FaultyStore::new();
    let running = over(&store).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = running.app().over(protocol).connect().await.unwrap();
        connection.send("PUT", GENERATE, "").await.ok();
        let mut settings = same();
        settings.policies.clear();
        running.server().reload(settings, None).unwrap();
        connection.send("PUT", GENERATE, "").await.fails(403, DENIED);
        let mut settings = same();
        settings.policies.clear();
        settings.admin = Some(app().identity());
        running.server().reload(settings, None).unwrap();
        connection.send("GET", "/v1/metrics", "").await.ok();
        running.server().reload(same(), None).unwrap();
        connection.send("GET", "/v1/metrics", "").await.fails(403, DENIED);
        connection.send("PUT", GENERATE, "").await.ok();
    }
}

fn write(folder: &Path, credentials: &Credentials) {
    std::fs::write(folder.join("public.crt"), credentials.chain_pem()).unwrap();
    std::fs::write(folder.join("private.key"), credentials.key_pem()).unwrap();
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

/// The certificate that new handshakes are shown.
async fn shown(running: &Running) -> Vec<u8> {
    let connection = running.app().tls().await.unwrap();
    connection.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn new_certificate_files_are_shown_to_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (
        Credentials::self_signed("first"),
        Credentials::self_signed("second"),
    );
    write(folder.path(), &first);
    let mut server = TestServer::default();
    server.settings.tls = files(folder.path());
    let running = server.start().await;
    let mut open = running.app().connect().await.unwrap();
    open.send("GET", "/version", "").await.ok();
    assert_eq!(shown(&running).await, first.chain()[0].to_vec());

    write(folder.path(), &second);
    assert_eq!(shown(&running).await, first.chain()[0].to_vec());
    running.server().reload_tls().unwrap();
    assert_eq!(shown(&running).await, second.chain()[0].to_vec());
    open.send("GET", "/version", "").await.ok();

    // Files that are not usable leave what there is, whatever is wrong with them.
    let (cert, key) = (
        folder.path().join("public.crt"),
        folder.path().join("private.key"),
    );
    for (file, content) in [
        (&cert, first.chain_pem()),
        (&cert, String::new()),
        (&cert, "garbage".to_owned()),
        (&cert, second.key_pem()),
        (&key, first.key_pem()),
        (&key, String::new()),
        (&key, second.chain_pem()),
        (&key, second.key_pem()[..60].to_owned()),
    ] {
        write(folder.path(), &second);
        std::fs::write(file, content).unwrap();
        let error = running.server().reload_tls().unwrap_err();
        assert!(
            format!("{error}").contains(folder.path().to_str().unwrap()),
            "{error}"
        );
        assert_eq!(shown(&running).await, second.chain()[0].to_vec());
    }
    std::fs::remove_file(&key).unwrap();
    running.server().reload_tls().unwrap_err();
    assert_eq!(shown(&running).await, second.chain()[0].to_vec());
    write(folder.path(), &first);
    running.server().reload_tls().unwrap();
    assert_eq!(shown(&running).await, first.chain()[0].to_vec());
}

#[tokio::test]
async fn a_session_of_a_client_that_is_no_longer_trusted_is_not_resumed() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (TestCa::new("old"), TestCa::new("new"));
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, old.pem()).unwrap();
        let mut server = TestServer::default();
        server.settings.tls.client_auth = ClientAuth::Verified;
        server.settings.tls.ca = Some(ca.clone());
        let running = server.start().await;
        let credentials = old.issue("client");
        let client =
            kes_testkit::TestClient::with_versions(running.address(), Some(&credentials), &[version]);
        let own = "/v1/identity/self/describe";
        client.get(own).await.ok();
        let resumed = client.tls().await.unwrap();
        assert_eq!(
            resumed.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Resumed),
            "{version:?}"
        );

        std::fs::write(&ca, new.pem()).unwrap();
        running.server().reload_tls().unwrap();
        assert!(
            soon("a refusal", client.try_send("GET", own, "")).await.is_err(),
            "{version:?}"
        );
        running.client(&new.issue("client")).get(own).await.ok();

        // And once it is trusted again, it is verified again.
        std::fs::write(&ca, old.pem()).unwrap();
        running.server().reload_tls().unwrap();
        client.get(own).await.ok();
    }
}

#[tokio::test]
async fn asking_for_verified_certificates_takes_effect_on_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let ca = TestCa::new("ca");
    std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    let running = TestServer::default().start().await;
    let client = running.app();
    client.get("/version").await.ok();
    let mut settings = same();
    settings.tls.client_auth = ClientAuth::Verified;
    settings.tls.ca = Some(folder.path().join("ca.pem"));
    running.server().reload(settings, None).unwrap();
    assert!(
        soon("a refusal", client.try_send("GET", "/version", ""))
            .await
            .is_err()
    );
    running.client(&ca.issue("client")).get("/version").await.ok();
    running.server().reload(same(), None).unwrap();
    client.get("/version").await.ok();
}
