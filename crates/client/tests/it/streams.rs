//! Listings and logs as streams, and how they end.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kes_client::{Error, ErrorEvent, EventStream};
use kes_testkit::{TestServer, soon};

use crate::canned::{Canned, End, blurt, json, typed};
use crate::rig::{admin, client};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST: &str = "0\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

async fn log_of(chunks: &[String], end: End) -> EventStream<ErrorEvent> {
    let answer = format!("{HEAD}{}", chunks.concat());
    let server = blurt("http/1.1", answer.into_bytes(), end).await;
    client(&[server], None).error_log().await.unwrap()
}

/// The messages of a log, and how it ended.
async fn read(log: EventStream<ErrorEvent>) -> (Vec<String>, Result<(), Error>) {
    let mut messages = Vec::new();
    let mut log = log;
    loop {
        match soon("the next event", log.next()).await {
            Ok(Some(event)) => messages.push(event.message),
            Ok(None) => return (messages, Ok(())),
            Err(error) => {
                assert!(
                    log.next().await.unwrap().is_none(),
                    "after an error there is nothing"
                );
                return (messages, Err(error));
            }
        }
    }
}

#[tokio::test]
async fn events_come_in_whatever_pieces_they_arrive() {
    let pieces = [
        "{\"mess",
        "age\":\"a\"}\n\n \n{\"message\":\"b\"}\n{\"message\"",
        ":\"c\"}",
    ]
    .map(chunk);
    let log = log_of(&[pieces.concat(), LAST.to_owned()], End::Goodbye).await;
    let (messages, outcome) = read(log).await;
    outcome.unwrap();
    assert_eq!(messages, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_log_is_a_stream() {
    let log = log_of(
        &[
            chunk("{\"message\":\"a\"}\n{\"message\":\"b\"}\n"),
            LAST.to_owned(),
        ],
        End::Goodbye,
    )
    .await;
    let messages: Vec<_> = log.map_ok(|event| event.message).try_collect().await.unwrap();
    assert_eq!(messages, ["a", "b"]);
}

#[tokio::test]
async fn a_log_that_ends_within_an_event_is_incomplete() {
    let begun = chunk("{\"message\":\"a\"}\n{\"message\":\"secre");
    for (chunks, end) in [
        (vec![begun.clone(), LAST.to_owned()], End::Goodbye),
        (vec![begun.clone()], End::Goodbye),
        (vec![begun], End::Break),
        (vec![chunk("{\"message\":\"a\"}\n")], End::Break),
    ] {
        let (messages, outcome) = read(log_of(&chunks, end).await).await;
        assert_eq!(messages, ["a"]);
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("secre"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_malformed_and_not_quoted() {
    for garbage in [
        "<html>secret</html>\n",
        "{\"message\":7777}\n",
        "[\"secret\"]\n",
        "\u{0}\n",
    ] {
        let log = log_of(&[chunk("{\"message\":\"a\"}\n"), chunk(garbage)], End::Never).await;
        let (messages, outcome) = read(log).await;
        assert_eq!(messages, ["a"]);
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("7777"), "{shown}");
    }
}

#[tokio::test]
async fn an_event_has_a_bound() {
    let long = "a".repeat(1 << 20);
    for text in [long.clone() + "a", format!("{{\"message\":\"{long}\"}}\n")] {
        let (messages, outcome) = read(log_of(&[chunk(&text)], End::Never).await).await;
        assert!(messages.is_empty());
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit } if limit == 1 << 20),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_log_of_our_server_ends_when_the_server_does() {
    let mut server = TestServer::default().with_own_error_log().start().await;
    let kes = admin(server.address());
    let mut log = kes.audit_log().await.unwrap();
    kes.ready().await.unwrap();
    assert!(soon("an event", log.next()).await.unwrap().is_some());
    let rest = tokio::spawn(async move { log.map(|event| event.is_ok()).collect::<Vec<bool>>().await });
    soon("the end", server.shutdown(Duration::from_secs(3600))).await;
    soon("the end of the log", rest).await.unwrap();
}

#[tokio::test]
async fn a_listing_without_pages_is_read_line_by_line() {
    let whole = [
        chunk("{\"name\":\"a\"}\n{\"na"),
        chunk("me\":\"b\"}\n"),
        LAST.to_owned(),
    ]
    .concat();
    let server = blurt("http/1.1", format!("{HEAD}{whole}").into_bytes(), End::Goodbye).await;
    let names: Vec<String> = client(&[server], None).keys("").try_collect().await.unwrap();
    assert_eq!(names, ["a", "b"]);

    // One that breaks off is not taken for a short one.
    let broken = chunk("{\"name\":\"a\"}\n");
    for end in [End::Goodbye, End::Break] {
        let server = blurt("http/1.1", format!("{HEAD}{broken}").into_bytes(), end).await;
        let mut names = client(&[server], None).keys("");
        assert_eq!(names.next().await.unwrap().as_deref(), Some("a"));
        let error = names.next().await.unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
        assert!(names.next().await.unwrap().is_none());
    }

    let long = format!("{{\"name\":\"{}\"}}\n", "a".repeat(64 << 10));
    let server = blurt(
        "http/1.1",
        format!("{HEAD}{}", chunk(&long)).into_bytes(),
        End::Never,
    )
    .await;
    let error = client(&[server], None).list_keys("").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_listing_that_fails_midway_is_an_error() {
    let server = Canned::start(|path| match path {
        "/v1/policy/list/" => json(200, r#"{"names":["a"],"continue_at":"~b"}"#),
        _ => json(400, r#"{"message":"listing pattern '~b' is invalid"}"#),
    })
    .await;
    let kes = client(&[server.address], None);
    let mut names = kes.policies("");
    assert_eq!(names.next().await.unwrap().as_deref(), Some("a"));
    assert_eq!(names.next().await.unwrap_err().status(), Some(400));
    assert!(names.next().await.unwrap().is_none());
    assert_eq!(kes.list_policies("").await.unwrap_err().status(), Some(400));
}

#[tokio::test]
async fn a_page_has_a_bound() {
    let server = Canned::start(|_| typed(200, "application/json", vec![b' '; (4 << 20) + 1])).await;
    let error = client(&[server.address], None).list_keys("").await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit } if limit == 4 << 20),
        "{error:?}"
    );
}
