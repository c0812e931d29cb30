//! What is secret appears nowhere.

use kes_crypto::SecretBytes;
use kes_keystore_http::{BadRequest, Method, Request, header};
use kes_testkit::PATIENCE;
use serde_json::json;

use crate::rig::{Reply, SHORT, Server, answer, http};

const SECRET: &str = "hunter2";

fn secret_request(server: &Server) -> Request {
    let mut url = server.url("/v1/kv?token=hunter2");
    url.set_username("user").unwrap();
    url.set_password(Some(SECRET)).unwrap();
    let token = Request::secret_value("X-Vault-Token", &SecretBytes::copy_of(SECRET.as_bytes())).unwrap();
    Request::new(Method::POST, url)
        .header(header::HeaderName::from_static("x-vault-token"), token)
        .json(&json!({ "secret_id": SECRET }))
        .unwrap()
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
    let error = answer.json::<Vec<u64>>().unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{text}");
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
        let text = format!(
            "{error} {error:?} {:?}",
            error.clone().into_store_error("Vault".into())
        );
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn what_no_header_may_have_is_refused_unquoted() {
    let error = Request::secret_value("X-Vault-Token", &SecretBytes::copy_of(b"hunter2\n")).unwrap_err();
    assert_eq!(error, BadRequest::Header("X-Vault-Token"));
    assert!(!error.to_string().contains(SECRET));
}
