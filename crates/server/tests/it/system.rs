//! What the server says about itself.

use std::sync::Arc;
use std::time::Duration;

use kes_server::RouteSettings;
use kes_testkit::{Failure, FaultyStore, TestServer};
use kes_types::Verb;
use serde_json::json;

#[tokio::test]
async fn status_has_no_zero() {
    let running = TestServer::default().start().await;
    let status = running.app().get("/v1/status").await.ok().json();
    assert_eq!(
        (&status["version"], &status["os"]),
        (&json!("test"), &json!("linux"))
    );
    for field in [
        "num_cpu",
        "num_cpu_used",
        "mem_heap_used",
        "mem_stack_used",
        "keystore_latency",
    ] {
        assert!(status[field].as_u64().unwrap() > 0, "{field}");
    }
    assert!(status.get("keystore_unreachable").is_none());
}

#[tokio::test]
async fn the_routes_are_listed_as_they_are_configured() {
    let mut server = TestServer::default();
    let slow = RouteSettings {
        skip_auth: false,
        timeout: Some(Duration::from_secs(60)),
    };
    server.settings.routes.insert(Verb::GenerateKey, slow);
    let running = server.start().await;
    let routes = running.admin().get("/v1/api").await.ok().json();
    let expected = Verb::ALL.iter().filter(|verb| !verb.is_maintenance());
    assert_eq!(routes.as_array().unwrap().len(), expected.count());
    let find = |path: &str| {
        routes
            .as_array()
            .unwrap()
            .iter()
            .find(|route| route["path"] == path)
            .unwrap()
            .clone()
    };
    let generate =
        json!({"method": "PUT", "path": "/v1/key/generate/", "max_body": 1_000_000, "timeout": 60});
    assert_eq!(find("/v1/key/generate/"), generate);
    let log = json!({"method": "GET", "path": "/v1/log/audit", "max_body": 0, "timeout": 0});
    assert_eq!(find("/v1/log/audit"), log);
}

#[tokio::test]
async fn metrics_are_prometheus_text_whatever_is_accepted() {
    let running = TestServer::default().start().await;
    let headers = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = running
        .admin()
        .send_with("GET", "/v1/metrics", &headers, "")
        .await
        .ok();
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(answer.text().contains("\nkes_http_request_active 1\n"));
}

#[tokio::test]
async fn readiness_tells_unreachable_from_unavailable() {
    let store = Arc::new(FaultyStore::new());
    let running = TestServer::over(store.clone()).start().await;
    assert!(running.admin().get("/v1/ready").await.ok().body.is_empty());
    store.fail(Failure::Backend);
    running
        .admin()
        .get("/v1/ready")
        .await
        .fails(502, "key store is unavailable");
    assert_eq!(
        running.admin().get("/v1/status").await.ok().json()["keystore_unreachable"],
        true
    );
    store.fail(Failure::Unreachable);
    running
        .admin()
        .get("/v1/ready")
        .await
        .fails(504, "key store is not reachable");
}
