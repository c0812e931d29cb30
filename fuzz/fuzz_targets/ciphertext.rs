//! What a client sends to be decrypted, under a key without an algorithm and one of each kind.
//!
//! The keys are those of the published vectors, so that the corpus holds ciphertexts that open.
#![no_main]

use std::sync::LazyLock;

use kes_crypto::KeyVersion;
use libfuzzer_sys::fuzz_target;

const RECORDS: [&str; 3] = [
    r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#,
    "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAESJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=",
    "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAISJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=",
];
static KEYS: LazyLock<Vec<KeyVersion>> = LazyLock::new(|| {
    RECORDS
        .iter()
        .map(|record| KeyVersion::decode(record.as_bytes()).expect("the records are valid"))
        .collect()
});

fuzz_target!(|ciphertext: &[u8]| {
    for key in KEYS.iter() {
        if let Ok(plaintext) = key.open(ciphertext, b"ctx/1") {
            assert_eq!(plaintext.expose_secret(), b"attack at dawn!!", "a forgery");
        }
    }
});
