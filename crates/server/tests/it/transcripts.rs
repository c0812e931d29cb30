//! Clients that cannot be run here: what they say to a server, replayed byte by byte.

use std::collections::BTreeSet;
use std::path::Path;

use format::Transcript;

// Always true here; it tells clippy that all of a module is a test.
#[cfg(test)]
mod format;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod shape;

macro_rules! transcripts {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                replay::replay($file, include_str!(concat!("../transcripts/", $file))).await;
            }
        )*

        const FILES: &[&str] = &[$($file),*];
    };
}

transcripts! {
    the_go_sdk_works_with_keys: "go-sdk-keys.txt",
    the_go_sdk_pages_through_listings: "go-sdk-pages.txt",
    the_go_sdk_asks_about_the_server: "go-sdk-server.txt",
    the_go_sdk_reads_policies_and_identities: "go-sdk-policies.txt",
    the_go_sdk_follows_logs: "go-sdk-logs.txt",
    the_2023_go_sdk_works_with_keys: "go-sdk-2023-keys.txt",
    the_2023_go_sdk_lists_line_by_line: "go-sdk-2023-listings.txt",
    the_command_line_does_its_commands: "command-line.txt",
    the_2023_command_line_does_its_commands: "command-line-2023.txt",
    rustfs_encrypts: "rustfs.txt",
    curl_does_what_the_documents_show: "curl.txt",
    http_1_0_clients_get_what_they_can_read: "http-1.0.txt",
    errors_have_the_words_that_clients_compare: "errors.txt",
    checks_come_in_order: "order-of-checks.txt",
}

#[test]
fn every_transcript_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let there: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(there, FILES.iter().map(ToString::to_string).collect());
}

/// The errors that clients compare word for word. Two are left out: this server has no FIPS mode that could refuse an
/// algorithm, and refuses a connection without TLS before there is a request (see `curl.txt`).
const COMPARED: [(u16, &str); 23] = [
    (403, "not authorized: insufficient permissions"),
    (404, "key does not exist"),
    (400, "key already exists"),
    (400, "decryption failed: ciphertext is not authentic"),
    (404, "policy does not exist"),
    (404, "identity does not exist"),
    (400, "tls: client certificate is required"),
    (400, "tls: received more than one client certificate"),
    (409, "key does not support HMAC"),
    (406, "algorithm 'DES' is not supported"),
    (406, "invalid key size for 'AES256'"),
    (406, "invalid key size for 'ChaCha20'"),
    (
        400,
        "key name 'a.b' is empty, too long or contains invalid characters",
    ),
    (
        400,
        "policy name 'a.b' is empty, too long or contains invalid characters",
    ),
    (
        400,
        "identity 'a.b' is empty, too long or contains invalid characters",
    ),
    (400, "listing pattern 'a.b' is empty, too long or is invalid"),
    (502, "failed to create key"),
    (502, "failed to read key"),
    (502, "failed to delete key"),
    (502, "failed to list keys"),
    (504, "key store is not reachable"),
    (502, "key store is unavailable"),
    (400, "too many ciphertexts"),
];

#[test]
fn every_error_that_clients_compare_is_in_a_transcript() {
    let transcript = Transcript::parse(include_str!("../transcripts/errors.txt"));
    let there: BTreeSet<(u16, &str)> = transcript.errors().collect();
    for error in COMPARED {
        assert!(there.contains(&error), "{error:?}");
    }
}

/// A replay that notices nothing would be worth nothing.
#[tokio::test]
async fn a_replay_fails_at_what_a_client_would_fail_at() {
    const OWN: &str = "@as app\n> GET /v1/identity/self/describe HTTP/1.1\n> Host: kes\n>\n\n";
    const SHAPE: &str = r#"{"identity": "${app}", "policy": "app", "...": 0}"#;
    let fails = |text: String| async move {
        let replay = tokio::spawn(async move { replay::replay("wrong", &text).await });
        replay.await.is_err_and(|error| error.is_panic())
    };
    assert!(!fails(format!("{OWN}< 200\n<\n< {SHAPE}\n")).await);
    for answer in [
        "< 201".to_owned(),
        "< 200".to_owned(),
        "< 200 key does not exist".to_owned(),
        format!("< 200\n< Content-Type: text/plain\n<\n< {SHAPE}"),
        format!("< 200\n< no Content-Type\n<\n< {SHAPE}"),
        format!("< 200\n< Etag: 1\n<\n< {SHAPE}"),
        format!("< 200\n<\n< {}", SHAPE.replace(r#", "...": 0"#, "")),
        format!("< 200\n<\n< {}", SHAPE.replace("policy", "policies")),
        format!("< 200\n<\n< {}", SHAPE.replace("${app}", "${admin}")),
        format!("< 200\n<\n< {}", SHAPE.replace("${app}", "${: time}")),
        format!("< 200\n<\n< {}", SHAPE.replace("${app}", "${: base64 32}")),
        format!("< 200\n<\n< [{SHAPE}]"),
        format!("< 200\n<\n< {SHAPE}\n\n> {{}}"),
        "< 403 not authorized: insufficient permissions".to_owned(),
    ] {
        assert!(fails(format!("{OWN}{answer}\n")).await, "{answer}");
    }
    let missing = "@keys 3\n@as app\n> GET /v1/key/list/ HTTP/1.1\n> Host: kes\n>\n\n< 200\n<\n";
    assert!(!fails(format!("{missing}< {{\"names\": [\"${{keys 0..3}}\"]}}")).await);
    assert!(fails(format!("{missing}< {{\"names\": [\"${{keys 0..2}}\"]}}")).await);
    assert!(fails(format!("{missing}< {{\"names\": [\"${{keys 0..4}}\"]}}")).await);
}
