//! The section `keystore.embedded`, and the reading of `keystore` alone.

use std::path::Path;
use std::time::Duration;

use kes_config::keystore::{Embedded, KeyStoreSettings, SealSettings};
use kes_config::{LoadError, SecretText};

use super::{environment, errors, settings, warnings};

const HEAD: &str = "admin: {identity: disabled}\ntls: {key: a.key, cert: a.crt}\nkeystore:\n  embedded:\n";

/// The section with these lines, the first of which is line 5.
fn with(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("{HEAD}{lines}")
}

fn embedded(lines: &str) -> Embedded {
    match settings(&with(lines)).keystore {
        KeyStoreSettings::Embedded(embedded) => embedded,
        other => panic!("{other:?}"),
    }
}

fn file(path: &str) -> SealSettings {
    SealSettings::File(path.into())
}

fn variable(name: &str, value: &str) -> SealSettings {
    SealSettings::Variable {
        name: name.to_owned(),
        value: SecretText::new(value.to_owned().into()),
    }
}

/// Each of these lines has one error, at this line, at this key, with this part.
fn check(cases: &[(&str, usize, &str, &str)]) {
    for (lines, line, key, part) in cases {
        let errors = errors(&with(lines));
        let [error] = errors.as_slice() else {
            panic!("{lines}\n{errors:#?}")
        };
        let place = format!("kes.yml:{line}: keystore.embedded{key}: ");
        assert!(error.starts_with(&place), "{lines}\n{error}\nis not at {place}");
        assert!(error.contains(part), "{lines}\n{error}");
    }
}

#[test]
fn a_seal_in_a_file_and_seven_days_to_undelete() {
    let smallest = embedded("path: /var/lib/kes/keys.redb\nseal:\n  file: /etc/kes/seal.key");
    let expected = Embedded {
        path: "/var/lib/kes/keys.redb".into(),
        seals: vec![file("/etc/kes/seal.key")],
        undelete: Duration::from_secs(7 * 24 * 60 * 60),
    };
    assert_eq!(smallest, expected);
    assert_eq!(KeyStoreSettings::Embedded(expected).kind(), "embedded");
}

#[test]
fn a_seal_in_an_environment_variable() {
    assert_eq!(
        embedded("path: p\nseal: {env: SEAL}").seals,
        [variable("SEAL", "the seal's key")]
    );
    // The name of a variable is no variable.
    assert_eq!(
        embedded("path: ${FOLDER}\nseal: {file: '${FOLDER}', env: ''}").seals,
        [file("/keys")]
    );
    assert_eq!(
        embedded("path: p\nseal: {env: ' SEAL ', file: ''}").seals,
        [variable("SEAL", "the seal's key")]
    );
}

#[test]
fn several_seals_keep_their_order() {
    let two = embedded("path: p\nseal:\n- file: new.key\n- env: SEAL\n- {file: old.key}\nundelete: 0");
    assert_eq!(
        two.seals,
        [
            file("new.key"),
            variable("SEAL", "the seal's key"),
            file("old.key")
        ]
    );
    assert_eq!(two.undelete, Duration::ZERO);
    let files = KeyStoreSettings::Embedded(two);
    assert_eq!(files.files(), [Path::new("new.key"), Path::new("old.key")]);
    assert_eq!(embedded("path: p\nseal: [file: a]").seals, [file("a")]);
}

#[test]
fn the_time_to_undelete_is_a_duration() {
    for (text, hours) in [("0", 0), ("0s", 0), ("36h", 36), ("30d", 720)] {
        let embedded = embedded(&format!("path: p\nseal: {{file: f}}\nundelete: {text}"));
        assert_eq!(embedded.undelete, Duration::from_secs(hours * 3600), "{text}");
    }
    check(&[
        (
            "path: p\nseal: {file: f}\nundelete: -1s",
            7,
            ".undelete",
            "must not be negative",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: 7",
            7,
            ".undelete",
            "must be a duration",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: ''",
            7,
            ".undelete",
            "must be a duration",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: 500ms",
            7,
            ".undelete",
            "must be at least a second, or 0",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: a week",
            7,
            ".undelete",
            "must be a duration",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: [7d]",
            7,
            ".undelete",
            "must be a single value",
        ),
        (
            "path: p\nseal: {file: f}\nundelete: 300000d",
            7,
            ".undelete",
            "less than 292 years",
        ),
    ]);
}

