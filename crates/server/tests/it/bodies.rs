//! Bodies that are missing, broken, cut or too large.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use kes_keystore::StoreOp;
use kes_testkit::{FaultyStore, Protocol, Running, TestServer, soon, until};
use serde_json::json;

use crate::rig::b64;

const NOT_JSON: &str = "request body is not valid JSON for this API";
const NOT_AUTHENTIC: &str = "decryption failed: ciphertext is not authentic";
const TOO_LARGE: &str = "request body is too large";
const LOST: &str = "request body was announced, but nothing came";
const MAX: usize = 1_000_000;

/// The routes that take a JSON object, with a field of it that holds bytes.
const OBJECTS: [(&str, &str); 5] = [
    ("/v1/key/generate/my-key", "context"),
    ("/v1/key/encrypt/my-key", "plaintext"),
    ("/v1/key/decrypt/my-key", "ciphertext"),
    ("/v1/key/hmac/my-key", "message"),
    ("/v1/key/import/another", "key"),
];

async fn with_a_key() -> Running {
    let running = TestServer::default().start().await;
    running.app().put("/v1/key/create/my-key", "").await.ok();
    running
}

#[tokio::test]
async fn a_missing_or_blank_body_is_an_empty_object() {
    let running = with_a_key().await;
    let client = running.app();
    for body in ["", " \r\n\t", "{}", "null"] {
        let expected = |status| if body == "null" { 400 } else { status };
        for (operation, status) in [
            ("generate", 200),
            ("encrypt", 200),
            ("hmac", 200),
            ("decrypt", 400),
        ] {
            let answer = client.put(&format!("/v1/key/{operation}/my-key"), body).await;
            assert_eq!(answer.status, expected(status), "{operation} {body:?}");
        }
        let answer = client.put("/v1/key/import/another", body).await;
        assert_eq!(answer.status, expected(406), "{body:?}");
        client
            .put("/v1/key/bulk/decrypt/my-key", body)
            .await
            .fails(400, NOT_JSON);
    }
}

