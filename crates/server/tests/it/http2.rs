//! HTTP/2 in bad faith, frame by frame.

use std::sync::Arc;
use std::time::Duration;

use kes_keystore::StoreOp;
use kes_server::RouteSettings;
use kes_testkit::{FaultyStore, Gate, Protocol, RawConnection, Running, Step, TestServer, soon, until};
use kes_types::Verb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block that uses no table but the static one.
fn header_block(method: &str, path: &str) -> Vec<u8> {
    let literal =
        |index: u8, value: &str| [&[index, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [
        literal(0x02, method),
        vec![0x87],
        literal(0x04, path),
        literal(0x01, "localhost"),
    ]
    .concat()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &header_block("GET", path),
    )
}

fn put(stream: u32, path: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &header_block("PUT", path))
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn next(connection: &mut RawConnection) -> Option<Frame> {
    let head: [u8; 9] = connection.read_exact(9).await.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload: connection.read_exact(length).await,
    })
}

/// The next frame of this kind, or none if the connection ends before one.
async fn next_of(connection: &mut RawConnection, kind: u8) -> Option<Frame> {
    loop {
        let frame = next(connection).await?;
        if frame.kind == kind {
            return Some(frame);
        }
    }
}

/// The status in an answer's header block, as far as it is in the static table, which has the most common ones.
fn status(frame: &Frame) -> Option<u16> {
    match frame.payload.first()? {
        0x88 => Some(200),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        _ => None,
    }
}

