//! Backups: whole, or known not to be.

use std::net::SocketAddr;
use std::time::Duration;

use kes_client::{BackupStream, Error};
use kes_testkit::{Failure, FakeOwnStore, Gate, Part, TestServer, soon, until};

use crate::canned::{Canned, End, blurt, typed};
use crate::rig::{admin, client};

const OCTETS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n";

async fn read(mut backup: BackupStream) -> (Vec<u8>, Result<(), Error>) {
    let mut bytes = Vec::new();
    loop {
        match soon("the next piece", backup.next()).await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) => {
                // It stays complete.
                assert!(backup.next().await.unwrap().is_none());
                return (bytes, Ok(()));
            }
            Err(error) => {
                // It stays broken.
                assert!(backup.next().await.is_err());
                return (bytes, Err(error));
            }
        }
    }
}

async fn read_from(server: SocketAddr) -> (Vec<u8>, Result<(), Error>) {
    let backup = client(&[server], None).store_backup().await;
    read(backup.unwrap()).await
}

fn is_incomplete(outcome: &Result<(), Error>) -> bool {
    matches!(outcome, Err(Error::Incomplete { .. }))
}

#[tokio::test]
async fn a_backup_is_read_to_its_end() {
    let store = FakeOwnStore::new();
    let server = TestServer::keeping(&store).start().await;
    let kes = admin(server.address());
    for name in ["a", "b"] {
        kes.create_key(name).await.unwrap();
    }
    let (bytes, outcome) = read(kes.store_backup().await.unwrap()).await;
    outcome.unwrap();
    assert_eq!(bytes, b"a\nb\n");
    until("the store is free", async || store.backups_under_way() == 0).await;

    store.set_backup(vec![Part::Piece(vec![7; 3_000_001].into())]);
    let (bytes, outcome) = read(kes.store_backup().await.unwrap()).await;
    outcome.unwrap();
    assert_eq!(bytes.len(), 3_000_001);
    assert!(kes.store_info().await.unwrap().last_backup.is_some());
}

#[tokio::test]
async fn another_backup_meanwhile_is_refused() {
    let store = FakeOwnStore::new();
    let server = TestServer::keeping(&store).start().await;
    let kes = admin(server.address());
    store.set_backup(vec![Part::Wait(Gate::new())]);
    let first = kes.store_backup().await.unwrap();
    let error = kes.store_backup().await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(503), "another backup is under way")
    );
    drop(first);
    until("the store is free", async || store.backups_under_way() == 0).await;
}

#[tokio::test]
async fn a_backup_that_fails_midway_is_incomplete() {
    let store = FakeOwnStore::new();
    let server = TestServer::keeping(&store).start().await;
    let kes = admin(server.address());
    store.set_backup(vec![Part::Piece("one".into()), Part::Fail(Failure::Backend)]);
    let (bytes, outcome) = read(kes.store_backup().await.unwrap()).await;
    assert_eq!(bytes, b"one");
    let error = outcome.unwrap_err();
    let expected = format!("the answer of the server at {} is incomplete", server.address());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_ends_breaks_its_backups_off() {
    let store = FakeOwnStore::new();
    let mut server = TestServer::keeping(&store).with_own_error_log().start().await;
    let kes = admin(server.address());
    store.set_backup(vec![Part::Piece("one".into()), Part::Wait(Gate::new())]);
    let mut backup = kes.store_backup().await.unwrap();
    assert_eq!(backup.next().await.unwrap().unwrap(), "one");
    let reading = tokio::spawn(read(backup));
    soon("the end", server.shutdown(Duration::from_secs(3600))).await;
    let (bytes, outcome) = reading.await.unwrap();
    assert!(bytes.is_empty() && is_incomplete(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_incomplete() {
    let chunked = format!("{OCTETS}transfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    let counted = format!("{OCTETS}content-length: 6\r\n\r\none");
    for answer in [chunked, counted] {
        for end in [End::Goodbye, End::Break] {
            let server = blurt("http/1.1", answer.clone().into_bytes(), end).await;
            let (bytes, outcome) = read_from(server).await;
            assert_eq!(bytes, b"one", "{answer}");
            assert!(is_incomplete(&outcome), "{answer}: {outcome:?}");
        }
    }
    for answer in [
        "transfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
        "content-length: 3\r\n\r\none",
    ] {
        let answer = format!("{OCTETS}{answer}").into_bytes();
        let (bytes, outcome) = read_from(blurt("http/1.1", answer, End::Goodbye).await).await;
        outcome.unwrap();
        assert_eq!(bytes, b"one");
    }
}

#[tokio::test]
async fn an_answer_whose_end_nothing_tells_is_not_begun() {
    let answer = format!("{OCTETS}connection: close\r\n\r\none").into_bytes();
    let server = blurt("http/1.1", answer, End::Goodbye).await;
    let error = client(&[server], None).store_backup().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");

    // Nor is one of something else.
    let canned = Canned::start(|_| typed(200, "text/html", "<html>")).await;
    let error = client(&[canned.address], None).store_backup().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn an_http2_stream_is_complete_only_with_its_own_end() {
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    // `:status: 200` of the static table, then `content-type` of it with a literal value.
    let mut headers = vec![0x88, 0x0f, 0x10, 24];
    headers.extend(b"application/octet-stream");
    let head = [frame(SETTINGS, 0, 0, &[]), frame(1, 4, 1, &headers)].concat();
    let with = |rest: &[Vec<u8>]| [head.clone(), rest.concat()].concat();
    let one = |flags| frame(0, flags, 1, b"one");
    let reset = |reason: u32| frame(3, 0, 1, &reason.to_be_bytes());
    let goodbye = frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);

    let (bytes, outcome) = read_from(blurt("h2", with(&[one(END_STREAM)]), End::Never).await).await;
    outcome.unwrap();
    assert_eq!(bytes, b"one");

    // Reset with each reason that there is, among them "no error"; and the end of the connection, announced or not.
    for reason in 0..=13 {
        let (_, outcome) = read_from(blurt("h2", with(&[one(0), reset(reason)]), End::Never).await).await;
        assert!(is_incomplete(&outcome), "{reason}: {outcome:?}");
    }
    for (rest, end) in [
        (vec![one(0)], End::Goodbye),
        (vec![one(0)], End::Break),
        (vec![one(0), goodbye], End::Goodbye),
    ] {
        let (_, outcome) = read_from(blurt("h2", with(&rest), end).await).await;
        assert!(is_incomplete(&outcome), "{end:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_is_given_up_on() {
    let answer = format!("{OCTETS}transfer-encoding: chunked\r\n\r\n3\r\none\r\n").into_bytes();
    let server = blurt("http/1.1", answer, End::Never).await;
    let mut backup = client(&[server], None).store_backup().await.unwrap();
    // Whoever stops waiting and comes again has lost nothing.
    let first = tokio::time::timeout(Duration::ZERO, backup.next()).await;
    if first.is_err() {
        assert_eq!(soon("the piece", backup.next()).await.unwrap().unwrap(), "one");
    }
    tokio::time::pause();
    let error = backup.next().await.unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { after, .. } if after == Duration::from_secs(90)),
        "{error:?}"
    );
    assert!(backup.next().await.is_err());
}