#[test]
fn a_path_is_needed() {
    check(&[
        (
            "seal: {file: f}",
            5,
            ".path",
            "is missing: set it to the file that keys are kept in",
        ),
        (
            "seal: {file: f}\npath: ''",
            6,
            ".path",
            "is empty: set it to the file",
        ),
        (
            "seal: {file: f}\npath: ${EMPTY}",
            6,
            ".path",
            "variable EMPTY is set, but empty",
        ),
        (
            "seal: {file: f}\npath: ${NONE}",
            6,
            ".path",
            "variable NONE is not set",
        ),
        (
            "seal: {file: f}\npath: {a: b}",
            6,
            ".path",
            "must be a single value",
        ),
        (
            "path: ''\nseal: {file: ''}",
            5,
            ".path",
            "is empty: without it this key store is not chosen",
        ),
        (
            "paht: p",
            5,
            ".path",
            "is missing: without it this key store is not chosen",
        ),
    ]);
}

#[test]
fn a_seal_is_needed() {
    const HINT: &str =
        "set it to `file: FILE` or `env: NAME`, where a key of 32 bytes in base64 is, or to a list";
    check(&[
        ("path: p", 5, ".seal", "is missing"),
        ("path: p", 5, ".seal", HINT),
        ("path: p\nseal:", 5, ".seal", "is missing"),
        ("path: p\nseal: []", 6, ".seal", "is empty"),
        ("path: p\nseal: []", 6, ".seal", HINT),
        ("path: p\nseal: {}", 6, ".seal", "has neither `file` nor `env`"),
        (
            "path: p\nseal: {file: , env: }",
            6,
            ".seal",
            "has neither `file` nor `env`",
        ),
        ("path: p\nseal:\n- file: f\n-", 8, ".seal", "is empty"),
        (
            "path: p\nseal:\n- file: f\n- {}",
            8,
            ".seal",
            "has neither `file` nor `env`",
        ),
        (
            "path: p\nseal: seal.key",
            6,
            ".seal",
            "must be a section, not a single value",
        ),
        (
            "path: p\nseal: ''",
            6,
            ".seal",
            "must be a section, not a single value",
        ),
        (
            "path: p\nseal:\n- file: f\n- seal.key",
            8,
            ".seal",
            "must be a section, not a single value",
        ),
        ("path: p\nseal:\n- [file: f]", 7, ".seal", "must be a section"),
    ]);
}

#[test]
fn a_seal_is_either_a_file_or_a_variable() {
    check(&[
        (
            "path: p\nseal: {file: ''}",
            6,
            ".seal.file",
            "is empty: set it to the file",
        ),
        (
            "path: p\nseal: {file: '${EMPTY}'}",
            6,
            ".seal.file",
            "variable EMPTY is set, but empty",
        ),
        (
            "path: p\nseal: {file: '${NONE}'}",
            6,
            ".seal.file",
            "variable NONE is not set",
        ),
        (
            "path: p\nseal: {file: [f]}",
            6,
            ".seal.file",
            "must be a single value",
        ),
        (
            "path: p\nseal: {env: ''}",
            6,
            ".seal.env",
            "is empty: set it to the name",
        ),
        (
            "path: p\nseal: {env: [E]}",
            6,
            ".seal.env",
            "must be a single value",
        ),
        (
            "path: p\nseal: {env: NONE}",
            6,
            ".seal.env",
            "variable of this name is not set",
        ),
        (
            "path: p\nseal: {env: EMPTY}",
            6,
            ".seal.env",
            "variable of this name is set, but empty",
        ),
        (
            "path: p\nseal: {env: BLANK}",
            6,
            ".seal.env",
            "variable of this name is set, but empty",
        ),
        (
            "path: p\nseal: {env: '${SEAL}'}",
            6,
            ".seal.env",
            "must be the name of an environment variable",
        ),
        (
            "path: p\nseal: {env: q83vEjRW+A==}",
            6,
            ".seal.env",
            "and never the key itself",
        ),
        (
            "path: p\nseal: {file: q83vEjRW+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0=}",
            6,
            ".seal.file",
            "must be the name of a file, and never the key itself",
        ),
        (
            "path: p\nseal:\n  file: f\n  env: SEAL",
            8,
            ".seal.env",
            "stands beside `file`",
        ),
        (
            "path: p\nseal:\n- file: f\n- env: NONE",
            8,
            ".seal.env",
            "is not set",
        ),
        (
            "path: p\nseal:\n- file: f\n- file: g\n- file: f",
            9,
            ".seal",
            "stands in line 7 already",
        ),
        (
            "path: p\nseal:\n- env: SEAL\n- env: SEAL",
            8,
            ".seal",
            "stands in line 7 already",
        ),
        (
            "path: p\nseal:\n  file: f\n  file: g",
            8,
            ".seal.file",
            "stands here and in line 7",
        ),
    ]);
}

