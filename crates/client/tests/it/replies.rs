//! Answers that our own server does not give.

use http_body_util::Full;
use kes_client::{Error, Sealed};

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
    assert_eq!(server.requests(), ["GET /v1/key/list/", "GET /v1/key/list/b"]);
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
async fn what_is_missing_is_not_empty() {
    for body in [
        "{}",
        r#"{"plaintext":"","ciphertext":""}"#,
        r#"{"plaintext":null,"ciphertext":"YQ=="}"#,
        r#"{"plaintext":"YQ=="}"#,
        r#"["YQ==","YQ=="]"#,
        "null",
        "",
    ] {
        let server = Canned::start(move |_| json(200, body)).await;
        let kes = client(&[server.address], None);
        let error = kes.generate("a", b"").await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{body}: {error:?}");
        assert!(kes.hmac("a", b"").await.is_err(), "{body}");
    }
    // But a plaintext may be empty.
    let server = Canned::start(|_| json(200, r#"{"plaintext":null,"ciphertext":null}"#)).await;
    let kes = client(&[server.address], None);
    assert!(kes.decrypt("a", b"", b"").await.unwrap().is_empty());
    assert!(kes.encrypt("a", b"", b"").await.is_err());
}

#[tokio::test]
async fn a_bulk_answer_has_as_many_plaintexts() {
    let server = Canned::start(|_| json(200, r#"[{"plaintext":"YQ=="}]"#)).await;
    let error = client(&[server.address], None)
        .decrypt_bulk(
            "a",
            &[Sealed {
                ciphertext: b"",
                context: b"",
            }; 2],
        )
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
    assert_eq!(server.requests(), ["PUT /v1/key/create/a%2F..%2Fb%20c%25"]);
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
    let error = kes.audit_log().await.unwrap_err();
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

#[tokio::test]
async fn a_page_of_somebody_else_is_no_answer() {
    let server = Canned::start(|_| typed(200, "text/html; charset=utf-8", "<html>secret</html>")).await;
    let kes = client(&[server.address], None);
    for error in [
        kes.create_key("a").await.unwrap_err(),
        kes.version().await.unwrap_err(),
        kes.ready().await.unwrap_err(),
        kes.metrics().await.unwrap_err(),
        kes.list_keys("").await.unwrap_err(),
        kes.generate("a", b"").await.unwrap_err(),
        kes.error_log().await.unwrap_err(),
        kes.store_backup().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert!(error.remedy().is_some());
    }
    // Nor is something where nothing belongs, whatever it calls itself; but an empty object is nothing.
    let server = Canned::start(|path| match path {
        "/v1/key/create/a" => typed(200, "text/plain", "welcome"),
        _ => json(200, "{}"),
    })
    .await;
    let kes = client(&[server.address], None);
    let error = kes.create_key("a").await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    kes.create_key("b").await.unwrap();
}

#[tokio::test]
async fn json_may_be_called_text_or_nothing() {
    for content_type in [
        "application/json; charset=utf-8",
        "text/plain",
        "Application/JSON",
    ] {
        let server = Canned::start(move |_| typed(200, content_type, r#"{"version":"1"}"#)).await;
        assert_eq!(
            client(&[server.address], None).version().await.unwrap().version,
            "1"
        );
    }
    let server =
        Canned::start(|_| http::Response::new(Full::new(bytes::Bytes::from(r#"{"version":"1"}"#)))).await;
    assert_eq!(
        client(&[server.address], None).version().await.unwrap().version,
        "1"
    );
}

#[tokio::test]
async fn plain_text_and_empty_errors_have_a_message() {
    let server = Canned::start(|path| match path {
        "/v1/status" => typed(404, "text/plain", "404 page not found\n"),
        _ => typed(405, "text/plain", ""),
    })
    .await;
    let kes = client(&[server.address], None);
    let error = kes.status().await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(404), "404 page not found")
    );
    let error = kes.version().await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(405), "the server answered 405 Method Not Allowed")
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Canned::start(|_| {
        let mut response = typed(301, "text/plain", "");
        response
            .headers_mut()
            .insert("location", "/elsewhere".parse().unwrap());
        response
    })
    .await;
    let error = client(&[server.address], None).list_keys("").await.unwrap_err();
    assert_eq!(error.status(), Some(301));
    assert_eq!(server.requests(), ["GET /v1/key/list/"]);
}

#[tokio::test]
async fn answers_of_the_reference_are_read() {
    let server = Canned::start(|path| match path {
        "/v1/key/describe/a" => json(
            200,
            r#"{"name":"a","id":"x","algorithm":null,"created_at":"2023-05-01T10:00:00.123456789Z","created_by":"ab"}"#,
        ),
        "/v1/key/describe/b" => json(200, r#"{"name":"b"}"#),
        "/v1/status" => json(200, r#"{"version":"v1","uptime":3,"keystore_unreachable":true,"more":[1]}"#),
        "/v1/api" => json(
            200,
            r#"[{"method":"GET","path":"/version","max_body":0,"timeout":15},{"method":"GET","path":"/v1/log/audit"}]"#,
        ),
        "/v1/policy/list/" => json(200, r#"["b","a"]"#),
        "/v1/identity/list/" => json(200, r#"[{"identity":"b","policy":"p"},{"identity":"a"}]"#),
        "/v1/log/audit" => typed(
            200,
            "application/x-ndjson",
            "{\"time\":\"2023-05-01T10:00:00Z\",\"request\":{\"path\":\"/version\",\"identity\":null},\
             \"response\":{\"code\":200,\"time\":1200}}\n",
        ),
        _ => json(200, r#"{"identity":"ab","admin":true,"created_at":"2023-05-01T10:00:00Z"}"#),
    })
    .await;
    let kes = client(&[server.address], None);
    let key = kes.describe_key("a").await.unwrap();
    assert!(key.algorithm.is_empty() && key.created_at.is_some() && key.created_by == "ab");
    assert_eq!(kes.describe_key("b").await.unwrap().created_at, None);
    assert!(kes.status().await.unwrap().keystore_unreachable);
    assert_eq!(kes.api().await.unwrap().len(), 2);
    assert_eq!(kes.list_policies("").await.unwrap(), ["a", "b"]);
    assert_eq!(kes.list_identities("").await.unwrap(), ["a", "b"]);
    assert!(kes.describe_identity("ab").await.unwrap().admin);
    let event = kes.audit_log().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!((event.response.code, event.request.identity.as_str()), (200, ""));
}
