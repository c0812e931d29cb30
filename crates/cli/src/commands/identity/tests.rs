use super::*;
use crate::output::testing::output;

/// From public documentation; the last one is shown there with another identity, which is a mistake.
const VECTORS: [(&str, &str); 3] = [
    (
        "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq",
        "7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7",
    ),
    (
        "kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc",
        "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
    ),
    (
        "kes:v1:ABuhW1PU/dL1VL41trsQJzYYFMV5FfAcoF7NHu1U9ckk",
        "d6a5ca74bb1c714b8e4a85136fcc0d8ee8bb83c6cfacff9c7c2551cb5c57caf0",
    ),
];

fn printed(is_terminal: bool, print: impl FnOnce(&mut Output) -> Outcome) -> String {
    let (mut output, captured) = output(is_terminal);
    print(&mut output).unwrap();
    captured.text()
}

#[test]
fn an_api_key_has_the_identity_of_its_public_key() {
    for (key, identity) in VECTORS {
        assert_eq!(Hash::Sha256.of(&public_key_of(key).unwrap()), identity);
    }
}

#[test]
fn an_identity_is_bare_in_a_pipe() {
    let identity = Hash::Sha256.of(&public_key_of(VECTORS[0].0).unwrap());
    assert_eq!(
        printed(false, |output| print_identity(&identity, output)),
        VECTORS[0].1
    );
    assert_eq!(
        printed(true, |output| print_identity(&identity, output)),
        format!("\n  Identity:  {}\n", VECTORS[0].1)
    );
}

#[test]
fn a_new_key_is_bare_in_a_pipe() {
    let key = ApiKey::parse(VECTORS[0].0).unwrap();
    assert_eq!(printed(false, |output| print_new(&key, output)), VECTORS[0].0);
    let text = printed(true, |output| print_new(&key, output));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], format!("  API key:   {}", VECTORS[0].0));
    assert_eq!(lines[2], format!("  Identity:  {}", VECTORS[0].1));
}

#[test]
fn several_identities_carry_their_names() {
    let identities: Vec<_> = VECTORS[..2]
        .iter()
        .map(|(key, _)| (*key, Hash::Sha256.of(&public_key_of(key).unwrap())))
        .collect();
    let (name, identity) = VECTORS[0];
    let text = printed(true, |output| print_identities(&identities, false, output));
    assert_eq!(text.lines().next().unwrap(), format!("{name}: {identity}"));
    let json = printed(false, |output| print_identities(&identities, false, output));
    assert_eq!(
        json.lines().next().unwrap(),
        format!(r#"{{"name":"{name}","identity":"{identity}"}}"#)
    );
}

#[test]
fn the_first_block_that_matters_decides() {
    assert_eq!(
        first_block(b"-----BEGIN EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\n"),
        Some(Block::PrivateKey)
    );
    assert_eq!(
        first_block(b"text\r\n-----BEGIN CERTIFICATE-----\r\n"),
        Some(Block::Certificate)
    );
    assert_eq!(first_block(b""), None);
}

#[test]
fn a_hash_is_named_in_any_spelling() {
    for (text, hash) in [
        ("SHA256", Hash::Sha256),
        ("sha-384", Hash::Sha384),
        ("Sha512", Hash::Sha512),
    ] {
        assert_eq!(Hash::parse(text).unwrap(), hash);
    }
    for text in ["MD5", "", "SHA--256"] {
        assert!(Hash::parse(text).is_err(), "{text}");
    }
    assert_eq!(
        (Hash::Sha384.of(b"").len(), Hash::Sha512.of(b"").len()),
        (96, 128)
    );
}

fn described(json: &str, is_self: bool, as_json: bool) -> String {
    let info: IdentityInfo = serde_json::from_str(json).unwrap();
    printed(false, |output| print_info(&info, is_self, as_json, output))
}

#[test]
fn an_identity_is_described_with_its_policy() {
    let reply = r#"{"identity":"ab","created_by":"cd","policy":{"name":"p","allow":{"/v1/b":{},"/v1/a":{}},"deny":{"/v1/c":{}}}}"#;
    assert_eq!(
        described(reply, true, false),
        "Identity    ab\nRole        User\nCreated By  cd\n\nPolicy      p\nAllow\n            · /v1/a\n            · \
         /v1/b\nDeny\n            · /v1/c\n"
    );
    assert_eq!(
        described(reply, false, false),
        "Identity    ab\nPolicy      p\nRole        User\nCreated By  cd\n"
    );
    assert_eq!(
        described(reply, true, true),
        "{\"identity\":\"ab\",\"policy\":\"p\",\"created_by\":\"cd\",\"allow\":{\"/v1/a\":{},\"/v1/b\":{}},\"deny\":{\"/v1/c\":{}}}\n"
    );
    let admin = r#"{"identity":"ab","admin":true,"created_at":"2024-05-01T00:00:00Z"}"#;
    assert_eq!(
        described(admin, true, true),
        "{\"identity\":\"ab\",\"admin\":true,\"created_at\":\"2024-05-01T00:00:00Z\"}\n"
    );
}
