//! A configuration file. Its variables are set for names of even length.
#![no_main]

use kes_config::{Overrides, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    match parse(text, "kes.yml", &Overrides::default(), &environment) {
        Ok(loaded) => {
            let again = parse(text, "kes.yml", &Overrides::default(), &environment);
            assert_eq!(again.as_ref(), Ok(&loaded));
            for policy in &loaded.settings.policies {
                assert!(
                    !policy
                        .identities
                        .iter()
                        .any(|one| Some(one) == loaded.settings.admin.identity.as_ref())
                );
            }
        }
        Err(error) => {
            assert!(!error.errors.is_empty());
            let lines = text.matches(['\n', '\r']).count() + 2;
            assert!(
                error
                    .errors
                    .iter()
                    .all(|error| error.line.is_none_or(|line| (1..=lines).contains(&line)))
            );
        }
    }
});
