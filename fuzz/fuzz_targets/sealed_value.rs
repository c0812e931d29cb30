//! What may lie in a store under a name: it opens only if it is what was sealed for that name.
#![no_main]

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use kes_seal::{HeaderRecord, KeySeal, Seals, StoreKey, open_header};
use libfuzzer_sys::fuzz_target;

/// The store of the published vectors, so that the corpus holds a value that opens.
static KEY: LazyLock<StoreKey> = LazyLock::new(|| {
    let seal = KeySeal::from_variable("SEAL", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let seals: Seals = vec![Arc::new(seal.expect("the seal is valid"))];
    let record = HeaderRecord {
        header: include_bytes!("../corpus/store_header/one-wrapping").to_vec(),
        generation: include_bytes!("../corpus/store_header/generation-record").to_vec(),
    };
    let opening = pin!(open_header("fuzz", &record, &seals));
    // A seal that is a key waits for nothing.
    match opening.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(opened) => opened.expect("the header of the vectors opens").key,
        Poll::Pending => unreachable!("nothing to wait for"),
    }
});
const GENUINE: &[u8] = include_bytes!("../corpus/sealed_value/genuine");

fuzz_target!(|sealed: &[u8]| {
    match KEY.open_value("my-key", sealed) {
        Ok(value) => {
            assert_eq!(sealed, GENUINE, "a forgery");
            assert_eq!(value.expose_secret(), b"attack at dawn");
        }
        Err(_) => assert_ne!(sealed, GENUINE),
    }
    assert!(KEY.open_value("another-key", sealed).is_err(), "a moved value");
    assert!(KEY.verify_backup(&[7; 32], sealed).is_err(), "a forged tag");
});
