//! Answers that our own server does not give.

use http_body_util::Full;
use kes_client::Error;

use crate::canned::{Canned, json, typed};
use crate::rig::client;

#[tokio::test]
async fn listings_of_2023_are_one_name_a_line() {
    let server = Canned::start(|_| {
        typed(
            200,
            "application/x-ndjson",
            "{\"name\":\"b\"}\n{\"name\":\"a\"}\n",
        )
    })
    .await;
    assert_eq!(
        client(&[server.address], None).list_keys("").await.unwrap(),
        ["a", "b"]
    );
    let server = Canned::start(|_| typed(200, "application/x-ndjson", "{\"identity\":\"a\"}\n")).await;
    assert_eq!(
        client(&[server.address], None).list_identities("").await.unwrap(),
        ["a"]
    );
}

#[tokio::test]
async fn a_server_that_cannot_page_does_not_loop_us() {
    let server = Canned::start(|_| json(200, r#"{"names":["a","b"],"continue_at":"b"}"#)).await;
    assert_eq!(
        client(&[server.address], None).list_keys("").await.unwrap(),
        ["a", "b"]
    );
    assert_eq!(server.paths(), ["/v1/key/list/", "/v1/key/list/b"]);
}

#[tokio::test]
async fn an_error_may_be_called_error() {
    let server = Canned::start(|_| json(404, r#"{"error":"key does not exist"}"#)).await;
    let error = client(&[server.address], None)
        .describe_key("a")
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(404), "key does not exist")
    );
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let server = Canned::start(|_| http::Response::new(Full::new(vec![b' '; (1 << 20) + 1].into()))).await;
    let error = client(&[server.address], None)
        .describe_key("a")
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit } if limit == 1 << 20),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_malformed_answer_is_not_quoted() {
    let server = Canned::start(|_| json(200, r#"{"plaintext":"secret!","ciphertext":"YQ=="}"#)).await;
    let error = client(&[server.address], None)
        .generate("a", b"")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_bulk_answer_has_as_many_plaintexts() {
    let server = Canned::start(|_| json(200, r#"[{"plaintext":"YQ=="}]"#)).await;
    let error = client(&[server.address], None)
        .decrypt_bulk("a", &[(b"", b""), (b"", b"")])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn names_are_escaped_into_the_path() {
    let server = Canned::start(|_| typed(200, "text/plain", "")).await;
    client(&[server.address], None)
        .create_key("a/../b c%")
        .await
        .unwrap();
    assert_eq!(server.paths(), ["/v1/key/create/a%2F..%2Fb%20c%25"]);
}

#[tokio::test]
async fn rules_may_be_an_object_or_an_array_beside_the_policy_or_in_it() {
    let server = Canned::start(|path| match path {
        "/v1/policy/read/map" => json(
            200,
            r#"{"name":"p","allow":{"/v1/key/*":{}},"deny":{"/v1/key/x":{}}}"#,
        ),
        "/v1/policy/read/array" => json(200, r#"{"name":"p","allow":["/v1/key/*"],"deny":["/v1/key/x"]}"#),
        "/v1/policy/describe/zero" => json(200, r#"{"name":"p","created_at":"0001-01-01T00:00:00Z"}"#),
        _ => json(
            200,
            r#"{"identity":"ab","policy":{"name":"p","allow":{"/v1/key/*":{}},"deny":{"/v1/key/x":{}}}}"#,
        ),
    })
    .await;
    let kes = client(&[server.address], None);
    let policy = kes.read_policy("map").await.unwrap();
    assert_eq!(policy.allow.first().map(String::as_str), Some("/v1/key/*"));
    assert_eq!(kes.read_policy("array").await.unwrap(), policy);
    assert_eq!(kes.describe_self().await.unwrap().policy, Some(policy));
    assert_eq!(kes.describe_policy("zero").await.unwrap().created_at, None);
}

#[tokio::test]
async fn what_is_no_log_and_what_are_no_metrics_is_malformed() {
    let server = Canned::start(|_| typed(200, "text/html", "<html>\n<p>Welcome</p>\n")).await;
    let kes = client(&[server.address], None);
    let error = kes.measurements().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let error = kes.audit_log().await.unwrap().next().await.unwrap_err();
    assert!(
        matches!(error, Error::Malformed { .. }) && !error.to_string().contains("html"),
        "{error:?}"
    );
    // An error log has other events than an audit log.
    let server = Canned::start(|_| typed(200, "application/x-ndjson", "\n{\"message\":\"a\"}\n")).await;
    let kes = client(&[server.address], None);
    assert!(kes.audit_log().await.unwrap().next().await.is_err());
    let mut log = kes.error_log().await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().message, "a");
    assert!(log.next().await.unwrap().is_none());
}