async fn open(running: &Running) -> RawConnection {
    let mut connection = running.app().over(Protocol::Http2).raw().await;
    connection
        .write([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await;
    connection
}

/// Writes the same again and again until the server has closed the connection.
async fn flood(connection: &mut RawConnection, most: usize, mut bytes: impl FnMut(u32) -> Vec<u8>) -> bool {
    let mut sent = 0;
    for round in 0.. {
        let bytes = bytes(round);
        sent += bytes.len();
        if connection.try_write(bytes).await.is_err() {
            return true;
        }
        if sent > most {
            break;
        }
    }
    false
}

async fn still_serves(running: &Running) {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        soon(
            "another client's answer",
            running.app().over(protocol).get("/version"),
        )
        .await
        .ok();
    }
}

async fn with_a_hanging_store() -> (Running, FaultyStore, Gate) {
    let (store, gate) = (FaultyStore::new(), Gate::new());
    let mut server = TestServer::over(Arc::new(store.clone()));
    let patient = RouteSettings {
        skip_auth: false,
        timeout: Some(Duration::from_secs(3600)),
    };
    server.settings.routes.insert(Verb::GenerateKey, patient);
    let running = server.start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    store.always(StoreOp::Get, Step::WaitBefore(gate.clone()));
    (running, store, gate)
}

#[tokio::test]
async fn an_honest_conversation_works_frame_by_frame() {
    let running = TestServer::default().start().await;
    let mut connection = open(&running).await;
    connection.write(get(1, "/version")).await;
    let answer = next_of(&mut connection, HEADERS).await.unwrap();
    assert_eq!((answer.stream, status(&answer)), (1, Some(200)));
    assert_eq!(answer.flags & END_HEADERS, END_HEADERS);
    assert!(
        next_of(&mut connection, DATA)
            .await
            .unwrap()
            .payload
            .starts_with(b"{\"version\"")
    );
    connection.write(frame(PING, 0, 0, b"12345678")).await;
    assert_eq!(next_of(&mut connection, PING).await.unwrap().payload, b"12345678");
}

#[tokio::test]
async fn an_announced_body_of_which_nothing_comes_is_not_an_empty_object() {
    let running = TestServer::default().start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    let mut connection = open(&running).await;
    let path = "/v1/key/generate/my-key";
    let end = |stream| frame(DATA, END_STREAM, stream, &[]);
    for (stream, sent, expected) in [
        (1, put(1, path, END_STREAM), 200),
        (3, [put(3, path, 0), end(3)].concat(), 400),
        (
            5,
            [put(5, path, 0), frame(DATA, 0, 5, b"{}"), end(5)].concat(),
            200,
        ),
    ] {
        connection.write(sent).await;
        let answer = next_of(&mut connection, HEADERS).await.unwrap();
        assert_eq!((answer.stream, status(&answer)), (stream, Some(expected)));
    }
    connection.write(put(7, path, 0)).await;
    connection.write(end(7)).await;
    let answer = next_of(&mut connection, HEADERS).await.unwrap();
    assert_eq!((answer.stream, status(&answer)), (7, Some(400)));
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (running, store, _gate) = with_a_hanging_store().await;
    let mut connection = open(&running).await;
    let closed = flood(&mut connection, 8 << 20, |round| {
        let stream = 2 * round + 1;
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        [put(stream, "/v1/key/generate/my-key", END_STREAM), reset].concat()
    })
    .await;
    assert!(closed, "the server goes along with it");
    assert!(store.calls(StoreOp::Get) <= 1);
    still_serves(&running).await;
}

#[tokio::test]
async fn endless_headers_end_the_connection() {
    let running = TestServer::default().start().await;
    let harmless = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    for payload in [vec![], harmless.clone(), harmless.repeat(150)] {
        let mut connection = open(&running).await;
        let begun = frame(HEADERS, END_STREAM, 1, &header_block("GET", "/version"));
        connection.write(begun).await;
        let closed = flood(&mut connection, 8 << 20, |_| {
            frame(CONTINUATION, 0, 1, &payload).repeat(16)
        })
        .await;
        assert!(closed, "the server reads on for ever");
    }
    still_serves(&running).await;
}

#[tokio::test]
async fn headers_past_64_kib_are_refused_in_both_protocols() {
    // How far past depends, over HTTP/1.1, on how they come in.
    let running = TestServer::default().start().await;
    let value = "x".repeat(7000);
    let names: Vec<_> = (0..20).map(|number| format!("x-{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    for (protocol, count) in [(Protocol::Http1, 20), (Protocol::Http2, 10)] {
        let client = running.app().over(protocol);
        assert_eq!(
            client
                .send_with("GET", "/version", &headers[..count], "")
                .await
                .status,
            431,
            "{protocol:?}"
        );
        client.send_with("GET", "/version", &headers[..8], "").await.ok();
    }
    // So are many small ones, and a path of that length.
    let mut connection = running.app().raw().await;
    let many = "a: b\r\n".repeat(30_000);
    _ = connection
        .try_write(format!("GET /version HTTP/1.1\r\n{many}\r\n"))
        .await;
    assert!(connection.closed().await.starts_with(b"HTTP/1.1 431 "));
    let mut connection = running.app().raw().await;
    let long = "a".repeat(70_000);
    _ = connection
        .try_write(format!("GET /{long} HTTP/1.1\r\n\r\n"))
        .await;
    let answer = connection.closed().await;
    assert!(
        answer.starts_with(b"HTTP/1.1 431 ") || answer.starts_with(b"HTTP/1.1 414 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_connection_has_250_streams_and_no_more() {
    let (running, _, gate) = with_a_hanging_store().await;
    let mut connection = open(&running).await;
    let path = "/v1/key/generate/my-key";
    for number in 0..250 {
        connection.write(put(2 * number + 1, path, END_STREAM)).await;
    }
    soon("the store is asked", gate.reached()).await;
    connection.write(put(501, path, END_STREAM)).await;
    let refused = next_of(&mut connection, RST_STREAM).await.unwrap();
    assert_eq!(
        (refused.stream, refused.payload),
        (501, REFUSED_STREAM.to_be_bytes().to_vec())
    );

    gate.open();
    let mut answered = Vec::new();
    while answered.len() < 250 {
        let answer = next_of(&mut connection, HEADERS).await.unwrap();
        assert_eq!(status(&answer), Some(200));
        answered.push(answer.stream);
    }
    answered.sort_unstable();
    assert!(answered.iter().copied().eq((0..250).map(|number| 2 * number + 1)));
    // Their places are free again.
    connection.write(put(503, path, END_STREAM)).await;
    assert_eq!(next_of(&mut connection, HEADERS).await.unwrap().stream, 503);
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection() {
    let running = TestServer::default().start().await;
    for (what, frames) in [
        ("a stream of the server's", get(2, "/version")),
        ("stream 0", get(0, "/version")),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data on an idle stream", frame(DATA, 0, 5, b"x")),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ),
        ("a short ping", frame(PING, 0, 0, b"1234")),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0, 1, 0])),
        ("a window of no width", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window too wide",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2),
        ),
        (
            "a broken header block",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 40]),
        ),
        (
            "an index beyond the table",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xfe]),
        ),
        ("a frame too large", frame(DATA, 0, 1, &[0; 20_000])),
        (
            "another frame between headers",
            [
                frame(HEADERS, END_STREAM, 1, &header_block("GET", "/version")),
                frame(PING, 0, 0, b"12345678"),
            ]
            .concat(),
        ),
        (
            "streams backwards",
            [get(5, "/version"), get(3, "/version")].concat(),
        ),
    ] {
        let mut connection = open(&running).await;
        _ = connection.try_write(frames).await;
        let goodbye = next_of(&mut connection, GOAWAY).await;
        assert!(
            goodbye.is_some_and(|frame| frame.payload[4..8] != [0; 4]),
            "{what}"
        );
        connection.closed().await;
    }
    for preface in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 100],
    ] {
        let mut connection = running.app().over(Protocol::Http2).raw().await;
        _ = connection.try_write(preface).await;
        connection.closed().await;
    }
    still_serves(&running).await;
}

