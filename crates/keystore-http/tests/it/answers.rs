//! Requests that are answered.

use kes_keystore_http::{
    Failure, Http, HttpSettings, LIST_LIMIT, Method, Request, StatusCode, header, retry_after, to_json,
};
use kes_testkit::PATIENCE;
use serde_json::json;

use crate::rig::{Reply, Server, answer, get, http, settings};

#[tokio::test]
async fn an_answer_of_any_status_is_an_answer() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/fine" => answer("200 OK", r#"{"data":"x"}"#),
        "/none" => answer("204 No Content", ""),
        "/busy" => Reply::Say("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy".into()),
        "/moved" => Reply::Say("HTTP/1.1 307 Moved\r\nlocation: /fine\r\ncontent-length: 0\r\n\r\n".into()),
        other => panic!("{other}"),
    })
    .await;
    let http = http();
    let ask = async |path| http.send(get(server.url(path)), PATIENCE).await.unwrap();

    let fine = ask("/fine").await;
    assert_eq!(fine.status, StatusCode::OK);
    assert_eq!(fine.body.expose_secret(), br#"{"data":"x"}"#);
    assert!(ask("/none").await.body.is_empty());
    let busy = ask("/busy").await;
    assert_eq!(
        (busy.status.as_u16(), busy.body.expose_secret()),
        (503, &b"busy"[..])
    );
    assert_eq!(retry_after(&busy.headers).unwrap().as_secs(), 7);

    // A redirect is not followed.
    let moved = ask("/moved").await;
    assert_eq!(moved.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(moved.headers[header::LOCATION], "/fine");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made() {
    let server = Server::start(|_| answer("200 OK", "")).await;
    let token = header::HeaderValue::from_static("s.abc");
    let request = Request::new(Method::PUT, server.url("/v1/kv/data/a%2Fb?version=1"))
        .header(header::HeaderName::from_static("x-vault-token"), token)
        .body(
            "application/json",
            to_json(&json!({"data": {"key": "value"}})).unwrap(),
        );
    http().send(request, PATIENCE).await.unwrap();

    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "PUT /v1/kv/data/a%2Fb?version=1 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let version = concat!("user-agent: kes/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        [
            "accept: */*",
            "content-length: 24",
            "content-type: application/json",
            &host,
            version,
            "x-vault-token: s.abc",
        ]
    );
    assert_eq!(body, r#"{"data":{"key":"value"}}"#);
}

#[tokio::test]
async fn each_request_has_its_own_connection_unless_told_otherwise() {
    const REQUESTS: usize = 10;
    for keep_alive in [false, true] {
        let server = Server::start(|_| answer("200 OK", "{}")).await;
        let http = Http::new(HttpSettings {
            keep_alive,
            ..settings()
        })
        .unwrap();
        for _ in 0..REQUESTS {
            http.send(get(server.url("/")), PATIENCE).await.unwrap();
        }
        assert_eq!(server.requests().len(), REQUESTS);
        if keep_alive {
            // A request that comes before the connection is back has its own.
            assert!(server.connections() < REQUESTS);
        } else {
            assert_eq!(server.connections(), REQUESTS);
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit_and_never_cut() {
    let server = Server::start(|request| {
        let body = "x".repeat(1000);
        match request.split(' ').nth(1).unwrap() {
            "/announced" => answer("200 OK", &body),
            "/in-pieces" => Reply::Say(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n{half}\r\n1f4\r\n{half}\r\n0\r\n\r\n",
                half = "x".repeat(500),
            )),
            "/to-the-end" => Reply::SayAndClose(format!("HTTP/1.1 200 OK\r\n\r\n{body}")),
            // Whoever waits for all of it waits for ever.
            "/endless" => Reply::SayAndHang(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n{body}\r\n"
            )),
            other => panic!("{other}"),
        }
    })
    .await;
    let http = http();
    for path in ["/announced", "/in-pieces", "/to-the-end"] {
        let request = get(server.url(path)).answer_limit(1000);
        let answer = http.send(request, PATIENCE).await.unwrap();
        assert_eq!(answer.body.expose_secret(), "x".repeat(1000).as_bytes(), "{path}");
    }
    for path in ["/announced", "/in-pieces", "/to-the-end", "/endless"] {
        let request = get(server.url(path)).answer_limit(999);
        let error = http.send(request, PATIENCE).await.unwrap_err();
        assert_eq!(error.failure(), Failure::TooLarge, "{path}: {error}");
        assert!(error.may_have_arrived());
        assert!(
            error.to_string().ends_with("the answer is longer than 999 bytes"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_list_may_be_longer_than_other_answers() {
    let server = Server::start(|_| answer("200 OK", &"x".repeat((1 << 20) + 1))).await;
    let http = http();
    let error = http.send(get(server.url("/")), PATIENCE).await.unwrap_err();
    assert_eq!(error.failure(), Failure::TooLarge);
    let list = get(server.url("/")).answer_limit(LIST_LIMIT);
    assert_eq!(http.send(list, PATIENCE).await.unwrap().body.len(), (1 << 20) + 1);
}
