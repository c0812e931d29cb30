//! Who may do what, over HTTP.

use kes_server::PolicySettings;
use kes_testkit::{Credentials, TestServer, admin, app};
use kes_types::{Policy, PolicyName, Rule};
use serde_json::json;

const DENIED: &str = "not authorized: insufficient permissions";

fn policy(allow: &[&str], deny: &[&str]) -> PolicySettings {
    let rules = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    PolicySettings {
        name: PolicyName::parse("app").unwrap(),
        policy: Policy {
            allow: rules(allow),
            deny: rules(deny),
        },
        identities: vec![app().identity()],
    }
}

async fn with_policy(allow: &[&str], deny: &[&str]) -> kes_testkit::Running {
    let mut server = TestServer::default();
    server.settings.policies = vec![policy(allow, deny)];
    server.start().await
}

#[tokio::test]
async fn whoever_is_denied_learns_nothing() {
    let running = with_policy(&["/v1/status"], &[]).await;
    running.admin().put("/v1/key/create/there", "").await.ok();
    for path in [
        "/v1/key/describe/there",
        "/v1/key/describe/not-there",
        "/v1/key/describe/bad.name",
        "/v1/key/describe/",
        "/v1/key/list/**",
        "/v1/policy/read/app",
        "/v1/policy/read/other",
        "/v1/metrics",
    ] {
        running.app().get(path).await.fails(403, DENIED);
    }
    running
        .app()
        .put("/v1/key/decrypt/there", "not json")
        .await
        .fails(403, DENIED);
    running.app().get("/v1/status").await.ok();
}

#[tokio::test]
async fn strangers_may_ask_for_the_version_and_who_they_are() {
    let running = TestServer::default().start().await;
    let stranger = Credentials::self_signed("stranger");
    let client = running.client(&stranger);
    client.get("/v1/status").await.fails(403, DENIED);
    assert_eq!(
        client.get("/version").await.ok().json(),
        json!({"version": "test", "commit": "none"})
    );
    let own = client.get("/v1/identity/self/describe").await.ok().json();
    assert_eq!(own["identity"], stranger.identity().as_str());
    assert!(own.get("policy").is_none() && own.get("admin").is_none());
}

#[tokio::test]
async fn deny_wins_also_as_a_glob_in_the_middle_of_a_path() {
    let running = with_policy(&["/v1/key/*"], &["/v1/key/*/internal*"]).await;
    running.app().put("/v1/key/create/external", "").await.ok();
    running
        .app()
        .put("/v1/key/create/internal-1", "")
        .await
        .fails(403, DENIED);
    running
        .app()
        .put("/v1/key/create/%69nternal-1", "")
        .await
        .fails(403, DENIED);
    running.admin().put("/v1/key/create/internal-1", "").await.ok();
}

#[tokio::test]
async fn a_listing_is_permitted_by_its_prefix() {
    let running = with_policy(&["/v1/key/list"], &[]).await;
    for path in ["/v1/key/list", "/v1/key/list/", "/v1/key/list/*"] {
        running.app().get(path).await.ok();
    }
    for path in ["/v1/key/list/a", "/v1/key/list/a*", "/v1/key/list/~1.ab"] {
        running.app().get(path).await.fails(403, DENIED);
    }

    let running = with_policy(&["/v1/key/list/app-*"], &[]).await;
    for path in [
        "/v1/key/list/app-*",
        "/v1/key/list/app-x",
        "/v1/key/list/~4.app-x",
    ] {
        running.app().get(path).await.ok();
    }
    // A position that begins with a permitted name stands for its prefix, which is not permitted.
    for path in [
        "/v1/key/list/",
        "/v1/key/list/~0.app-x",
        "/v1/key/list/~3.app-x",
        "/v1/key/list/*",
    ] {
        running.app().get(path).await.fails(403, DENIED);
    }
}

#[tokio::test]
async fn policies_are_described_and_read() {
    let running = TestServer::default().start().await;
    let described = running.admin().get("/v1/policy/describe/app").await.ok().json();
    assert_eq!(
        (&described["name"], &described["created_by"]),
        (&json!("app"), &json!(admin().identity().as_str()))
    );
    assert!(described.get("allow").is_none());
    let read = running.admin().get("/v1/policy/read/app").await.ok().json();
    assert_eq!(read["allow"], json!({"/v1/key/*": {}, "/v1/status": {}}));
    assert_eq!(read["deny"], json!({"/v1/key/*/internal*": {}}));
    running
        .admin()
        .get("/v1/policy/read/other")
        .await
        .fails(404, "policy does not exist");
    let bad = running.admin().get("/v1/policy/read/a.b").await;
    bad.fails(
        400,
        "policy name 'a.b' is empty, too long or contains invalid characters",
    );
}

#[tokio::test]
async fn identities_are_described() {
    let running = TestServer::default().start().await;
    let path = |identity: kes_types::Identity| format!("/v1/identity/describe/{identity}");
    let user = running.admin().get(&path(app().identity())).await.ok().json();
    assert_eq!(
        (&user["policy"], &user["created_by"]),
        (&json!("app"), &json!(admin().identity().as_str()))
    );
    let root = running.admin().get(&path(admin().identity())).await.ok().json();
    assert_eq!(root["admin"], json!(true));
    assert!(root.get("policy").is_none() && root.get("created_by").is_none());
    running
        .admin()
        .get("/v1/identity/describe/nobody")
        .await
        .fails(404, "identity does not exist");

    let own = running.app().get("/v1/identity/self/describe").await.ok().json();
    assert_eq!(own["identity"], app().identity().as_str());
    assert_eq!(own["policy"], "app");
    assert_eq!(own["deny"], json!({"/v1/key/*/internal*": {}}));
    let own = running
        .admin()
        .get("/v1/identity/self/describe")
        .await
        .ok()
        .json();
    assert_eq!(
        (&own["admin"], &own["identity"]),
        (&json!(true), &json!(admin().identity().as_str()))
    );
}

#[tokio::test]
async fn decrypting_in_bulk_is_no_way_round_a_rule() {
    let running = with_policy(&["/v1/key/*"], &["/v1/key/decrypt/internal*", "/v1/key/*/secret"]).await;
    for name in ["internal-1", "secret"] {
        running
            .admin()
            .put(&format!("/v1/key/create/{name}"), "")
            .await
            .ok();
        let path = format!("/v1/key/bulk/decrypt/{name}");
        running.app().put(&path, "[]").await.fails(403, DENIED);
        running.admin().put(&path, "[]").await.ok();
    }
    running.app().put("/v1/key/create/open", "").await.ok();
    running.app().put("/v1/key/bulk/decrypt/open", "[]").await.ok();
}