#[tokio::test]
async fn what_is_not_the_json_of_the_route_is_refused() {
    let running = with_a_key().await;
    let mut connection = running.app().connect().await.unwrap();
    for (path, field) in OBJECTS {
        let value = |value: &str| format!(r#"{{"{field}":{value}}}"#).into_bytes();
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(150_000), close.repeat(150_000));
        for body in [
            b"x".to_vec(),
            b"\0".to_vec(),
            b"{".to_vec(),
            b"[]".to_vec(),
            b"\"\"".to_vec(),
            b"0".to_vec(),
            b"true".to_vec(),
            b"{}{}".to_vec(),
            b"{} x".to_vec(),
            b"{}\0".to_vec(),
            b"\xef\xbb\xbf{}".to_vec(),
            b"{'a':1}".to_vec(),
            b"{a:1}".to_vec(),
            b"{\"a\":1,}".to_vec(),
            b"{\"a\":NaN}".to_vec(),
            b"{\"a\":\"\x01\"}".to_vec(),
            b"{\"\xff\":1}".to_vec(),
            value("1"),
            value("true"),
            value("{}"),
            value("[]"),
            value("[1,2,3]"),
            value("[\"AA==\"]"),
            value("\"AA==\"").into_iter().chain(*b"\n{").collect(),
            value(&deep("[", "]")),
            value(&deep("{\"a\":", "}").replace(":}", ":1}")),
            deep("[", "]").into_bytes(),
            deep("[", "").into_bytes(),
            [b"{\"", field.as_bytes(), b"\":\"\xff\xfe\"}"].concat(),
            [b"{\"", field.as_bytes(), b"\":\"\\ud800\"}"].concat(),
        ] {
            let answer = connection.send("PUT", path, body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(
                (answer.status, answer.message().as_str()),
                (400, NOT_JSON),
                "{path} {shown}"
            );
        }
    }
    running
        .app()
        .get("/v1/key/describe/another")
        .await
        .fails(404, "key does not exist");
}

#[tokio::test]
async fn bytes_are_standard_base64_with_padding_and_nothing_else() {
    let running = with_a_key().await;
    let mut connection = running.app().connect().await.unwrap();
    for (path, field) in OBJECTS {
        for text in [
            "A", "AA", "AA=", "AA===", "A A=", "-_8=", "AA==\\n", "=AA=", "AB==", "\u{e9}", "\\u0000",
        ] {
            let answer = connection
                .send("PUT", path, format!(r#"{{"{field}":"{text}"}}"#))
                .await;
            answer.fails(400, &format!("'{field}' is not valid base64"));
        }
    }
    for body in [
        r#"[{"ciphertext":"A"}]"#,
        r#"[{"ciphertext":"AA=="},{"ciphertext":"A"}]"#,
    ] {
        let answer = connection.send("PUT", "/v1/key/bulk/decrypt/my-key", body).await;
        answer.fails(400, "'ciphertext' is not valid base64");
    }
    for body in ["{}", "[1]", "[[]]", "[{}] []", "[{},]", "[{\"ciphertext\":1}]"] {
        let answer = connection.send("PUT", "/v1/key/bulk/decrypt/my-key", body).await;
        answer.fails(400, NOT_JSON);
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_the_last_of_a_field_counts() {
    let running = with_a_key().await;
    let client = running.app();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let body = format!(
        r#"{{"context":"!","unknown":{deep},"context":"AQ==","Context":"AA==","":null,"version":null,"plaintext":7}}"#
    );
    // The value that does not count need not be base64, but it has to be a string.
    let generated = client.put("/v1/key/generate/my-key", body).await.ok().json();
    let decrypt = |context: &str| {
        let request =
            json!({"ciphertext": generated["ciphertext"], "context": context, "more": [{"deep": 1}]});
        client.put("/v1/key/decrypt/my-key", request.to_string())
    };
    assert_eq!(
        decrypt("AQ==").await.ok().json()["plaintext"],
        generated["plaintext"]
    );
    decrypt("AA==").await.fails(400, NOT_AUTHENTIC);
    decrypt("").await.fails(400, NOT_AUTHENTIC);
}

#[tokio::test]
async fn every_altered_ciphertext_fails_in_the_same_way() {
    let running = with_a_key().await;
    let mut connection = running.app().connect().await.unwrap();
    let generated = connection
        .send("PUT", "/v1/key/generate/my-key", "")
        .await
        .ok()
        .json();
    let good = STANDARD
        .decode(generated["ciphertext"].as_str().unwrap())
        .unwrap();
    let mut bad = vec![
        Vec::new(),
        vec![0],
        vec![0; 28],
        vec![7; 300_000],
        [&good[..], b"x"].concat(),
    ];
    bad.extend((0..good.len()).map(|length| good[..length].to_vec()));
    bad.extend((0..good.len()).map(|at| {
        let mut altered = good.clone();
        altered[at] ^= 0x80;
        altered
    }));
    bad.push(br#"{"aead":"AES-256-GCM-HMAC-SHA-256","iv":"","nonce":"","bytes":""}"#.to_vec());
    bad.push(format!("{}{}", "[".repeat(1000), "]".repeat(1000)).into_bytes());
    for ciphertext in bad {
        let request = json!({"ciphertext": b64(&ciphertext)}).to_string();
        let answer = connection.send("PUT", "/v1/key/decrypt/my-key", request).await;
        answer.fails(400, NOT_AUTHENTIC);
    }
}

#[tokio::test]
async fn a_megabyte_is_read_and_a_byte_more_is_not() {
    let running = with_a_key().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = running.app().over(protocol);
        for (path, _) in OBJECTS {
            let answer = client.put(path, vec![b' '; MAX]).await;
            assert_ne!(answer.status, 413, "{path}");
            client.put(path, vec![b' '; MAX + 1]).await.fails(413, TOO_LARGE);
            client.put(path, vec![b' '; 3 * MAX]).await.fails(413, TOO_LARGE);
        }
        let plaintext = vec![b'A'; (MAX - r#"{"plaintext":""}"#.len()) / 4 * 4];
        let request = json!({"plaintext": String::from_utf8(plaintext).unwrap()}).to_string();
        client.put("/v1/key/encrypt/my-key", request).await.ok();
    }
}

fn chunked(path: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    let head = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut message = head.into_bytes();
    for chunk in chunks {
        message.extend(
            format!("{:x}\r\n", chunk.len())
                .bytes()
                .chain(chunk.iter().copied())
                .chain(*b"\r\n"),
        );
    }
    message.extend(b"0\r\n\r\n");
    message
}

#[tokio::test]
async fn the_same_limits_hold_for_bodies_of_unannounced_length() {
    let running = with_a_key().await;
    let path = "/v1/key/generate/my-key";
    for (chunks, status) in [
        (vec![], 400),
        (vec![b"{".to_vec(), b"}".to_vec()], 200),
        (vec![vec![b' '; 1000]; 1000], 200),
        (vec![vec![b' '; 1000]; 1001], 413),
        (vec![vec![b' '; MAX], vec![b' ']], 413),
        (vec![vec![b' '; MAX + 1]], 413),
    ] {
        let mut connection = running.app().raw().await;
        connection.write(chunked(path, &chunks)).await;
        assert_eq!(connection.answer().await.status, status, "{}", chunks.len());
    }
    // One that never ends is cut off.
    let mut connection = running.app().raw().await;
    let endless = chunked(path, &[vec![b' '; 64 << 10]]);
    connection.write(&endless[..endless.len() - 5]).await;
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 64 << 10], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while connection.try_write(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 64 << 20, "the server reads on for ever");
    }
}

/// What MinIO's client sends to the next server when one goes away in the middle of a request: it has read its body already.
#[tokio::test]
async fn an_announced_body_of_which_nothing_comes_is_not_an_empty_object() {
    let running = with_a_key().await;
    for (path, _) in OBJECTS {
        let mut connection = running.app().raw().await;
        connection.write(chunked(path, &[])).await;
        connection.answer().await.fails(400, LOST);
    }
    let mut connection = running.app().raw().await;
    connection
        .write(chunked("/v1/key/generate/my-key", &[b"{}".to_vec()]))
        .await;
    connection.answer().await.ok();
}

#[tokio::test]
async fn a_body_that_is_cut_changes_nothing() {
    let store = FaultyStore::new();
    let running = TestServer::over(Arc::new(store.clone())).start().await;
    let whole = json!({"key": b64(&[7; 32])}).to_string();
    let head = "PUT /v1/key/import/my-key HTTP/1.1\r\nHost: localhost\r\n";
    for message in [
        // The end of the connection is not the end of the body.
        format!("{head}Content-Length: 100\r\n\r\n{whole}"),
        format!("{head}Content-Length: 100\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\n",
            whole.len()
        ),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\n0\r\n",
            whole.len()
        ),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nff\r\n{whole}"),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\nzz\r\n\r\n",
            whole.len()
        ),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{whole}"),
    ] {
        let before = running.audit().await.len();
        let mut connection = running.app().raw().await;
        connection.write(&message).await;
        connection.finish().await;
        connection.closed().await;
        until("the audit event", async || running.audit().await.len() > before).await;
        let events = running.audit().await;
        let code = events.last().unwrap()["response"]["code"].as_u64().unwrap();
        assert!([400, 499].contains(&code), "{code} for {message}");
    }
    // A reset in the middle, without TLS's goodbye.
    let mut connection = running.app().raw().await;
    connection
        .write(format!("{head}Content-Length: 1000\r\n\r\n{whole}"))
        .await;
    drop(connection);
    until("the audit event", async || running.audit().await.len() > 8).await;
    assert_eq!(store.calls(StoreOp::Create), 0);
    running.app().put("/v1/key/import/my-key", whole).await.ok();
}

#[tokio::test]
async fn contradicting_lengths_are_refused() {
    let running = with_a_key().await;
    let path = "/v1/key/generate/my-key";
    for headers in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: -1",
        "Content-Length: 2x",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
    ] {
        let mut connection = running.app().raw().await;
        connection
            .write(format!(
                "PUT {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{{}}"
            ))
            .await;
        let answer = connection.closed().await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400 "),
            "{headers}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[tokio::test]
async fn routes_without_a_body_ignore_a_small_one() {
    let running = with_a_key().await;
    let (client, admin) = (running.app(), running.admin());
    let own = kes_testkit::app().identity();
    let paths = [
        "/version".to_owned(),
        "/v1/ready".to_owned(),
        "/v1/status".to_owned(),
        "/v1/metrics".to_owned(),
        "/v1/api".to_owned(),
        "/v1/key/describe/my-key".to_owned(),
        "/v1/key/list/".to_owned(),
        "/v1/policy/describe/app".to_owned(),
        "/v1/policy/read/app".to_owned(),
        "/v1/policy/list/".to_owned(),
        format!("/v1/identity/describe/{own}"),
        "/v1/identity/self/describe".to_owned(),
        "/v1/identity/list/".to_owned(),
    ];
    for path in &paths {
        admin.send("GET", path, "{}").await.ok();
        admin.send("GET", path, vec![b'x'; 64 << 10]).await.ok();
        admin
            .send("GET", path, vec![b'x'; (64 << 10) + 1])
            .await
            .fails(413, TOO_LARGE);

        let mut connection = running.admin().raw().await;
        let message = |chunk| {
            String::from_utf8(chunked(path, &[vec![b'x'; chunk]]))
                .unwrap()
                .replacen("PUT", "GET", 1)
        };
        connection.write(message(64 << 10)).await;
        assert_eq!(connection.answer().await.status, 200, "{path}");
        // The connection goes on after it.
        connection.write(message((64 << 10) + 1)).await;
        assert_eq!(connection.answer().await.status, 413, "{path}");
    }
    client
        .put("/v1/key/create/another", vec![b'{'; 64 << 10])
        .await
        .ok();
    client
        .put("/v1/key/create/large", vec![b'{'; (64 << 10) + 1])
        .await
        .fails(413, TOO_LARGE);
    client
        .get("/v1/key/describe/large")
        .await
        .fails(404, "key does not exist");
    client
        .send("DELETE", "/v1/key/delete/another", vec![b'{'; (64 << 10) + 1])
        .await
        .fails(413, TOO_LARGE);
    client.send("DELETE", "/v1/key/delete/another", "{}").await.ok();
}

#[tokio::test]
async fn a_client_that_waits_for_permission_to_send_gets_its_answer() {
    let running = with_a_key().await;
    let head = |length| {
        format!(
            "PUT /v1/key/generate/my-key HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut connection = running.app().raw().await;
    connection.write(head(MAX + 1)).await;
    assert_eq!(connection.answer().await.status, 413);

    let mut connection = running.app().raw().await;
    connection.write(head(2)).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.write("{}").await;
    assert_eq!(connection.answer().await.status, 200);
}

#[tokio::test]
async fn the_memory_for_bodies_is_bounded() {
    let mut server = TestServer::default();
    server.settings.limits.body_memory = 1000;
    let running = server.start().await;
    let client = running.app();
    client.put("/v1/key/create/my-key", "").await.ok();
    let path = "/v1/key/generate/my-key";
    let refused = client.put(path, vec![b' '; 1001]).await;
    refused.fails(503, "server is overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    // A body of unknown length may become as long as any.
    let mut unknown = client.raw().await;
    unknown.write(chunked(path, &[b"{}".to_vec()])).await;
    assert_eq!(unknown.answer().await.status, 503);

    // What is given back can be had again.
    let mut connection = client.connect().await.unwrap();
    for _ in 0..5 {
        connection.send("PUT", path, vec![b' '; 1000]).await.ok();
        connection.send("PUT", path, "no json").await.fails(400, NOT_JSON);
    }

    // A body that is still on its way counts, and no longer once its client has gone.
    let mut slow = client.raw().await;
    slow.write(format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600\r\n\r\n "
    ))
    .await;
    until("the slow body counts", async || {
        connection.send("PUT", path, vec![b' '; 600]).await.status == 503
    })
    .await;
    connection.send("PUT", path, vec![b' '; 400]).await.ok();
    drop(slow);
    until("the memory is free again", async || {
        connection.send("PUT", path, vec![b' '; 1000]).await.status == 200
    })
    .await;
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    assert!(metrics.contains("overload"), "{metrics}");
}

#[tokio::test]
async fn no_log_says_what_a_bad_body_holds() {
    const SECRET: &str = "SWYgeW91IHJlYWQgdGhpcyBpdCBpcyBicm9rZW4h";
    let running = with_a_key().await;
    let mut following = running.admin().connect().await.unwrap();
    let mut errors = following.follow("/v1/log/error").await;
    let client = running.app();
    for (path, field) in OBJECTS {
        for body in [
            SECRET.to_owned(),
            format!(r#"{{"{field}":"{SECRET}!"}}"#),
            format!(r#"{{"{field}":"{SECRET}"}} x"#),
            format!(r#"{{"{SECRET}":"{SECRET}","{field}":{SECRET}}}"#),
        ] {
            let answer = client.put(path, body).await;
            assert!(!answer.text().contains(SECRET));
        }
    }
    client
        .get("/v1/metrics?end-of-the-test")
        .await
        .fails(403, "not authorized: insufficient permissions");
    let mut lines = String::new();
    while !lines.contains(kes_testkit::app().identity().as_str()) {
        let frame = soon("the error log", errors.frame()).await.unwrap().unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(!lines.contains(SECRET), "{lines}");
    let audit = serde_json::to_string(&running.audit().await).unwrap();
    assert!(!audit.contains(SECRET), "{audit}");
}
