//! Requests that are not answered.

use std::time::Duration;

use kes_keystore_http::{Failure, Http, HttpSettings, SendError, Url};
use kes_testkit::{PATIENCE, soon};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::rig::{Reply, SHORT, Server, get, http, settings};

async fn fails(http: &Http, url: Url, timeout: Duration) -> SendError {
    soon("the failure", http.send(get(url), timeout))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn nobody_listens() {
    // Kept, so that nobody else listens there meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let url = format!("http://{address}/").parse().unwrap();
    let error = fails(&http(), url, PATIENCE).await;
    assert_eq!(error.failure(), Failure::Connect, "{error}");
    assert!(!error.may_have_arrived());
    assert_eq!(
        error.to_string(),
        format!("{address}: cannot connect: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn the_name_has_no_address() {
    // Too long for a name, so that nobody is asked.
    let url = format!("http://{}.example:8200/", "a".repeat(64))
        .parse()
        .unwrap();
    let error = fails(&http(), url, PATIENCE).await;
    assert_eq!(error.failure(), Failure::Dns, "{error}");
    assert!(!error.may_have_arrived());
    assert!(error.to_string().contains(".example:8200: "), "{error}");
}

#[tokio::test]
async fn nothing_is_answered_in_time() {
    // Long enough for a busy machine to send the request.
    let a_little_less = Duration::from_secs(3) - Duration::from_nanos(4_321);
    let replies = [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ];
    let mut asked = JoinSet::new();
    for reply in replies {
        asked.spawn(async move {
            let server = Server::start(move |_| Reply::SayAndHang(reply.into())).await;
            let error = fails(&http(), server.url("/"), a_little_less).await;
            assert_eq!(error.failure(), Failure::Timeout, "{error}");
            assert!(error.may_have_arrived());
            let address = server.address;
            assert_eq!(error.to_string(), format!("{address}: no answer within 3s"));
        });
    }
    asked.join_all().await;
}

#[tokio::test]
async fn no_time_is_left() {
    let server = Server::start(|_| Reply::SayAndHang(String::new())).await;
    let error = fails(&http(), server.url("/"), Duration::ZERO).await;
    assert_eq!(error.failure(), Failure::Timeout);
    assert!(!error.may_have_arrived());
    assert_eq!((server.connections(), server.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_connection_takes_too_long() {
    // Nobody accepts, so the TLS handshake gets no answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http = Http::new(HttpSettings {
        connect_timeout: SHORT,
        ..settings()
    })
    .unwrap();
    let url = format!("https://{address}/").parse().unwrap();
    let error = fails(&http, url, PATIENCE).await;
    assert_eq!(error.failure(), Failure::Timeout, "{error}");
    assert!(!error.may_have_arrived());
    assert_eq!(
        error.to_string(),
        format!("{address}: no connection within 100ms")
    );
}

#[tokio::test]
async fn the_connection_ends_before_the_answer_does() {
    let heads = [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf",
    ];
    for keep_alive in [false, true] {
        let http = Http::new(HttpSettings {
            keep_alive,
            ..settings()
        })
        .unwrap();
        for head in heads {
            for end in [Reply::SayAndClose, Reply::SayAndReset] {
                let server = Server::start(move |_| end(head.into())).await;
                let error = fails(&http, server.url("/"), PATIENCE).await;
                assert_eq!(error.failure(), Failure::Closed, "{head:?}: {error}");
                assert!(error.may_have_arrived());
                assert_eq!(server.requests().len(), 1, "{head:?}");
                let start = format!("{}: the connection ended before the answer did: ", server.address);
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn the_answer_is_not_http() {
    let server = Server::start(|_| Reply::SayAndClose("220 mail.example ESMTP\r\n".into())).await;
    let error = fails(&http(), server.url("/"), PATIENCE).await;
    assert_eq!(error.failure(), Failure::Protocol, "{error}");
    assert!(error.may_have_arrived());
    let text = error.to_string();
    assert!(text.contains("the answer is not HTTP: "), "{text}");
    assert!(
        text.ends_with("; if it speaks TLS, its address begins with https://"),
        "{text}"
    );
}
