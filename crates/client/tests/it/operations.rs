//! Every operation, against a real server.

use futures_util::TryStreamExt as _;
use kes_client::{Credentials, Error, KeyAlgorithm, MAX_BULK, Sealed};
use kes_crypto::ApiKey;
use kes_keyring::Scope;
use kes_testkit::{FakeOwnStore, TestServer};
use kes_types::KeyName;

use crate::rig::{admin, client};

fn refused(outcome: Result<impl std::fmt::Debug, Error>) -> (u16, String) {
    match outcome {
        Err(Error::Api { status, message }) => (status, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_lives_from_creation_to_deletion() {
    let server = TestServer::default().start().await;
    let kes = admin(server.address());

    kes.create_key("my-key").await.unwrap();
    let key = kes.describe_key("my-key").await.unwrap();
    assert_eq!(
        (key.name.as_str(), key.created_by.as_str()),
        ("my-key", kes_testkit::admin().identity().as_str())
    );

    let data_key = kes.generate("my-key", b"context").await.unwrap();
    let opened = kes
        .decrypt("my-key", &data_key.ciphertext, b"context")
        .await
        .unwrap();
    assert_eq!(opened.expose_secret(), data_key.plaintext.expose_secret());

    let encrypted = kes.encrypt("my-key", b"message", b"").await.unwrap();
    let sealed = [
        Sealed {
            ciphertext: &encrypted,
            context: b"",
        },
        Sealed {
            ciphertext: &data_key.ciphertext,
            context: b"context",
        },
    ];
    let opened = kes.decrypt_bulk("my-key", &sealed).await.unwrap();
    assert_eq!(opened[0].expose_secret(), b"message");
    assert_eq!(opened[1].expose_secret(), data_key.plaintext.expose_secret());
    assert!(kes.decrypt_bulk("my-key", &[]).await.unwrap().is_empty());
    let too_many = vec![sealed[0]; MAX_BULK + 1];
    let error = kes.decrypt_bulk("my-key", &too_many).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
    let most = vec![sealed[0]; MAX_BULK];
    assert_eq!(kes.decrypt_bulk("my-key", &most).await.unwrap().len(), MAX_BULK);

    assert_eq!(kes.hmac("my-key", b"message").await.unwrap().len(), 32);
    kes.delete_key("my-key").await.unwrap();
    assert_eq!(
        refused(kes.describe_key("my-key").await),
        (404, "key does not exist".to_owned())
    );
}

#[tokio::test]
async fn a_deleted_key_comes_back_where_the_server_keeps_its_store() {
    let server = TestServer::keeping(&FakeOwnStore::new()).start().await;
    let kes = admin(server.address());
    kes.create_key("my-key").await.unwrap();
    let sealed = kes.encrypt("my-key", b"message", b"").await.unwrap();
    assert_eq!(
        refused(kes.undelete_key("my-key").await),
        (400, "key already exists".to_owned())
    );
    kes.delete_key("my-key").await.unwrap();
    let info = kes.store_info().await.unwrap();
    assert_eq!((info.kind.as_str(), info.keys, info.deleted_keys), ("fake", 0, 1));
    kes.undelete_key("my-key").await.unwrap();
    let opened = kes.decrypt("my-key", &sealed, b"").await.unwrap();
    assert_eq!(opened.expose_secret(), b"message");
    assert_eq!(
        refused(kes.undelete_key("other").await),
        (404, "key does not exist".to_owned())
    );

    let app = client(&[server.address()], Some(kes_testkit::app()));
    let denied = (403, "not authorized: insufficient permissions".to_owned());
    assert_eq!(refused(app.undelete_key("my-key").await), denied);
    assert_eq!(refused(app.store_info().await), denied);
    assert_eq!(refused(app.store_backup().await), denied);

    let server = TestServer::default().start().await;
    let kes = admin(server.address());
    let unknown = (404, "not found".to_owned());
    assert_eq!(refused(kes.undelete_key("my-key").await), unknown);
    assert_eq!(refused(kes.store_info().await), unknown);
    assert_eq!(refused(kes.store_backup().await), unknown);
}

#[tokio::test]
async fn an_imported_key_opens_what_it_has_sealed_elsewhere() {
    let (here, there) = (
        TestServer::default().start().await,
        TestServer::default().start().await,
    );
    let (here, there) = (admin(here.address()), admin(there.address()));
    for (name, cipher) in [("a", KeyAlgorithm::Aes256), ("b", KeyAlgorithm::ChaCha20)] {
        here.import_key(name, &[7; 32], cipher).await.unwrap();
        there.import_key(name, &[7; 32], cipher).await.unwrap();
        let sealed = here.encrypt(name, b"message", b"context").await.unwrap();
        let opened = there.decrypt(name, &sealed, b"context").await.unwrap();
        assert_eq!(opened.expose_secret(), b"message");
    }
}

#[tokio::test]
async fn a_listing_is_followed_to_its_end() {
    let server = TestServer::default().start().await;
    let kes = admin(server.address());
    // More than a page.
    let names: Vec<_> = (0..5003).map(|number| format!("key-{number:04}")).collect();
    for name in &names {
        let name = KeyName::parse(name).unwrap();
        server
            .keyring()
            .create(&Scope::default(), &name, "")
            .await
            .unwrap();
    }
    assert_eq!(kes.list_keys("").await.unwrap(), names);
    assert_eq!(
        kes.list_keys("key-500").await.unwrap(),
        ["key-5000", "key-5001", "key-5002"]
    );
    assert!(kes.list_keys("other").await.unwrap().is_empty());
    let streamed: Vec<String> = kes.keys("").try_collect().await.unwrap();
    assert_eq!(streamed, names);
}

#[tokio::test]
async fn the_server_describes_itself_and_whom_it_knows() {
    let server = TestServer::default().start().await;
    let kes = admin(server.address());
    let app = client(&[server.address()], Some(kes_testkit::app()));

    assert_eq!(app.version().await.unwrap().version, "test");
    kes.ready().await.unwrap();
    assert!(kes.status().await.unwrap().mem_heap_used > 0);
    assert!(
        kes.api()
            .await
            .unwrap()
            .iter()
            .any(|route| route.path == "/v1/key/generate/")
    );
    assert!(kes.metrics().await.unwrap().contains("kes_http_request_success"));
    let measured = kes.measurements().await.unwrap();
    assert!(
        measured.request_success >= 4 && measured.response_time_count >= 4,
        "{measured:?}"
    );
    assert_eq!(measured.response_time.len(), 10, "{measured:?}");
    assert!(
        measured.mem_heap_used > 0 && measured.num_cpu > 0 && !measured.up_time.is_zero(),
        "{measured:?}"
    );

    assert_eq!(kes.list_policies("").await.unwrap(), ["app"]);
    assert_eq!(kes.describe_policy("app").await.unwrap().name, "app");
    let policy = kes.read_policy("app").await.unwrap();
    assert!(policy.allow.contains("/v1/key/*") && policy.deny.contains("/v1/key/*/internal*"));

    let (admin, user) = (kes_testkit::admin().identity(), kes_testkit::app().identity());
    let mut identities = [admin.to_string(), user.to_string()];
    identities.sort();
    assert_eq!(kes.list_identities("").await.unwrap(), identities);
    assert!(kes.describe_identity(admin.as_str()).await.unwrap().admin);
    assert!(kes.describe_self().await.unwrap().admin);
    let described = app.describe_self().await.unwrap();
    assert_eq!(described.identity, user.to_string());
    let policy = described.policy.unwrap();
    assert!(policy.name == "app" && policy.allow.contains("/v1/key/*"));
}

#[tokio::test]
async fn refusals_have_their_status_and_text() {
    let server = TestServer::default().start().await;
    let (kes, app) = (
        admin(server.address()),
        client(&[server.address()], Some(kes_testkit::app())),
    );
    kes.create_key("my-key").await.unwrap();
    for (outcome, want) in [
        (kes.create_key("my-key").await, (400, "key already exists")),
        (kes.delete_key("other").await, (404, "key does not exist")),
        (
            app.create_key("internal-1").await,
            (403, "not authorized: insufficient permissions"),
        ),
        (
            kes.import_key("other", b"short", KeyAlgorithm::Aes256).await,
            (406, "invalid key size for 'AES256'"),
        ),
    ] {
        let (status, message) = refused(outcome);
        assert_eq!((status, message.as_str()), want);
    }
    let (status, message) = refused(kes.decrypt("my-key", b"garbage", b"").await);
    assert_eq!(
        (status, message.as_str()),
        (400, "decryption failed: ciphertext is not authentic")
    );
    // A name that would be another path is still a name.
    for name in ["..", "a/b", "a%2fb", "ä", "?x=y", ""] {
        let (status, _) = refused(kes.create_key(name).await);
        assert!(status == 400 || status == 404, "{name}: {status}");
    }
}

#[tokio::test]
async fn logs_are_followed_as_they_happen() {
    let server = TestServer::default().start().await;
    let kes = admin(server.address());
    let mut log = kes.audit_log().await.unwrap();
    kes.create_key("my-key").await.unwrap();
    // The log begins with the request for the log itself, or after it.
    let event = loop {
        let event = log.next().await.unwrap().unwrap();
        if event.request.path != "/v1/log/audit" {
            break event;
        }
    };
    assert_eq!(
        (event.request.path.as_str(), event.response.code),
        ("/v1/key/create/my-key", 200)
    );
    let _errors = kes.error_log().await.unwrap();
}

#[tokio::test]
async fn an_api_key_authenticates() {
    let key = ApiKey::generate().unwrap();
    let mut server = TestServer::default();
    server.settings.admin = Some(key.identity().clone());
    let server = server.start().await;
    let credentials = Credentials::from_api_key(&key.to_secret_text()).unwrap();
    assert_eq!(credentials.identity(), key.identity().as_str());
    let endpoint = kes_client::Endpoint::parse(&server.address().to_string()).unwrap();
    let kes = kes_client::Client::builder(vec![endpoint])
        .credentials(credentials)
        .trust(kes_client::ServerTrust::dangerous_anything())
        .build()
        .unwrap();
    assert_eq!(
        kes.describe_self().await.unwrap().identity,
        key.identity().to_string()
    );
}
