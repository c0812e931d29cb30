//! Listings over HTTP.

use std::sync::Arc;

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore as _, MemoryStore};
use kes_testkit::{Running, TestClient, TestServer};
use serde_json::Value;

async fn server_with(names: impl IntoIterator<Item = String>) -> Running {
    let store = Arc::new(MemoryStore::new());
    for name in names {
        store
            .create(
                &EntryName::parse(&name).unwrap(),
                &SecretBytes::copy_of(b"never read"),
            )
            .await
            .unwrap();
    }
    TestServer::over(store).start().await
}

fn names(answer: &Value) -> Vec<String> {
    answer["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

async fn all(client: &TestClient, pattern: &str) -> Vec<String> {
    let (mut pattern, mut seen) = (pattern.to_owned(), Vec::new());
    loop {
        let answer = client.get(&format!("/v1/key/list/{pattern}")).await.ok();
        assert!(answer.body.len() <= 512 << 10);
        let page = answer.json();
        seen.extend(names(&page));
        match page.get("continue_at").and_then(Value::as_str) {
            Some(next) if !next.is_empty() => pattern = next.to_owned(),
            _ => return seen,
        }
    }
}

#[tokio::test]
async fn every_key_is_listed_once_however_many_there_are() {
    let expected: Vec<_> = (0..12_345).map(|n| format!("{n:05}{}", "x".repeat(75))).collect();
    let running = server_with(expected.clone()).await;
    assert_eq!(all(&running.app(), "").await, expected);
    let threes: Vec<_> = expected
        .iter()
        .filter(|name| name.starts_with('3'))
        .cloned()
        .collect();
    assert_eq!(all(&running.app(), "3").await, threes);
    assert_eq!(all(&running.app(), "3*").await, threes);
}

#[tokio::test]
async fn an_empty_listing_is_an_empty_array() {
    let running = server_with([]).await;
    for path in [
        "/v1/key/list",
        "/v1/key/list/",
        "/v1/key/list/*",
        "/v1/key/list/nothing",
    ] {
        assert_eq!(running.app().get(path).await.ok().text(), r#"{"names":[]}"#);
    }
}

#[tokio::test]
async fn a_page_goes_on_at_another_server() {
    let expected: Vec<_> = (0..4000).map(|n| format!("key-{n:05}")).collect();
    let (one, two) = (
        server_with(expected.clone()).await,
        server_with(expected.clone()).await,
    );
    let first = one.app().get("/v1/key/list/key-*").await.ok().json();
    let next = first["continue_at"].as_str().unwrap();
    let second = two.app().get(&format!("/v1/key/list/{next}")).await.ok().json();
    assert_eq!([names(&first), names(&second)].concat(), expected);
}

#[tokio::test]
async fn clients_up_to_2023_get_lines() {
    let expected: Vec<_> = (0..6000).map(|n| format!("key-{n:05}")).collect();
    let running = server_with(expected.clone()).await;
    let lines: String = expected
        .iter()
        .map(|name| format!("{{\"name\":\"{name}\"}}\n"))
        .collect();
    let go = ("user-agent", "Go-http-client/2.0");
    for (path, headers) in [
        ("/v1/key/list/", &[("accept", "application/x-ndjson")][..]),
        ("/v1/key/list/*", &[go]),
        ("/v1/key/list/key-*", &[go, ("accept", "*/*")]),
    ] {
        let answer = running.app().send_with("GET", path, headers, "").await.ok();
        assert_eq!(answer.headers["content-type"], "application/x-ndjson");
        assert_eq!(answer.text(), lines);
    }
    for (path, headers) in [
        ("/v1/key/list/key-", &[go][..]),
        ("/v1/key/list/", &[go]),
        ("/v1/key/list/*", &[("user-agent", "curl/8.0")]),
        ("/v1/key/list/*", &[go, ("accept", "application/json")]),
    ] {
        let answer = running.app().send_with("GET", path, headers, "").await;
        assert_eq!(
            answer.headers["content-type"], "application/json",
            "{path} {headers:?}"
        );
    }
}

#[tokio::test]
async fn bad_patterns_and_forged_positions_are_refused() {
    let running = server_with(["a".to_owned()]).await;
    for pattern in [
        "a-", "-a", "a.b", "**", "a*b", "~", "~1.", "~9.a", "~1.-a", "a%2Fb", "%00", "a/b",
    ] {
        let answer = running.app().get(&format!("/v1/key/list/{pattern}")).await;
        assert_eq!(answer.status, 400, "{pattern}");
        assert!(
            answer.message().starts_with("listing pattern '"),
            "{}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn policies_and_identities_are_listed_too() {
    let running = server_with([]).await;
    assert_eq!(
        running.admin().get("/v1/policy/list").await.ok().text(),
        r#"{"names":["app"]}"#
    );
    assert_eq!(
        running.admin().get("/v1/policy/list/b").await.ok().text(),
        r#"{"names":[]}"#
    );
    let identities = running.admin().get("/v1/identity/list/").await.ok().json();
    let mut expected = [
        kes_testkit::admin().identity().to_string(),
        kes_testkit::app().identity().to_string(),
    ];
    expected.sort();
    assert_eq!(identities["identities"], serde_json::json!(expected));

    let ask = [("accept", "application/x-ndjson")];
    let answer = running
        .admin()
        .send_with("GET", "/v1/policy/list/*", &ask, "")
        .await
        .ok();
    assert_eq!(answer.text(), "{\"name\":\"app\"}\n");
    let answer = running
        .admin()
        .send_with("GET", "/v1/identity/list/*", &ask, "")
        .await
        .ok();
    assert_eq!(
        answer.text(),
        format!(
            "{{\"identity\":\"{}\"}}\n{{\"identity\":\"{}\"}}\n",
            expected[0], expected[1]
        )
    );
}
