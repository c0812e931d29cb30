//! The audit log, on the console and as a stream.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kes_server::log::Level;
use kes_testkit::{PATIENCE, TestServer, app, soon, until};
use serde_json::Value;

#[tokio::test]
async fn every_request_is_audited_whatever_becomes_of_it() {
    let running = TestServer::default().start().await;
    let client = running.app();
    client
        .put("/v1/key/create/my-key?enclave=tenant-1", "")
        .await
        .ok();
    client.put("/v1/key/create/internal", "").await;
    client.put("/v1/key/create/bad.name", "").await;
    client.put("/v1/key/generate/my-key", "not json").await;
    client.get("/v1/key/create/my-key").await;
    client.get("/no/such/path").await;
    client.put("/v1/key/decrypt/my-key", vec![b' '; 1_000_001]).await;
    running.admin().get("/v1/metrics").await.ok();
    client.get("/v1/metrics").await;

    let events = running.audit().await;
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let (request, response) = (&event["request"], &event["response"]);
            assert_eq!(request["identity"], app().identity().as_str());
            assert_eq!(request["ip"], "127.0.0.1");
            assert!(response["time"].as_u64().unwrap() > 0);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&request["method"]),
                text(&request["path"]),
                response["code"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("PUT", "/v1/key/create/my-key", 200),
        ("PUT", "/v1/key/create/internal", 403),
        ("PUT", "/v1/key/create/bad.name", 400),
        ("PUT", "/v1/key/generate/my-key", 400),
        ("GET", "/v1/key/create/my-key", 405),
        ("GET", "/no/such/path", 404),
        ("PUT", "/v1/key/decrypt/my-key", 413),
        ("GET", "/v1/metrics", 403),
    ];
    assert_eq!(
        told,
        expected.map(|(method, path, code)| (method.to_owned(), path.to_owned(), code))
    );
    assert_eq!(events[0]["request"]["enclave"], "tenant-1");
    assert!(events[1]["request"].get("enclave").is_none());
}

#[tokio::test]
async fn a_path_is_audited_by_its_meaning_not_by_its_spelling() {
    let running = TestServer::default().start().await;
    running.app().put("/v1/key/%63reate/my%2Dkey", "").await.ok();
    running.app().get("/v1/%6eothing").await;
    let paths: Vec<_> = running
        .audit()
        .await
        .iter()
        .map(|event| event["request"]["path"].clone())
        .collect();
    assert_eq!(paths, ["/v1/key/create/my-key", "/v1/%6eothing"]);
}

#[tokio::test]
async fn the_stream_hears_what_the_console_does_not_print() {
    let mut server = TestServer::default();
    server.settings.log.audit = Level::OFF;
    let running = server.start().await;
    let mut connection = running.admin().connect().await.unwrap();
    let mut stream = connection.follow("/v1/log/audit").await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    let lines = read_until(&mut stream, "/v1/key/create/my-key").await;
    let event: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(event["response"]["code"], 200);
    assert!(running.audit().await.is_empty());
}

#[tokio::test]
async fn the_error_stream_sends_its_headers_at_once_and_then_lines() {
    let running = TestServer::default().start().await;
    let mut connection = running.admin().connect().await.unwrap();
    let mut stream = connection.follow("/v1/log/error").await;
    running
        .app()
        .get("/v1/metrics")
        .await
        .fails(403, "not authorized: insufficient permissions");
    let lines = read_until(&mut stream, "no rule of policy 'app' allows it").await;
    let line = lines
        .lines()
        .find(|line| line.contains("no rule of policy"))
        .unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("level=WARN") && message.contains("req.path=/v1/metrics"),
        "{message}"
    );
}

/// What the stream says up to and with the line that contains `text`.
async fn read_until(stream: &mut hyper::body::Incoming, text: &str) -> String {
    let mut lines = String::new();
    while !lines.contains(text) {
        let frame = tokio::time::timeout(PATIENCE, stream.frame()).await;
        let frame = frame
            .unwrap_or_else(|_| panic!("{text} does not come: {lines}"))
            .unwrap()
            .unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    lines
}

#[tokio::test]
async fn streams_are_bounded() {
    let mut server = TestServer::default();
    server.settings.limits.log_streams = 1;
    let running = server.start().await;
    let mut first = running.admin().connect().await.unwrap();
    let stream = first.follow("/v1/log/audit").await;
    let refused = running.admin().get("/v1/log/error").await;
    refused.fails(503, "server is overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    drop((stream, first));
    // The place is free as soon as the server notices that the reader has gone.
    until("the place is free", async || {
        let mut connection = running.admin().connect().await.unwrap();
        let answer = connection.stream(hyper_get("/v1/log/error")).await.unwrap();
        answer.status() == 200
    })
    .await;
}

fn hyper_get(path: &str) -> hyper::Request<http_body_util::Full<bytes::Bytes>> {
    hyper::Request::get(path)
        .body(http_body_util::Full::default())
        .unwrap()
}

#[tokio::test]
async fn a_stalled_audit_log_stops_requests_instead_of_losing_events() {
    let mut server = TestServer::default();
    for verb in kes_types::Verb::ALL {
        let settings = kes_server::RouteSettings {
            skip_auth: false,
            // Enough for a busy machine to answer all but the request that waits for room.
            timeout: Some(Duration::from_secs(2)),
        };
        server.settings.routes.insert(verb, settings);
    }
    let (running, mut reader) = server.start_with_stalled_audit().await;
    let mut connection = running.app().connect().await.unwrap();
    // Long paths fill the queue sooner.
    let path = format!("/v1/key/describe/{}", "x".repeat(60_000));
    let (mut recorded, mut refused) = (0, None);
    for _ in 0..200 {
        let answer = connection.send("GET", &path, "").await;
        match answer.status {
            400 => recorded += 1,
            _ => {
                refused = Some(answer);
                break;
            }
        }
    }
    refused
        .expect("the queue is bounded")
        .fails(503, "the audit log cannot be written");
    assert!(
        running
            .admin()
            .get("/v1/metrics")
            .await
            .ok()
            .text()
            .contains("kes_log_audit_events_lost_total 1\n")
    );

    // Once the reader goes on, every event that was answered is there.
    let reading = std::thread::spawn(move || {
        let mut count = 0;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&mut reader));
        while count < recorded {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(event["response"]["code"], 400);
            count += 1;
        }
    });
    let joining = tokio::task::spawn_blocking(|| reading.join());
    soon("the rest", joining).await.unwrap().unwrap();
    running.app().get("/v1/status").await.ok();
}
