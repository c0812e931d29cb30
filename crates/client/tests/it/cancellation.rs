//! Futures and streams that are dropped take their request with them.

use std::time::Duration;

use kes_client::{AuditEvent, Client, Error, EventStream, Listing};
use kes_testkit::{soon, until};

use crate::canned::{Canned, End, Reply, blurt_until_closed, json};
use crate::rig::client;

#[tokio::test]
async fn a_call_that_is_dropped_is_given_up() {
    let server = Canned::start(|_| Reply::Never).await;
    let kes = client(&[server.address], None);
    for calls in 1..4 {
        let call = tokio::spawn({
            let kes = kes.clone();
            async move { kes.generate("a", b"").await.map(drop) }
        });
        until("the request is there", async || server.requests().len() == calls).await;
        assert_eq!(server.abandoned(), calls - 1);
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        until("the server is told", async || server.abandoned() == calls).await;
    }
}

#[tokio::test]
async fn a_call_that_is_out_of_time_is_given_up() {
    let server = Canned::start(|_| Reply::Never).await;
    let kes = client(&[server.address], None).with_timeout(Duration::from_millis(200));
    let error = kes.status().await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let begun = server.requests().len();
    until("the server is told", async || server.abandoned() == begun).await;
}

#[tokio::test]
async fn a_listing_that_is_dropped_is_given_up() {
    let server = Canned::start(|path| match path {
        "/v1/key/list/" => Reply::from(json(200, r#"{"names":["a","b"],"continue_at":"~c"}"#)),
        _ => Reply::Never,
    })
    .await;
    let kes = client(&[server.address], None);
    let mut names = kes.keys("");
    assert!(
        server.requests().is_empty(),
        "nothing is asked for before it is wanted"
    );
    assert_eq!(names.next().await.unwrap().as_deref(), Some("a"));
    assert_eq!(names.next().await.unwrap().as_deref(), Some("b"));
    assert_eq!(server.requests().len(), 1, "the next page is not wanted yet");
    let listing = tokio::spawn(async move { names.next().await });
    until("the next page is asked for", async || {
        server.requests().len() == 2
    })
    .await;
    listing.abort();
    assert!(listing.await.unwrap_err().is_cancelled());
    until("the server is told", async || server.abandoned() == 1).await;
}

#[tokio::test]
async fn a_log_that_is_dropped_ends_its_connection() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n\
                  10\r\n{\"message\":\"a\"}\n\r\n";
    let (server, closed) = blurt_until_closed("http/1.1", answer.into(), End::Never).await;
    let mut log = client(&[server], None).error_log().await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().message, "a");
    // Whoever stops waiting for an event has not ended the log.
    assert!(tokio::time::timeout(Duration::ZERO, log.next()).await.is_err());
    assert!(!closed.is_finished());
    drop(log);
    soon("the end of the connection", closed).await.unwrap();
}

/// Everything can be sent to another task, and awaited there.
#[test]
fn what_the_client_returns_may_move_between_threads() {
    const fn moves<T: Send + 'static>() {}
    fn future_moves<T: Send>(_: impl FnOnce(&'static Client) -> T) {}
    moves::<Client>();
    moves::<Listing>();
    moves::<EventStream<AuditEvent>>();
    moves::<kes_client::BackupStream>();
    moves::<Error>();
    future_moves(|kes| kes.create_key("a"));
    future_moves(|kes| kes.generate("a", b""));
    future_moves(|kes| kes.decrypt_bulk("a", &[]));
    future_moves(|kes| kes.list_keys(""));
    future_moves(|kes| kes.audit_log());
    future_moves(|kes| kes.measurements());
    future_moves(|kes| kes.store_backup());
}
