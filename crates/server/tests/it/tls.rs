//! Handshakes and identities.

use std::collections::BTreeSet;

use http::HeaderName;
use kes_server::{ClientAuth, ProxySettings, RouteSettings};
use kes_testkit::{Credentials, KeyKind, TestCa, TestClient, TestServer, admin, app};
use kes_types::Verb;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SELF: &str = "/v1/identity/self/describe";

#[tokio::test]
async fn every_kind_of_key_identifies_its_client_in_every_tls_version() {
    let running = TestServer::default().start().await;
    for kind in KeyKind::ALL {
        let credentials = Credentials::with_key(kind);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = TestClient::with_versions(running.address(), Some(&credentials), &[version]);
            let own = client.get(SELF).await.ok().json();
            assert_eq!(
                own["identity"],
                credentials.identity().as_str(),
                "{kind:?} {version:?}"
            );
        }
    }
}

#[tokio::test]
async fn expired_ca_and_issued_certificates_identify_by_their_key() {
    let running = TestServer::default().start().await;
    let ca = TestCa::new("ca");
    for credentials in [
        Credentials::expired("client"),
        Credentials::self_signed_ca("client"),
        ca.issue("client"),
        ca.issue("client").followed_by(&[&ca.credentials()]),
    ] {
        let own = running.client(&credentials).get(SELF).await.ok().json();
        assert_eq!(own["identity"], credentials.identity().as_str());
    }
}

#[tokio::test]
async fn several_certificates_of_clients_are_refused() {
    let running = TestServer::default().start().await;
    let two = Credentials::self_signed("one").followed_by(&[&Credentials::self_signed("two")]);
    running
        .client(&two)
        .get(SELF)
        .await
        .fails(400, "tls: received more than one client certificate");
    let cas = TestCa::new("one")
        .credentials()
        .followed_by(&[&TestCa::new("two").credentials()]);
    running
        .client(&cas)
        .get(SELF)
        .await
        .fails(400, "tls: client certificate is required");
}

#[tokio::test]
async fn somebody_elses_certificate_behind_a_ca_certificate_is_worth_nothing() {
    let running = TestServer::default().start().await;
    // The handshake proves possession of the first certificate's key only; the admin's certificate is public.
    let impostor = Credentials::self_signed_ca("mallory").followed_by(&[admin()]);
    running
        .client(&impostor)
        .get(SELF)
        .await
        .fails(400, "tls: client certificate is required");
    running
        .client(&impostor)
        .get("/v1/metrics")
        .await
        .fails(400, "tls: client certificate is required");
}

#[tokio::test]
async fn a_client_without_a_certificate_fails_the_handshake_unless_a_route_is_open() {
    let running = TestServer::default().start().await;
    assert!(running.anonymous().try_send("GET", "/version", "").await.is_err());

    let mut server = TestServer::default();
    server.settings.routes.insert(
        Verb::Ready,
        RouteSettings {
            skip_auth: true,
            timeout: None,
        },
    );
    let running = server.start().await;
    running.anonymous().get("/v1/ready").await.ok();
    running.anonymous().get("/version").await.ok();
    running
        .anonymous()
        .get("/v1/status")
        .await
        .fails(400, "tls: client certificate is required");
    running.app().get("/v1/status").await.ok();
    let events = running.audit().await;
    assert!(events[0]["request"].get("identity").is_none());
    assert_eq!(events[2]["response"]["code"], 400);
}

#[tokio::test]
async fn opening_a_key_route_opens_nothing() {
    let mut server = TestServer::default();
    server.settings.routes.insert(
        Verb::DecryptKey,
        RouteSettings {
            skip_auth: true,
            timeout: None,
        },
    );
    let running = server.start().await;
    assert!(running.anonymous().try_send("GET", "/version", "").await.is_err());
}

fn verified(ca: &TestCa) -> (TestServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    let mut server = TestServer::default();
    server.settings.tls.client_auth = ClientAuth::Verified;
    server.settings.tls.ca = Some(folder.path().join("ca.pem"));
    (server, folder)
}

#[tokio::test]
async fn verified_clients_need_a_valid_certificate_of_a_known_ca() {
    let ca = TestCa::new("ca");
    let (server, _folder) = verified(&ca);
    let running = server.start().await;
    running.client(&ca.issue("client")).get(SELF).await.ok();
    for stranger in [
        Credentials::self_signed("client"),
        TestCa::new("other").issue("client"),
        ca.issue_expired("client"),
    ] {
        assert!(running.client(&stranger).try_send("GET", SELF, "").await.is_err());
    }
    assert!(running.anonymous().try_send("GET", SELF, "").await.is_err());
}

