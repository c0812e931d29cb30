//! A rule of a policy on the first line, and a path on the rest.
#![no_main]

use kes_types::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (rule, path) = text.split_once('\n').unwrap_or((text, "/v1/key/create/my-key"));
    if let Ok(parsed) = Rule::parse(rule) {
        assert_eq!(parsed.as_str(), rule);
        let matches = parsed.matches(path);
        if !rule.contains(['*', '?', '[']) && rule == path && !rule.is_empty() {
            assert!(matches);
        }
    }
});
