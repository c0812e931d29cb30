//! Names at the edges of the rule, and paths that are not quite a route's.

use std::sync::Arc;

use kes_keystore::StoreOp;
use kes_testkit::{Credentials, FaultyStore, Protocol, Running, TestServer};

const DENIED: &str = "not authorized: insufficient permissions";

async fn over_a_store_that_counts() -> (Running, FaultyStore) {
    let store = FaultyStore::new();
    (TestServer::over(Arc::new(store.clone())).start().await, store)
}

fn calls(store: &FaultyStore) -> usize {
    [StoreOp::Create, StoreOp::Get, StoreOp::Delete, StoreOp::List]
        .map(|op| store.calls(op))
        .iter()
        .sum()
}

/// Names that break the rule, as they stand in a path.
fn bad_names() -> Vec<String> {
    let mut names: Vec<_> = [
        "",
        "_",
        "-",
        "--",
        "-a",
        "a-",
        ".",
        "..",
        "...",
        "a.b",
        "a..b",
        "a+b",
        "a:b",
        "a,b",
        "a;b",
        "a=b",
        "a@b",
        "a!",
        "a'",
        "(a)",
        "a$",
        "a&b",
        "a*",
        "*",
        "~",
        "~1.a",
        "a/b",
        "a/",
        "/a",
        "/",
        "//",
        "a//b",
        "../a",
        "./a",
        "a/../b",
        "%",
        "a%",
        "%2",
        "%zz",
        "%00",
        "a%00",
        "%00a",
        "%2e%2e",
        "%2E%2E%2Fa",
        "%2F",
        "a%2Fb",
        "a%2fb",
        "%252e",
        "%252F",
        "%5C",
        "a%5Cb",
        "%20",
        "a%20b",
        "%09",
        "a%0a",
        "a%0d%0ab",
        "%7F",
        "%C3%BC",
        "%E2%80%AE",
        "%EF%BC%A1",
        "%F0%9F%94%91",
        "a%CC%81",
        "%E2%80%8B",
        "%EF%BB%BFa",
        "%22",
        "%3Ca%3E",
        "%5B%5D",
        "%7Ba%7D",
        "%60",
        "%5E",
        "%7C",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend([81, 255, 256, 4096, 60_000].map(|length| "a".repeat(length)));
    names.push("%C3%BC".repeat(80));
    names.push("%00".repeat(10_000));
    names
}

#[tokio::test]
async fn names_within_the_rule_are_names() {
    let (running, _) = over_a_store_that_counts().await;
    let mut connection = running.app().connect().await.unwrap();
    let longest = "a".repeat(80);
    for name in [
        "a",
        "Z",
        "0",
        "__",
        "_a",
        "a_",
        "_-_",
        "_-___---_",
        "a-b",
        "00",
        "CON",
        longest.as_str(),
    ] {
        connection
            .send("PUT", &format!("/v1/key/create/{name}"), "")
            .await
            .ok();
        let described = connection
            .send("GET", &format!("/v1/key/describe/{name}"), "")
            .await
            .ok();
        assert_eq!(described.json()["name"], name);
    }
    // Case matters, and a character may be escaped.
    connection
        .send("GET", "/v1/key/describe/A", "")
        .await
        .fails(404, "key does not exist");
    connection.send("GET", "/v1/key/describe/%61", "").await.ok();
    connection.send("GET", "/v1/key/describe/a?b", "").await.ok();
}

#[tokio::test]
async fn a_bad_name_never_reaches_the_store() {
    let (running, store) = over_a_store_that_counts().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = running.admin().over(protocol).connect().await.unwrap();
        for (method, path, body, what) in [
            ("PUT", "/v1/key/create/", "", "key name"),
            ("PUT", "/v1/key/import/", "{}", "key name"),
            ("GET", "/v1/key/describe/", "", "key name"),
            ("DELETE", "/v1/key/delete/", "", "key name"),
            ("PUT", "/v1/key/generate/", "{}", "key name"),
            ("PUT", "/v1/key/encrypt/", "{}", "key name"),
            ("PUT", "/v1/key/decrypt/", "{}", "key name"),
            ("PUT", "/v1/key/bulk/decrypt/", "[]", "key name"),
            ("PUT", "/v1/key/hmac/", "{}", "key name"),
            ("GET", "/v1/policy/describe/", "", "policy name"),
            ("GET", "/v1/policy/read/", "", "policy name"),
            ("GET", "/v1/identity/describe/", "", "identity"),
        ] {
            for name in bad_names() {
                let answer = connection.send(method, &format!("{path}{name}"), body).await;
                let message = answer.message();
                assert_eq!(answer.status, 400, "{path}{name}: {message}");
                assert!(
                    message.starts_with(&format!("{what} '")),
                    "{path}{name}: {message}"
                );
                assert!(
                    message.chars().count() < 200 && !message.chars().any(char::is_control),
                    "{message}"
                );
            }
        }
    }
    assert_eq!(calls(&store), 0);
}