#[test]
fn everything_wrong_with_it_is_told_at_once() {
    let errors = errors(&with("undelete: x\nseal:\n- {env: NONE}\n- file: ''\npath: ''"));
    let keys: Vec<_> = errors
        .iter()
        .map(|error| error.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "keystore.embedded.undelete",
            "keystore.embedded.seal.env",
            "keystore.embedded.seal.file",
            "keystore.embedded.path"
        ]
    );
}

#[test]
fn unknown_keys_are_warned_of() {
    let text = with("path: p\npat: q\nseal:\n- file: f\n  mode: 0600\n- env: SEAL\n  File: g");
    assert_eq!(
        warnings(&text),
        [
            "kes.yml:6: keystore.embedded.pat: is not a known key here and is ignored",
            "kes.yml:9: keystore.embedded.seal.mode: is not a known key here and is ignored",
            "kes.yml:11: keystore.embedded.seal.File: is not a known key here and is ignored",
        ]
    );
}

#[test]
fn two_key_stores_are_one_too_many() {
    let text = format!("{}  fs: {{path: q}}\n", with("path: p\nseal: {file: f}"));
    assert_eq!(
        errors(&text),
        [
            "kes.yml:4: keystore: only one key store can be configured, and there are `keystore.embedded`, `keystore.fs`"
        ]
    );
}

fn alone(text: &str) -> Result<(KeyStoreSettings, Vec<String>), Vec<String>> {
    let lines =
        |diagnostics: &[kes_config::Diagnostic]| diagnostics.iter().map(ToString::to_string).collect();
    match kes_config::parse_keystore(text, "kes.yml", &environment) {
        Ok((settings, warnings)) => Ok((settings, lines(&warnings))),
        Err(LoadError { errors, warnings: _ }) => Err(lines(&errors)),
    }
}

#[test]
fn the_key_store_can_be_read_alone() {
    let section = "keystore:\n  embedded: {path: p, seal: {file: f}, unknown: x}\n";
    let (settings, warnings) = alone(section).unwrap();
    assert_eq!(settings.kind(), "embedded");
    assert_eq!(
        warnings,
        ["kes.yml:2: keystore.embedded.unknown: is not a known key here and is ignored"]
    );
    // What is wrong or missing elsewhere does not matter.
    let text = format!("{section}address: nowhere\ntls: [x]\nunknown: y\npolicy: {{p: {{deny: [x]}}}}\n");
    assert_eq!(alone(&text).unwrap(), (settings, warnings));
}

#[test]
fn what_is_wrong_with_a_key_store_read_alone_is_told() {
    assert_eq!(alone("keystore: {embedded: {path: p}}").unwrap_err().len(), 1);
    for (text, part) in [
        (
            "admin: {identity: x}",
            "kes.yml: keystore: no key store is configured",
        ),
        ("", "kes.yml: is empty"),
        (
            "keystore: {fs: {path: p}}\nkeystore: {fs: {path: q}}",
            "stands here and in line 1",
        ),
    ] {
        let errors = alone(text).unwrap_err();
        assert!(errors[0].contains(part), "{errors:?}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kes.yml");
    let error = kes_config::load_keystore(&path, &environment).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    std::fs::write(&path, "keystore: {fs: {path: p}}").unwrap();
    let (settings, _) = kes_config::load_keystore(&path, &environment).unwrap();
    assert_eq!(settings.kind(), "fs");
}
