//! Key operations over HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_testkit::{Protocol, TestServer};
use serde_json::json;

const NAME: &str = "my-key";

fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_data_key_decrypts_with_its_context_only() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let running = TestServer::default().start().await;
        let client = running.app().over(protocol);
        let created = client.put("/v1/key/create/my-key", "").await.ok();
        assert!(created.body.is_empty());

        let request = json!({"context": b64(b"bucket/object")}).to_string();
        let generated = client.put("/v1/key/generate/my-key", request).await.ok().json();
        let (plaintext, ciphertext) = (&generated["plaintext"], &generated["ciphertext"]);
        assert_eq!(STANDARD.decode(plaintext.as_str().unwrap()).unwrap().len(), 32);
        assert!(generated.get("version").is_none());

        let request = json!({"ciphertext": ciphertext, "context": b64(b"bucket/object")}).to_string();
        let decrypted = client.put("/v1/key/decrypt/my-key", request).await.ok().json();
        assert_eq!(&decrypted["plaintext"], plaintext);

        let request = json!({"ciphertext": ciphertext, "context": b64(b"elsewhere")}).to_string();
        let refused = client.put("/v1/key/decrypt/my-key", request).await;
        refused.fails(400, "decryption failed: ciphertext is not authentic");
    }
}

#[tokio::test]
async fn post_works_where_put_does() {
    let running = TestServer::default().start().await;
    running
        .app()
        .send("POST", "/v1/key/create/my-key", "{}")
        .await
        .ok();
    running
        .app()
        .send("POST", "/v1/key/generate/my-key", "")
        .await
        .ok();
}

#[tokio::test]
async fn encrypt_decrypt_bulk_and_hmac() {
    let running = TestServer::default().start().await;
    let client = running.app();
    client.put("/v1/key/create/my-key", "").await.ok();

    let mut ciphertexts = Vec::new();
    for (plaintext, context) in [(&b"one"[..], &b""[..]), (b"", b"context"), (b"three", b"context")] {
        let request = json!({"plaintext": b64(plaintext), "context": b64(context)}).to_string();
        let answer = client.put("/v1/key/encrypt/my-key", request).await.ok().json();
        ciphertexts.push(json!({"ciphertext": answer["ciphertext"], "context": b64(context)}));
    }
    let all = json!(ciphertexts).to_string();
    let answer = client.put("/v1/key/bulk/decrypt/my-key", all).await.ok().json();
    assert_eq!(
        answer,
        json!([{"plaintext": b64(b"one")}, {"plaintext": ""}, {"plaintext": b64(b"three")}])
    );

    ciphertexts.push(json!({"ciphertext": b64(&[7; 64])}));
    let answer = client
        .put("/v1/key/bulk/decrypt/my-key", json!(ciphertexts).to_string())
        .await;
    answer.fails(400, "decryption failed: ciphertext is not authentic");
    let answer = client.put("/v1/key/bulk/decrypt/my-key", "[]").await.ok();
    assert_eq!(answer.json(), json!([]));
    let many = format!("[{}]", vec!["{}"; 1001].join(","));
    client
        .put("/v1/key/bulk/decrypt/my-key", many)
        .await
        .fails(400, "too many ciphertexts");

    let mac = |message: &str| json!({"message": b64(message.as_bytes())}).to_string();
    let first = client
        .put("/v1/key/hmac/my-key", mac("message"))
        .await
        .ok()
        .json();
    assert_eq!(
        first,
        client
            .put("/v1/key/hmac/my-key", mac("message"))
            .await
            .ok()
            .json()
    );
    assert_ne!(
        first,
        client.put("/v1/key/hmac/my-key", mac("other")).await.ok().json()
    );
}

#[tokio::test]
async fn a_key_is_described_by_its_own_words() {
    let running = TestServer::default().start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    let key = running.admin().get("/v1/key/describe/my-key").await.ok().json();
    assert_eq!(key["name"], NAME);
    assert!(["AES256", "ChaCha20"].contains(&key["algorithm"].as_str().unwrap()));
    assert_eq!(key["created_by"], kes_testkit::app().identity().as_str());
    let created_at = key["created_at"].as_str().unwrap();
    assert!(
        created_at.contains('.') && created_at.ends_with('Z'),
        "{created_at}"
    );
}

#[tokio::test]
async fn what_is_there_stays_and_what_is_not_is_not_found() {
    let running = TestServer::default().start().await;
    let client = running.app();
    client.put("/v1/key/create/my-key", "").await.ok();
    let before = client.get("/v1/key/describe/my-key").await.json();
    client
        .put("/v1/key/create/my-key", "")
        .await
        .fails(400, "key already exists");
    let import = json!({"key": b64(&[1; 32])}).to_string();
    client
        .put("/v1/key/import/my-key", import)
        .await
        .fails(400, "key already exists");
    assert_eq!(client.get("/v1/key/describe/my-key").await.json(), before);

    client.delete("/v1/key/delete/my-key").await.ok();
    for answer in [
        client.delete("/v1/key/delete/my-key").await,
        client.get("/v1/key/describe/my-key").await,
        client.put("/v1/key/generate/my-key", "").await,
        client.put("/v1/key/hmac/my-key", "{}").await,
    ] {
        answer.fails(404, "key does not exist");
    }
}