#[tokio::test]
async fn who_may_not_do_anything_learns_nothing_about_names() {
    let (running, store) = over_a_store_that_counts().await;
    running.app().put("/v1/key/create/there", "").await.ok();
    let before = calls(&store);
    let stranger = running.client(&Credentials::self_signed("stranger"));
    let mut connection = stranger.connect().await.unwrap();
    for name in bad_names()
        .iter()
        .map(String::as_str)
        .chain(["there", "not-there"])
    {
        for (method, operation) in [
            ("PUT", "create"),
            ("PUT", "generate"),
            ("GET", "list"),
            ("DELETE", "delete"),
        ] {
            let path = format!("/v1/key/{operation}/{name}");
            let answer = connection.send(method, &path, "no json").await;
            answer.fails(403, DENIED);
        }
    }
    assert_eq!(calls(&store), before);
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_a_policy() {
    let (running, store) = over_a_store_that_counts().await;
    running.admin().put("/v1/key/create/internal-1", "").await.ok();
    let before = calls(&store);
    let mut connection = running.app().connect().await.unwrap();
    for (path, status) in [
        ("/v1/key/generate/internal-1", 403),
        ("/v1/key/generate/%69nternal-1", 403),
        ("/v1/key/generate/%69%6e%74%65%72%6e%61%6c-1", 403),
        ("/v1/key/%67enerate/internal-1", 403),
        ("/%76%31/key/generate/internal-1", 403),
        ("/v1/key/generate/internal-1?x=/v1/key/generate/other", 403),
        // Spelled like this, the rule does not match, and neither does any name.
        ("/v1/key/generate/./internal-1", 400),
        ("/v1/key/generate/x/../internal-1", 400),
        ("/v1/key/generate//internal-1", 400),
        ("/v1/key/generate/%2Finternal-1", 400),
        ("/v1/key/generate/%2e%2finternal-1", 400),
        ("/v1/key/generate/internal-1/", 403),
        ("/v1/key/generate/internal-1%00", 403),
        ("/v1/key//generate/internal-1", 404),
        ("/v1//key/generate/internal-1", 404),
        ("//v1/key/generate/internal-1", 404),
        ("/v1/key/generate%2Finternal-1", 404),
        ("/v1%2fkey%2fgenerate%2finternal-1", 404),
        ("/v1/./key/generate/internal-1", 404),
        ("/v1/key/../key/generate/internal-1", 404),
        ("/x/../v1/key/generate/internal-1", 404),
        ("/v1/%2e%2e/v1/key/generate/internal-1", 404),
        ("/V1/key/generate/internal-1", 404),
        ("/v1/KEY/generate/internal-1", 404),
        ("/v1/key/generate/%ffinternal-1", 404),
        ("/v1/key/generate", 404),
        ("/v1/key/generate%00/internal-1", 404),
        ("/v1/key/generate;x=1/internal-1", 404),
    ] {
        let answer = connection.send("PUT", path, "{}").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.headers.contains_key("location"), "{path}");
    }
    assert_eq!(calls(&store), before);
}

#[tokio::test]
async fn a_listing_begins_only_where_the_policy_lets_it() {
    let (running, store) = over_a_store_that_counts().await;
    let mut connection = running.app().connect().await.unwrap();
    for pattern in [
        "internal",
        "internal*",
        "%69nternal",
        "internal-1*",
        "~8.internal",
        "~8.internal-1",
        "%7E8.internal",
    ] {
        let answer = connection
            .send("GET", &format!("/v1/key/list/{pattern}"), "")
            .await;
        assert_eq!(answer.status, 403, "{pattern}: {}", answer.text());
    }
    // Whatever a position claims, it is one or it is nothing.
    for forged in [
        "~8.",
        "~8",
        "~0",
        "~00.a",
        "~+1.a",
        "~-1.a",
        "~1.",
        "~18446744073709551616.a",
        "~99999999999999999999999.a",
        "~1.a/b",
        "~1.a%00",
        "~1.%C3%BC",
        "~2.%C3%BC",
        "~~1.a",
        "~1.a*",
        "~%31.a%2F",
        "~1e0.a",
        "~0x1.a",
        "~2.a",
    ] {
        let answer = connection
            .send("GET", &format!("/v1/key/list/{forged}"), "")
            .await;
        assert_eq!(answer.status, 400, "{forged}: {}", answer.text());
        assert!(
            answer.message().starts_with("listing pattern '"),
            "{}",
            answer.message()
        );
    }
    assert_eq!(store.calls(StoreOp::List), 0);
}

#[tokio::test]
async fn odd_request_lines_are_answered_or_refused() {
    let (running, _) = over_a_store_that_counts().await;
    for (line, status) in [
        ("GET /version HTTP/1.1", Some(200)),
        ("GET /version HTTP/1.0", Some(200)),
        ("GET https://localhost/version HTTP/1.1", Some(200)),
        ("GET https://elsewhere/version?x HTTP/1.1", Some(200)),
        ("GET /version#x HTTP/1.1", None),
        ("get /version HTTP/1.1", Some(405)),
        ("HEAD /version HTTP/1.1", Some(405)),
        ("OPTIONS * HTTP/1.1", Some(404)),
        ("CONNECT localhost:443 HTTP/1.1", Some(404)),
        ("TRACE /v1/status HTTP/1.1", Some(405)),
        ("PRI * HTTP/2.0", Some(400)),
        ("GET version HTTP/1.1", None),
        ("GET  /version HTTP/1.1", Some(400)),
        ("GET /version HTTP/1.1 x", Some(400)),
        ("GET /version HTTP/3.0", Some(400)),
        ("GET /\u{fc} HTTP/1.1", None),
        ("GET /a\0b HTTP/1.1", Some(400)),
        ("GET /version", Some(400)),
        ("\u{1}\u{2}\u{3}", Some(400)),
        (":", Some(400)),
    ] {
        let mut connection = running.app().raw().await;
        connection
            .write(format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await;
        let answer = String::from_utf8_lossy(&connection.closed().await).into_owned();
        let got = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(status) => assert_eq!(got, Some(status), "{line:?}: {answer}"),
            // What a fragment or a bare word means is the parser's choice, as long as it is an answer.
            None => assert!(
                got.is_some_and(|got| [200, 400, 404].contains(&got)),
                "{line:?}: {answer}"
            ),
        }
    }
}
