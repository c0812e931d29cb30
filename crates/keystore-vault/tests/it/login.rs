//! Logins against a real Vault, and what is said when it refuses them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kes_keystore::conformance;
use kes_keystore::{Entry, KeyStore as _, StoreError};
use kes_keystore_vault::{ClientCertificate, Config, Login, LoginNamespace, Tls, VaultStore};
use kes_peers::Vault;
use kes_testkit::{Answer, Fault, FaultProxy, TestCa, soon, until};
use kes_types::{ManualClock, SystemClock};
use serde_json::json;
use tokio::time::interval;

use crate::mounts::{Mounts, Role, is_login, is_renewal, revoke_tokens, root, text, with};
use crate::rig::{connect, connect_at, create_key, name, secret, vault};

/// Why there is no connection, in all its parts.
async fn refusal(config: Config) -> String {
    let refused = VaultStore::connect(config, Arc::new(SystemClock)).await;
    let error = anyhow::Error::from(refused.expect_err("no connection"));
    format!("{error:#} {error:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_login_by_approle_the_contract_is_kept() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_period": "5m" }));
    let number = AtomicUsize::new(0);
    conformance::all(async || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let config = Config {
            prefix: Some(format!("store-{number}")),
            ..mounts.config(vault().endpoint(), mounts.login(&role))
        };
        Arc::new(connect(config).await) as conformance::Subject
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_approle_is_told_what_to_change() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "5m" }));
    let stranger = Mounts::new(vault()).role(json!({}));
    let mut elsewhere = Mounts::new(vault());
    elsewhere.approle = "not-mounted".to_owned();
    let wrong_secret = Role {
        secret: "5a1f0c1e-wrong-secret".to_owned(),
        ..role.clone()
    };
    let wrong_id = Role {
        id: "77aa0c1e-wrong-role".to_owned(),
        ..role.clone()
    };
    for (mounts, role, expected) in [
        (
            &mounts,
            &wrong_secret,
            "the secret id has expired, was revoked or is used up",
        ),
        (&mounts, &wrong_id, "has the id of keystore.vault.approle.id"),
        (&mounts, &stranger, "keystore.vault.approle.id"),
        (
            &elsewhere,
            &role,
            "is an AppRole method mounted at auth/not-mounted? keystore.vault.approle.engine",
        ),
    ] {
        let said = refusal(mounts.config(vault().endpoint(), mounts.login(role))).await;
        assert!(said.contains(expected), "{said}");
        assert!(said.contains(&format!("auth/{}/login", mounts.approle)), "{said}");
        assert!(!said.contains(&role.id) && !said.contains(&role.secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_id_that_is_used_up_is_the_error_of_the_next_request() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "secret_id_num_uses": 1, "token_ttl": "5m" }));
    let clock = Arc::new(ManualClock::default());
    let config = mounts.config(vault().endpoint(), mounts.login(&role));
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    create_key(&store).await;

    mounts.revoke_tokens();
    clock.advance(Duration::from_secs(6));
    let error = store.get(&name("key")).await.expect_err("no token");
    assert!(matches!(error, StoreError::AuthFailed { .. }), "{error:?}");
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(said.contains("secret_id_num_uses=0"), "{said}");
    assert!(!said.contains(&role.secret), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_fails_the_connection_in_time() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({}));
    let proxy = FaultProxy::start(vault().endpoint());
    proxy.refuse().await;
    let refusal = refusal(mounts.config(&proxy.endpoint(), mounts.login(&role)));
    let said = soon("the refusal", refusal).await;
    assert!(said.contains(&proxy.endpoint()), "{said}");
}

