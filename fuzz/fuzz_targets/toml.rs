//! A configuration file in TOML, and what files are converted to. Variables are set for names of even length.
#![no_main]

use kes_config::{Overrides, convert, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    let overrides = Overrides::default();
    for name in ["kes.toml", "kes.yml"] {
        let loaded = parse(text, name, &overrides, &environment);
        if let Err(error) = &loaded {
            assert!(!error.errors.is_empty());
            let lines = text.matches(['\n', '\r']).count() + 2;
            assert!(
                error
                    .errors
                    .iter()
                    .all(|error| error.line.is_none_or(|line| (1..=lines).contains(&line)))
            );
        }
        let Ok(converted) = convert(text, name, &environment) else {
            continue;
        };
        let current = parse(&converted.text, "current.yml", &overrides, &environment);
        if let Ok(loaded) = loaded {
            assert_eq!(Ok(loaded.settings), current.map(|current| current.settings));
        }
    }
});