#[tokio::test]
async fn an_imported_key_is_the_one_that_was_given() {
    let running = TestServer::default().start().await;
    let client = running.app();
    let key = b64(&(0..32).collect::<Vec<u8>>());
    for (name, request, algorithm) in [
        ("current", json!({"key": key, "cipher": "AES256"}), "AES256"),
        (
            "older",
            json!({"bytes": key, "algorithm": "AES256-GCM_SHA256"}),
            "AES256",
        ),
        ("oldest", json!({"bytes": key}), "AES256"),
        ("chacha", json!({"key": key, "cipher": "ChaCha20"}), "ChaCha20"),
        (
            "xchacha",
            json!({"bytes": key, "algorithm": "XCHACHA20-POLY1305"}),
            "ChaCha20",
        ),
    ] {
        client
            .put(&format!("/v1/key/import/{name}"), request.to_string())
            .await
            .ok();
        assert_eq!(
            client.get(&format!("/v1/key/describe/{name}")).await.json()["algorithm"],
            algorithm
        );
    }
    // A ciphertext that another implementation made with this key.
    let ciphertext = "lYlCCGFRByxV3WnGpLqgOMSSNVuN8TcMW8FvnI8db0ggISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7";
    let request = json!({"ciphertext": ciphertext, "context": b64(b"ctx/1")}).to_string();
    let answer = client
        .put("/v1/key/decrypt/current", request.clone())
        .await
        .ok()
        .json();
    assert_eq!(answer["plaintext"], b64(b"attack at dawn!!"));
    client
        .put("/v1/key/decrypt/chacha", request)
        .await
        .fails(400, "decryption failed: ciphertext is not authentic");

    let refuse = |request: serde_json::Value| client.put("/v1/key/import/refused", request.to_string());
    let answer = refuse(json!({"key": key, "cipher": "DES"})).await;
    answer.fails(406, "algorithm 'DES' is not supported");
    refuse(json!({"key": b64(&[0; 31]), "cipher": "AES256"}))
        .await
        .fails(406, "invalid key size for 'AES256'");
    refuse(json!({"key": b64(&[0; 33]), "cipher": "ChaCha20"}))
        .await
        .fails(406, "invalid key size for 'ChaCha20'");
    refuse(json!({}))
        .await
        .fails(406, "invalid key size for 'AES256'");
    client
        .get("/v1/key/describe/refused")
        .await
        .fails(404, "key does not exist");
}

#[tokio::test]
async fn a_key_without_an_hmac_key_says_so() {
    use kes_crypto::SecretBytes;
    use kes_keystore::{EntryName, KeyStore as _, MemoryStore};

    let store = std::sync::Arc::new(MemoryStore::new());
    let record = br#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
    store
        .create(
            &EntryName::parse("legacy").unwrap(),
            &SecretBytes::copy_of(record),
        )
        .await
        .unwrap();
    let running = TestServer::over(store).start().await;
    running
        .app()
        .put("/v1/key/hmac/legacy", "{}")
        .await
        .fails(409, "key does not support HMAC");
    running.app().put("/v1/key/generate/legacy", "{}").await.ok();
    assert_eq!(
        running.app().get("/v1/key/describe/legacy").await.json()["created_at"],
        "0001-01-01T00:00:00Z"
    );
}

#[tokio::test]
async fn an_unknown_version_is_a_bad_request() {
    let running = TestServer::default().start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    running
        .app()
        .put("/v1/key/generate/my-key", r#"{"version":""}"#)
        .await
        .ok();
    let answer = running
        .app()
        .put("/v1/key/generate/my-key", r#"{"version":"v7"}"#)
        .await;
    answer.fails(400, "key version does not exist");
}

#[tokio::test]
async fn two_servers_that_race_for_a_name_make_one_key() {
    let store: std::sync::Arc<dyn kes_keystore::KeyStore> =
        std::sync::Arc::new(kes_keystore::MemoryStore::new());
    let (one, two) = (
        TestServer::over(store.clone()).start().await,
        TestServer::over(store).start().await,
    );
    for round in 0..20 {
        let path = format!("/v1/key/create/key-{round}");
        let (one_client, two_client) = (one.app(), two.app());
        let (a, b) = tokio::join!(one_client.put(&path, ""), two_client.put(&path, ""));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
    }
}