#[tokio::test]
async fn a_certificate_is_verified_if_given_where_none_is_needed() {
    let ca = TestCa::new("ca");
    let (mut server, _folder) = verified(&ca);
    server.settings.routes.insert(
        Verb::Ready,
        RouteSettings {
            skip_auth: true,
            timeout: None,
        },
    );
    let running = server.start().await;
    running.anonymous().get("/v1/ready").await.ok();
    running.client(&ca.issue("client")).get("/v1/ready").await.ok();
    assert!(
        running
            .client(&Credentials::self_signed("client"))
            .try_send("GET", "/v1/ready", "")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_resumed_session_keeps_its_identity() {
    let running = TestServer::default().start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = TestClient::with_versions(running.address(), Some(app()), &[version]);
        client.get(SELF).await.ok();
        let mut resumed = client.tls().await.unwrap();
        assert_eq!(
            resumed.get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Resumed),
            "{version:?}"
        );
        resumed
            .write_all(format!("GET {SELF} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        _ = resumed.read_to_string(&mut answer).await;
        assert!(answer.contains(app().identity().as_str()), "{answer}");
    }
}

#[tokio::test]
async fn plain_http_gets_a_plain_answer() {
    let running = TestServer::default().start().await;
    let mut stream = tokio::net::TcpStream::connect(running.address()).await.unwrap();
    stream
        .write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request\r\n") && answer.contains("HTTPS"),
        "{answer}"
    );
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_closes_the_connection() {
    let running = TestServer::default().start().await;
    let mut stream = tokio::net::TcpStream::connect(running.address()).await.unwrap();
    stream
        .write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3])
        .await
        .unwrap();
    stream.write_all(&[0; 70_000]).await.ok();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    running.app().get("/v1/status").await.ok();
}

fn proxied() -> (TestServer, Credentials) {
    let proxy = Credentials::self_signed("proxy");
    let mut server = TestServer::default();
    server.settings.proxy = Some(ProxySettings {
        identities: BTreeSet::from([proxy.identity()]),
        header: HeaderName::from_static("x-tls-client-cert"),
    });
    (server, proxy)
}

fn escaped(credentials: &Credentials) -> String {
    utf8_percent_encode(&credentials.chain_pem(), NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn a_proxy_speaks_for_its_client() {
    let (server, proxy) = proxied();
    let running = server.start().await;
    let client = running.client(&proxy);
    let (own, forwarded) = (escaped(app()), ("x-forwarded-for", "10.1.2.3:99, 10.9.9.9"));
    let answer = client
        .send_with("GET", SELF, &[("x-tls-client-cert", &own), forwarded], "")
        .await
        .ok()
        .json();
    assert_eq!(answer["identity"], app().identity().as_str());
    let events = running.audit().await;
    assert_eq!(events[0]["request"]["ip"], "10.1.2.3");
    assert_eq!(events[0]["request"]["identity"], app().identity().as_str());

    // The headers of whoever is no proxy mean nothing.
    let theirs = escaped(admin());
    let answer = running
        .app()
        .send_with("GET", SELF, &[("x-tls-client-cert", &theirs), forwarded], "")
        .await
        .ok();
    assert_eq!(answer.json()["identity"], app().identity().as_str());
    assert_eq!(running.audit().await[1]["request"]["ip"], "127.0.0.1");
}

#[tokio::test]
async fn a_proxy_that_does_not_say_for_whom_has_no_permissions() {
    let (server, proxy) = proxied();
    let running = server.start().await;
    let client = running.client(&proxy);
    let (own, twice) = (escaped(&proxy), [escaped(app()), escaped(app())]);
    for headers in [
        &[][..],
        &[("x-tls-client-cert", "garbage")],
        &[("x-tls-client-cert", "%")],
        &[("x-tls-client-cert", own.as_str())],
        &[
            ("x-tls-client-cert", twice[0].as_str()),
            ("x-tls-client-cert", twice[1].as_str()),
        ],
    ] {
        let answer = client.send_with("GET", SELF, headers, "").await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_forwarded_certificate_is_verified_where_clients_are() {
    let ca = TestCa::new("ca");
    let (mut server, _folder) = verified(&ca);
    let proxy = ca.issue("proxy");
    server.settings.proxy = Some(ProxySettings {
        identities: BTreeSet::from([proxy.identity()]),
        header: HeaderName::from_static("x-tls-client-cert"),
    });
    let running = server.start().await;
    let client = running.client(&proxy);
    let (good, bad) = (escaped(&ca.issue("client")), escaped(app()));
    client
        .send_with("GET", SELF, &[("x-tls-client-cert", &good)], "")
        .await
        .ok();
    let answer = client
        .send_with("GET", SELF, &[("x-tls-client-cert", &bad)], "")
        .await;
    answer.fails(403, "not authorized: insufficient permissions");
}
