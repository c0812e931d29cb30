//! What is secret appears nowhere.

use kes_keystore_http::{Method, Request, header, to_json};
use kes_testkit::PATIENCE;
use serde_json::json;

use crate::rig::{Reply, SHORT, Server, answer, http};

const SECRET: &str = "hunter2";

fn secret_request(server: &Server) -> Request {
    let mut url = server.url("/v1/kv?token=hunter2");
    url.set_username("user").unwrap();
    url.set_password(Some(SECRET)).unwrap();
    let mut token = header::HeaderValue::from_static(SECRET);
    token.set_sensitive(true);
    Request::new(Method::POST, url)
        .header(header::HeaderName::from_static("x-vault-token"), token)
        .body(
            "application/json",
            to_json(&json!({ "secret_id": SECRET })).unwrap(),
        )
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let server = Server::start(|_| answer("200 OK", r#"{"token":"hunter2"}"#)).await;
    let request = secret_request(&server);
    let text = format!("{request:?}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(
        text.contains("/v1/kv") && text.contains("x-vault-token"),
        "{text}"
    );

    let http = http();
    let answer = http.send(request, PATIENCE).await.unwrap();
    let text = format!("{http:?} {answer:?}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(text.contains("Answer(200 OK, 19 bytes)"), "{text}");
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    for reply in [
        Reply::SayAndHang("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhunter2".into()),
        Reply::SayAndClose("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhunter2".into()),
        Reply::SayAndReset("HTTP/1.1 200 OK\r\n\r\n".into()),
        Reply::SayAndClose("hunter2".into()),
        Reply::SayAndClose("HTTP/1.1 200 OK\r\nhunter2 : \u{0}\r\n\r\n".into()),
        Reply::Say("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nhunter2".into()),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let error = http().send(secret_request(&server), SHORT).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
    }
}
