//! The header of a sealed store, as it may lie in a damaged or foreign file: any bytes are a header or an error, what was read
//! is written as it was, and only the genuine header opens.
#![no_main]

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use kes_seal::{Header, HeaderRecord, KeySeal, Seals, open_header};
use libfuzzer_sys::fuzz_target;

/// The seal, the header and the generation record of the published vectors.
const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const HEADER: &[u8] = include_bytes!("../corpus/store_header/one-wrapping");
const GENERATION: &[u8] = include_bytes!("../corpus/store_header/generation-record");

static SEALS: LazyLock<Seals> = LazyLock::new(|| {
    let seal = KeySeal::from_variable("SEAL", SEAL).expect("the seal is valid");
    let seals: Seals = vec![Arc::new(seal)];
    assert!(opens(&seals, HEADER), "the header of the vectors opens");
    seals
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(header.encode(), bytes);
        let _ = format!("{header:?}");
    }
    assert!(!opens(&SEALS, bytes) || bytes == HEADER, "a forgery");
});

fn opens(seals: &Seals, header: &[u8]) -> bool {
    let record = HeaderRecord {
        header: header.to_vec(),
        generation: GENERATION.to_vec(),
    };
    let opening = pin!(open_header("fuzz", &record, seals));
    // A seal that is a key waits for nothing.
    match opening.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(opened) => opened.is_ok(),
        Poll::Pending => unreachable!("nothing to wait for"),
    }
}
