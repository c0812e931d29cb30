//! What a key store returns: any value is a record or an error, and a record says the same after it was written again.
#![no_main]

use kes_crypto::KeyVersion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Ok(record) = KeyVersion::decode(value) else {
        return;
    };
    let written = record.encode();
    let again = KeyVersion::decode(written.expose_secret()).expect("what we write we can read");
    assert!(written.ct_eq(&again.encode()));
    assert_eq!(format!("{record:?}"), format!("{again:?}"));
    assert_eq!(record.hmac(b"message"), again.hmac(b"message"));
});
