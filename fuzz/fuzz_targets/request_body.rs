//! Bodies of requests, each read as every kind. What was read, a client would write so that it reads the same.
#![no_main]

use std::fmt::Debug;

use kes_types::wire::{
    BadBody, DecryptRequest, EncryptRequest, GenerateRequest, HmacRequest, ImportRequest, MAX_BULK,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;

fn check<T: Serialize + PartialEq + Debug>(parse: impl Fn(&[u8]) -> Result<T, BadBody>, body: &[u8]) {
    if let Ok(request) = parse(body) {
        let written = serde_json::to_vec(&request).expect("a request can be written");
        assert_eq!(parse(&written), Ok(request));
    }
}

fuzz_target!(|body: &[u8]| {
    check(GenerateRequest::parse, body);
    check(EncryptRequest::parse, body);
    check(DecryptRequest::parse, body);
    check(HmacRequest::parse, body);
    check(ImportRequest::parse, body);
    if let Ok(requests) = DecryptRequest::parse_bulk(body) {
        assert!(requests.len() <= MAX_BULK);
    }
});