#[tokio::test]
async fn requests_without_their_parts_are_refused() {
    let running = TestServer::default().start().await;
    let path = |path: &str| [&[0x04, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    for block in [
        vec![],
        vec![0x82],
        vec![0x82, 0x87],
        [vec![0x82, 0x82, 0x87], path("/version")].concat(),
        [vec![0x82, 0x87], path("/version"), path("/version")].concat(),
        [vec![0x82, 0x87], path("")].concat(),
        [vec![0x82, 0x87], path("version\0")].concat(),
        // A header of a connection, and one in capitals.
        [
            vec![0x82, 0x87],
            path("/version"),
            b"\0\x0aconnection\x05close".to_vec(),
        ]
        .concat(),
        [vec![0x82, 0x87], path("/version"), b"\0\x01X\x01y".to_vec()].concat(),
        [vec![0x82, 0x87], path("/version"), b"\0\x01x\x03a\0b".to_vec()].concat(),
    ] {
        let mut connection = open(&running).await;
        connection
            .write(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
            .await;
        let refused = loop {
            match next(&mut connection).await {
                Some(frame) if frame.kind == HEADERS => break status(&frame) != Some(200),
                Some(frame) if frame.kind == RST_STREAM || frame.kind == GOAWAY => break true,
                Some(_) => {}
                None => break true,
            }
        };
        assert!(refused, "{block:?}");
    }
    still_serves(&running).await;
}

#[tokio::test]
async fn floods_of_small_frames_hurt_nobody_else() {
    let running = TestServer::default().start().await;
    for flooding in [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(0xbe, 0, 0, b"unknown"),
        frame(2, 0, 1, &[0, 0, 0, 0, 1]),
    ] {
        let mut connection = open(&running).await;
        // Nothing is read meanwhile; whether the server gives up or goes on is its choice.
        let flooded = flood(&mut connection, 256 << 10, |_| flooding.repeat(64));
        tokio::select! {
            _ = flooded => {}
            () = async { loop { still_serves(&running).await } } => {}
        }
    }
    let mut connection = open(&running).await;
    connection.write(put(1, "/v1/key/generate/my-key", 0)).await;
    let empty = frame(DATA, 0, 1, &[]).repeat(64);
    flood(&mut connection, 256 << 10, |_| empty.clone()).await;
    still_serves(&running).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_in_time() {
    let mut server = TestServer::default();
    let brief = RouteSettings {
        skip_auth: false,
        timeout: Some(Duration::from_millis(50)),
    };
    server.settings.routes.insert(Verb::GenerateKey, brief);
    let running = server.start().await;
    let mut connection = open(&running).await;
    connection.write(put(1, "/v1/key/generate/my-key", 0)).await;
    connection.write(frame(DATA, 0, 1, b"{")).await;
    let answer = next_of(&mut connection, DATA).await.unwrap();
    assert_eq!(answer.payload, br#"{"message":"request timed out"}"#);
    // The connection is as good as before.
    connection.write(get(3, "/version")).await;
    let answer = next_of(&mut connection, HEADERS).await.unwrap();
    assert_eq!((answer.stream, status(&answer)), (3, Some(200)));
}

#[tokio::test]
async fn a_client_without_a_window_does_not_keep_its_connection() {
    let mut server = TestServer::default();
    // Enough for a handshake on a busy machine.
    server.settings.limits.header_timeout = Duration::from_secs(2);
    server.settings.limits.idle_timeout = Duration::from_secs(2);
    let running = server.start().await;
    let mut connection = running.app().over(Protocol::Http2).raw().await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    connection.write([PREFACE, &no_window].concat()).await;
    for number in 0..10 {
        _ = connection.try_write(get(2 * number + 1, "/version")).await;
    }
    connection.closed().await;
    until("no connection but the one that asks", async || {
        running
            .admin()
            .get("/v1/metrics")
            .await
            .ok()
            .text()
            .contains("kes_connections 1\n")
    })
    .await;
}