/// For the last attempt there is less time than it would take to learn anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_told_with_the_time_that_it_had() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({}));
    let proxy = FaultProxy::start(vault().endpoint());
    proxy.always(Fault::Hang);
    let mut config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    // Long enough for a busy machine to send the request; what it takes before that is not told.
    config.patience.attempt = Duration::from_secs(4);
    config.patience.operation = Duration::from_millis(5_500);
    let said = refusal(config).await;
    let (_, told) = said.split_once("no answer within ").expect(&said);
    let (seconds, _) = told.split_once('s').expect(&said);
    assert!(
        seconds.parse::<f64>().is_ok_and(|seconds| seconds > 1.5),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_tried_again_after_failures_that_pass() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({}));
    for fault in [Fault::Reset, Fault::Lose, Fault::Half, says(503, &[])] {
        let proxy = FaultProxy::start(vault().endpoint());
        proxy.once(is_login, fault);
        let store = connect(mounts.config(&proxy.endpoint(), mounts.login(&role))).await;
        assert_eq!(proxy.count_of(is_login), 2);
        store.ping().await.expect("logged in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_follows_a_standby_to_the_active_node() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({}));
    for status in [307, 308] {
        let proxy = FaultProxy::start(vault().endpoint());
        let active = format!("{}/v1/auth/{}/login", vault().endpoint(), mounts.approle);
        proxy.once(is_login, says(status, &[("location", &active)]));
        let store = connect(mounts.config(&proxy.endpoint(), mounts.login(&role))).await;
        assert_eq!(proxy.count_of(is_login), 1);
        store.ping().await.expect("logged in");
    }
}

fn says(status: u16, headers: &[(&'static str, &str)]) -> Fault {
    let mut all = http::HeaderMap::new();
    for (name, value) in headers {
        all.insert(*name, value.parse().expect("a header"));
    }
    Fault::Says(Answer {
        status,
        headers: all,
        body: r#"{"errors":[]}"#.into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_and_its_renewals_are_made_in_the_namespace_of_the_login() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "2s" }));
    for (namespace, expected) in [
        (LoginNamespace::Inherit, Some("team")),
        (LoginNamespace::Root, None),
        (LoginNamespace::Named("people".to_owned()), Some("people")),
    ] {
        let proxy = FaultProxy::start(vault().endpoint());
        let login = Login::AppRole {
            engine: mounts.approle.clone(),
            namespace,
            id: secret(&role.id),
            secret: secret(&role.secret),
        };
        let config = Config {
            namespace: Some("team".to_owned()),
            ..mounts.config(&proxy.endpoint(), login)
        };
        let store = connect(config).await;
        let _ = store.get(&name("absent")).await.expect_err("nothing there");
        until("a renewal", async || proxy.count_of(is_renewal) > 0).await;
        let requests = proxy.requests();
        let sent_to = |which: fn(&kes_testkit::ProxiedRequest) -> bool| {
            let request = requests.iter().find(|request| which(request)).expect("a request");
            request.header("x-vault-namespace").map(str::to_owned)
        };
        assert_eq!(sent_to(is_login).as_deref(), expected);
        assert_eq!(sent_to(is_renewal).as_deref(), expected);
        assert_eq!(
            sent_to(|request| request.path().contains("/data/")).as_deref(),
            Some("team")
        );
        // Who logs in has no token yet.
        let login = requests
            .iter()
            .find(|request| is_login(request))
            .expect("a login");
        assert_eq!(login.header("x-vault-token"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_is_named_as_the_problem() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({}));
    let proxy = FaultProxy::start(vault().endpoint());
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("a header"));
    proxy.always(Fault::Says(Answer {
        status: 404,
        headers,
        body: r#"{"errors":["namespace not found"]}"#.into(),
    }));
    let config = Config {
        namespace: Some("team".to_owned()),
        ..mounts.config(&proxy.endpoint(), mounts.login(&role))
    };
    let said = refusal(config).await;
    assert!(
        said.contains("keystore.vault.approle.namespace and keystore.vault.namespace"),
        "{said}"
    );
}

/// Certificates of a Vault with TLS and of its clients, as files.
struct Certificates {
    folder: tempfile::TempDir,
    ca: TestCa,
}

impl Certificates {
    fn new() -> Self {
        let made = Self {
            folder: tempfile::tempdir().expect("a folder"),
            ca: TestCa::new("the CA of the tests"),
        };
        fs::write(made.path("ca.pem"), made.ca.pem()).expect("a file");
        made
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, name: &str, ca: &TestCa) -> ClientCertificate {
        let issued = ca.issue(name);
        let (key, cert) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.pem")),
        );
        fs::write(&key, issued.key_pem()).expect("a file");
        fs::write(&cert, issued.chain_pem()).expect("a file");
        ClientCertificate { key, cert }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_logs_in_and_renews_its_tokens() {
    let files = Certificates::new();
    let server = files.client("server", &files.ca);
    let vault: &'static Vault = Box::leak(Box::new(
        Vault::start_tls(&server.cert, &server.key).expect("a Vault with TLS"),
    ));
    let mounts = Mounts::new(vault);
    root(vault, "POST", "sys/auth/cert", json!({ "type": "cert" }));
    let role = json!({
        "certificate": files.ca.pem(),
        "token_policies": mounts.kv,
        "token_ttl": "2s",
    });
    root(vault, "POST", "auth/cert/certs/kes", role);

    let config = |role: Option<&str>, client: ClientCertificate| Config {
        tls: Tls {
            ca: Some(files.path("ca.pem")),
            client: Some(client),
        },
        ..mounts.config(
            vault.endpoint(),
            Login::Cert {
                engine: "cert".to_owned(),
                namespace: LoginNamespace::Inherit,
                role: role.map(str::to_owned),
            },
        )
    };
    let client = files.client("client", &files.ca);
    for role in [None, Some("kes")] {
        let store = connect(config(role, client.clone())).await;
        let key = name(role.unwrap_or("any"));
        store.create(&key, &secret("value")).await.expect("created");
        // Beyond the end of the first lease.
        let (began, mut pace) = (Instant::now(), interval(Duration::from_millis(50)));
        while began.elapsed() < Duration::from_millis(4_500) {
            pace.tick().await;
            store.get(&key).await.expect("a key");
        }
    }

    let stranger = files.client("stranger", &TestCa::new("another CA"));
    let said = refusal(config(None, stranger)).await;
    assert!(
        said.contains("must trust the certificate of keystore.vault.tls.cert"),
        "{said}"
    );
    let said = refusal(config(Some("nobody"), client)).await;
    assert!(said.contains("the role nobody at auth/cert"), "{said}");
}

/// Whoever issues short-lived certificates replaces the files without telling.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_when_their_files_change() {
    let files = Certificates::new();
    let server = files.client("server", &files.ca);
    let vault: &'static Vault = Box::leak(Box::new(
        Vault::start_tls(&server.cert, &server.key).expect("a Vault with TLS"),
    ));
    let mounts = Mounts::new(vault);
    root(vault, "POST", "sys/auth/cert", json!({ "type": "cert" }));
    let role = json!({
        "certificate": files.ca.pem(),
        "token_policies": mounts.kv,
        "token_ttl": "2s",
    });
    root(vault, "POST", "auth/cert/certs/kes", role);
    // A folder, in which another file appears as the CA is replaced.
    let trusted = files.path("trusted");
    fs::create_dir(&trusted).expect("a folder");
    let ca = trusted.join("ca.pem");
    fs::write(&ca, files.ca.pem()).expect("a file");
    let config = Config {
        tls: Tls {
            ca: Some(trusted),
            client: Some(files.client("client", &files.ca)),
        },
        ping: Duration::from_millis(20),
        ..mounts.config(
            vault.endpoint(),
            Login::Cert {
                engine: "cert".to_owned(),
                namespace: LoginNamespace::Inherit,
                role: None,
            },
        )
    };
    let store = connect(config).await;
    let key = name("key");
    store.create(&key, &secret("value")).await.expect("created");
    let mut pace = interval(Duration::from_millis(20));
    let mut answers = async |what: &str, expected: fn(&Result<Entry, StoreError>) -> bool| {
        until(what, async || {
            pace.tick().await;
            expected(&store.get(&key).await)
        })
        .await;
    };

    // What cannot be used changes nothing: the next change is found all the same.
    fs::write(&ca, "no certificate").expect("a file");
    let other = TestCa::new("another CA");
    fs::write(&ca, other.pem()).expect("a file");
    answers("the other CA to be the one", |read| {
        matches!(read, Err(StoreError::Unreachable { .. }))
    })
    .await;
    fs::write(&ca, files.ca.pem()).expect("a file");
    answers("the right CA to be back", Result::is_ok).await;

    // The same file names; the token of before still works until it ends.
    files.client("client", &other);
    answers("a stranger's certificate to be shown", |read| {
        matches!(read, Err(StoreError::AuthFailed { .. }))
    })
    .await;
    files.client("client", &files.ca);
    answers("the right certificate to be back", Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_login_over_a_connection_that_shows_none_says_so() {
    let mounts = Mounts::new(vault());
    let engine = format!("cert-of-{}", mounts.kv);
    root(
        vault(),
        "POST",
        &format!("sys/auth/{engine}"),
        json!({ "type": "cert" }),
    );
    let login = Login::Cert {
        engine,
        namespace: LoginNamespace::Inherit,
        role: None,
    };
    let said = refusal(mounts.config(vault().endpoint(), login)).await;
    assert!(said.contains("Vault sees no client certificate"), "{said}");
}

/// A new token for what a key store needs.
fn token(mounts: &Mounts, settings: serde_json::Value) -> String {
    let settings = with(settings, "policies", &mounts.kv);
    text(
        &root(vault(), "POST", "auth/token/create", settings),
        "/auth/client_token",
    )
}

fn of_file(file: &Path) -> Login {
    Login::Token {
        file: file.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_is_used_and_its_successor_as_soon_as_it_is_there() {
    let mounts = Mounts::new(vault());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let first = token(&mounts, json!({ "ttl": "1h" }));
    fs::write(&file, format!("{first}\n")).expect("a file");
    let proxy = FaultProxy::start(vault().endpoint());
    let store = connect(mounts.config(&proxy.endpoint(), of_file(&file))).await;
    create_key(&store).await;

    // Nobody has refused the first one: the file is looked at. It becomes known to all nodes in a tenth of its lease.
    let second = token(&mounts, json!({ "ttl": "30s" }));
    let aside = folder.path().join("aside");
    fs::write(&aside, &second).expect("a file");
    fs::rename(&aside, &file).expect("replaced");
    until("the new token is used", async || {
        store.get(&name("key")).await.expect("a key");
        let used = |request: &kes_testkit::ProxiedRequest| {
            request.path().contains("/data/") && request.header("x-vault-token") == Some(&second)
        };
        proxy.count_of(used) > 0
    })
    .await;
    assert_eq!(
        proxy.count_of(is_renewal),
        0,
        "whoever writes the file renews its tokens"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_that_was_revoked_gives_way_to_its_successor_at_once() {
    let mounts = Mounts::new(vault());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let first = token(&mounts, json!({ "ttl": "1h" }));
    fs::write(&file, &first).expect("a file");
    let clock = Arc::new(ManualClock::default());
    let config = mounts.config(vault().endpoint(), of_file(&file));
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    create_key(&store).await;

    clock.advance(Duration::from_secs(6));
    fs::write(&file, token(&mounts, json!({ "ttl": "1h" }))).expect("a file");
    root(vault(), "POST", "auth/token/revoke", json!({ "token": first }));
    store.get(&name("key")).await.expect("a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_that_somebody_renews_lasts_as_long_as_that() {
    let mounts = Mounts::new(vault());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let token = token(&mounts, json!({ "ttl": "6s" }));
    fs::write(&file, &token).expect("a file");
    let proxy = FaultProxy::start(vault().endpoint());
    let store = connect(mounts.config(&proxy.endpoint(), of_file(&file))).await;
    let key = name("key");
    store.create(&key, &secret("value")).await.expect("created");

    let (began, mut pace) = (Instant::now(), interval(Duration::from_millis(500)));
    while began.elapsed() < Duration::from_secs(8) {
        pace.tick().await;
        let renewal = json!({ "token": token, "increment": "6s" });
        root(vault(), "POST", "auth/token/renew", renewal);
        store.get(&key).await.expect("a key");
    }
    assert_eq!(proxy.count_of(is_renewal), 0);

    // Nobody renews it any more.
    until("it has ended", async || {
        pace.tick().await;
        matches!(store.get(&key).await, Err(StoreError::AuthFailed { .. }))
    })
    .await;
    fs::write(&file, self::token(&mounts, json!({ "ttl": "1h" }))).expect("a file");
    until("the next one is used", async || {
        pace.tick().await;
        store.get(&key).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_id_is_a_new_connection_beside_the_old_one() {
    let mounts = Mounts::new(vault());
    let old = mounts.role(json!({ "token_ttl": "1h" }));
    let clock = Arc::new(ManualClock::default());
    let config = |role: &Role| mounts.config(vault().endpoint(), mounts.login(role));
    let before = connect_at(config(&old), Arc::clone(&clock) as _).await;
    let new = mounts.role(json!({ "token_ttl": "1h" }));
    let destroy = format!("auth/{}/role/kes/secret-id/destroy", mounts.approle);
    root(vault(), "POST", &destroy, json!({ "secret_id": old.secret }));

    let after = connect_at(config(&new), Arc::clone(&clock) as _).await;
    let key = name("key");
    before
        .create(&key, &secret("value"))
        .await
        .expect("its token lives");
    after.get(&key).await.expect("a key");
    before.close().await;

    clock.advance(Duration::from_secs(6));
    mounts.revoke_tokens();
    after.get(&key).await.expect("a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_good_token_is_named() {
    let mounts = Mounts::new(vault());
    let folder = tempfile::tempdir().expect("a folder");
    let revoked = token(&mounts, json!({}));
    root(vault(), "POST", "auth/token/revoke", json!({ "token": revoked }));
    for (file, content, expected) in [
        ("empty", Some(" \n"), "is empty"),
        ("absent", None, "cannot be read"),
        (
            "two-lines",
            Some("hvs.one\nhvs.two"),
            "characters that no token has",
        ),
        (
            "revoked",
            Some(revoked.as_str()),
            "has expired, was revoked, or lacks Vault's policy 'default'",
        ),
    ] {
        let path = folder.path().join(file);
        if let Some(content) = content {
            fs::write(&path, content).expect("a file");
        }
        let said = refusal(mounts.config(vault().endpoint(), of_file(&path))).await;
        assert!(said.contains(expected), "{said}");
        assert!(said.contains(&path.display().to_string()), "{said}");
        assert!(!said.contains("hvs."), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tokens_of_a_method_can_be_revoked_and_the_next_request_works() {
    let mounts = Mounts::new(vault());
    let role = mounts.role(json!({ "token_ttl": "1h" }));
    let clock = Arc::new(ManualClock::default());
    let proxy = FaultProxy::start(vault().endpoint());
    let config = mounts.config(&proxy.endpoint(), mounts.login(&role));
    let store = connect_at(config, Arc::clone(&clock) as _).await;
    create_key(&store).await;
    for round in 2..5 {
        clock.advance(Duration::from_secs(11));
        revoke_tokens(vault(), &mounts.approle);
        let (store, key) = (&store, name("key"));
        futures_util::future::join_all((0..64).map(|_| async { store.get(&key).await.expect("a key") }))
            .await;
        assert_eq!(proxy.count_of(is_login), round, "one login for 64 requests");
    }
}
