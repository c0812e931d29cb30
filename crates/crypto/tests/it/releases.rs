//! Keys and ciphertexts of every format that a release of the reference ever wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::{Algorithm, DecryptError, KeyVersion};
use serde::Deserialize;
use time::macros::datetime;

use crate::{fixtures, read};

/// What the folder holds in total. A number here keeps a lost file from passing unseen.
const RELEASES: usize = 13;
const KEYS: usize = 59;
const CASES: usize = 488;

#[derive(Deserialize)]
struct Case {
    key: String,
    op: String,
    #[serde(default)]
    context_b64: String,
    #[serde(default)]
    plaintext_b64: String,
    #[serde(default)]
    ciphertext_b64: String,
    #[serde(default)]
    message_b64: String,
    #[serde(default)]
    hmac_b64: String,
}

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn releases() -> Vec<PathBuf> {
    let releases = entries(&fixtures().join("releases"));
    assert_eq!(releases.len(), RELEASES);
    releases
}

fn cases(release: &Path) -> Vec<Case> {
    serde_json::from_slice(&read(&release.join("cases.json"))).unwrap()
}

fn key(release: &Path, case: &Case) -> KeyVersion {
    KeyVersion::decode(&read(&release.join("keys").join(&case.key))).unwrap()
}

/// Ciphertexts of v0.4.0 with AES have a key derivation that the reference itself gave up in v0.7.2.
fn is_extinct(ciphertext: &[u8]) -> bool {
    ciphertext.starts_with(br#"{"aead":"AES-256-GCM","#)
}

#[test]
fn every_key_of_every_release_loads() {
    let mut loaded = 0;
    for release in releases() {
        for path in entries(&release.join("keys")) {
            let stored = read(&path);
            let key =
                KeyVersion::decode(&stored).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_json = stored.starts_with(b"{");

            if name.contains("chacha20") {
                assert_eq!(key.algorithm(), Algorithm::ChaCha20, "{name}");
            }
            if name.contains("aes256") || name.ends_with("noalg") {
                assert_eq!(key.algorithm(), Algorithm::Aes256, "{name}");
            }
            assert_eq!(key.hmac(b"").is_err(), is_json, "{name}");

            let says_when = !is_json || stored.windows(10).any(|part| part == b"created_at");
            assert_eq!(
                key.created_at() > datetime!(2020-01-01 00:00 UTC),
                says_when,
                "{name}"
            );
            assert_eq!(key.created_by().len(), if says_when { 64 } else { 0 }, "{name}");
            loaded += 1;
        }
    }
    assert_eq!(loaded, KEYS);
}

#[test]
fn every_case_of_every_release_comes_out_as_it_went_in() {
    let (mut passed, mut extinct, mut like_older_forms) = (0, 0, 0);
    for release in releases() {
        for (i, case) in cases(&release).iter().enumerate() {
            let place = format!("{} case {i}", release.display());
            let key = key(&release, case);
            let context = decode(&case.context_b64);
            match case.op.as_str() {
                "generate" | "encrypt" => {
                    let ciphertext = decode(&case.ciphertext_b64);
                    if is_extinct(&ciphertext) {
                        assert_eq!(
                            key.open(&ciphertext, &context).unwrap_err(),
                            DecryptError,
                            "{place}"
                        );
                        extinct += 1;
                        continue;
                    }
                    let plaintext = key
                        .open(&ciphertext, &context)
                        .unwrap_or_else(|e| panic!("{place}: {e}"));
                    assert_eq!(plaintext.expose_secret(), decode(&case.plaintext_b64), "{place}");
                    assert!(key.open(&ciphertext, b"another context").is_err(), "{place}");
                    if key.hmac(b"").is_ok() && matches!(ciphertext[0], 0x95 | b'{') {
                        like_older_forms += 1;
                    }
                }
                "hmac" => {
                    let hmac = key.hmac(&decode(&case.message_b64)).unwrap();
                    assert_eq!(hmac.as_slice(), decode(&case.hmac_b64), "{place}");
                }
                op => panic!("{place}: unknown operation {op}"),
            }
            passed += 1;
        }
    }
    assert_eq!((passed + extinct, extinct), (CASES, 2));
    assert_eq!(like_older_forms, 3);
}

#[test]
fn a_record_that_is_written_again_says_the_same() {
    for release in releases() {
        for path in entries(&release.join("keys")) {
            let stored = read(&path);
            let key = KeyVersion::decode(&stored).unwrap();
            let written = key.encode();
            if !stored.starts_with(b"{") {
                assert_eq!(written.expose_secret(), stored, "{}", path.display());
            }
            let again = KeyVersion::decode(written.expose_secret()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{key:?}"), "{}", path.display());
        }
        for case in cases(&release).iter().filter(|case| case.op != "hmac") {
            let again = KeyVersion::decode(key(&release, case).encode().expose_secret()).unwrap();
            let (ciphertext, context) = (decode(&case.ciphertext_b64), decode(&case.context_b64));
            assert_eq!(
                again.open(&ciphertext, &context).is_err(),
                is_extinct(&ciphertext)
            );
        }
    }
}

#[test]
fn an_altered_byte_anywhere_in_a_structured_ciphertext_never_gives_another_plaintext() {
    for release in releases() {
        for case in cases(&release).iter().filter(|case| case.op == "generate") {
            let key = key(&release, case);
            let (mut ciphertext, context) = (decode(&case.ciphertext_b64), decode(&case.context_b64));
            let plaintext = decode(&case.plaintext_b64);
            for i in 0..ciphertext.len() {
                for flip in [0x01, 0x20, 0x80] {
                    ciphertext[i] ^= flip;
                    // What is not authenticated may change: key id, spelling of names, excess bits of base64.
                    if let Ok(opened) = key.open(&ciphertext, &context) {
                        assert_eq!(opened.expose_secret(), plaintext);
                    }
                    ciphertext[i] ^= flip;
                }
            }
        }
    }
}
