//! Listing patterns and the positions that clients send back.
#![no_main]

use kes_types::ListRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(request) = ListRequest::parse(text) else {
        return;
    };
    if let Some(after) = request.after() {
        assert!(after.starts_with(request.prefix()));
        assert_eq!(request.continue_after(after), text);
    }
});
