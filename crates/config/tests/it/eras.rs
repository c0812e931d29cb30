//! A file of each era: what is said about it, and what it is in the current form, which must load to the same settings.
//!
//! `eras/NAME.yml` or `.toml` is the file, `NAME.messages` the errors and warnings, `NAME.current.yml` what it is converted to. With
//! `GOLDEN=overwrite` in the environment the two are written anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kes_config::{KeyStoreSettings, Loaded, Overrides};
use proptest::prelude::*;

use super::digest;

fn environment(name: &str) -> Option<String> {
    Some(match name {
        "ROOT_IDENTITY" => "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22".to_owned(),
        "MINIO_IDENTITY" => digest(1),
        "ROLE_ID" => "role".to_owned(),
        "SECRET_ID" => "secret".to_owned(),
        _ => return None,
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/eras")
}

/// Names and texts of the files.
fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| (name.ends_with(".toml") || name.ends_with(".yml")) && !name.ends_with(".current.yml"))
        .map(|name| {
            let text = fs::read_to_string(folder().join(&name)).unwrap();
            (name, text)
        })
        .collect();
    files.sort();
    files
}

/// The guide of 2020 gives the admin on the command line.
fn overrides(name: &str) -> Overrides {
    Overrides {
        root: name.starts_with("guide-2020").then(|| "disabled".to_owned()),
        ..Overrides::default()
    }
}

fn load(name: &str, text: &str) -> Result<Loaded, kes_config::LoadError> {
    kes_config::parse(text, name, &overrides(name), &environment)
}

/// Compares `actual` with a golden file, or makes it that file.
fn check(name: &str, actual: Option<&str>) {
    let path = folder().join(name);
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "overwrite") {
        match actual {
            Some(actual) => fs::write(&path, actual).unwrap(),
            None => _ = fs::remove_file(&path),
        }
    }
    assert_eq!(
        actual,
        fs::read_to_string(&path).ok().as_deref(),
        "{name}; GOLDEN=overwrite"
    );
}

#[test]
fn files_of_every_era_say_what_is_written_down() {
    for (name, text) in files() {
        let (errors, warnings) = match load(&name, &text) {
            Ok(loaded) => (Vec::new(), loaded.warnings),
            Err(error) => (error.errors, error.warnings),
        };
        let mut messages = String::new();
        for (kind, diagnostics) in [("error", errors), ("warning", warnings)] {
            for diagnostic in diagnostics {
                writeln!(messages, "{kind}: {diagnostic}").unwrap();
            }
        }
        check(&format!("{name}.messages"), Some(&messages));

        let converted = kes_config::convert(&text, &name, &environment).ok();
        let converted = converted.as_ref().map(|converted| converted.text.as_str());
        check(&format!("{name}.current.yml"), converted);
    }
}

#[test]
fn the_current_form_means_the_same_and_is_not_warned_of() {
    let mut compared = 0;
    for (name, text) in files() {
        let Ok(converted) = kes_config::convert(&text, &name, &environment) else {
            continue;
        };
        let again = kes_config::convert(&converted.text, "current.yml", &environment).unwrap();
        let body = |text: &str| {
            text.lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(body(&converted.text), body(&again.text), "{name}");

        let current = kes_config::parse(&converted.text, "current.yml", &overrides(&name), &environment);
        match (load(&name, &text), current) {
            (Ok(loaded), Ok(current)) => {
                compared += 1;
                assert_eq!(loaded.settings, current.settings, "{name}");
                let older: Vec<_> = current
                    .warnings
                    .iter()
                    .filter(|warning| warning.message.contains("deprecated"))
                    .collect();
                assert!(older.is_empty(), "{name}: {older:?}");
            }
            (Err(_), Err(_)) => {}
            (loaded, current) => panic!("{name}: {loaded:?} {current:?}"),
        }
    }
    assert!(compared >= 17, "{compared}");
}

#[test]
fn each_older_key_is_warned_of_once() {
    for (name, text) in files() {
        let warnings = load(&name, &text).map_or_else(|error| error.warnings, |loaded| loaded.warnings);
        let mut keys: Vec<_> = warnings
            .iter()
            .filter(|warning| warning.message.contains("deprecated"))
            .map(|warning| (warning.key.clone(), warning.message.clone()))
            .collect();
        assert!(warnings.iter().all(|warning| warning.line.is_some()), "{name}");
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "{name}");
    }
}

#[test]
fn the_guide_of_2020_has_the_settings_that_it_means() {
    let (name, text) = files()
        .into_iter()
        .find(|(name, _)| name == "guide-2020.toml")
        .unwrap();
    let settings = load(&name, &text).unwrap().settings;
    assert_eq!(settings.address.to_string(), "127.0.0.1:7373");
    assert!(settings.policies[0].policy.permits("/v1/key/create/minio-1"));
    assert!(!settings.policies[0].policy.permits("/v1/key/create/other"));
    let KeyStoreSettings::Vault(vault) = settings.keystore else {
        panic!()
    };
    assert_eq!(
        (
            vault.endpoint.as_str(),
            vault.engine.as_str(),
            vault.prefix.as_deref()
        ),
        ("https://127.0.0.1:8200", "kv", Some("minio"))
    );
    assert_eq!(vault.ping.as_secs(), 10);
    assert_eq!(vault.tls.ca.as_deref(), Some(Path::new("./vault-tls.crt")));

    let errors = kes_config::parse(&text, &name, &Overrides::default(), &environment)
        .unwrap_err()
        .errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].key, "admin.identity");
}

#[test]
fn the_key_store_alone_of_an_older_file_can_be_read() {
    for (name, text) in files() {
        if let Ok(loaded) = load(&name, &text) {
            let (keystore, _) = kes_config::parse_keystore(&text, &name, &environment).unwrap();
            assert_eq!(keystore, loaded.settings.keystore, "{name}");
        }
    }
}

#[test]
fn messages_and_what_shows_a_conversion_have_no_secrets() {
    for (name, text) in files() {
        let shown = match kes_config::convert(&text, &name, &environment) {
            Ok(converted) => format!("{converted:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        let loaded = format!("{:?}", load(&name, &text));
        for secret in [
            "a-secret-id",
            "a-secret-key",
            "a-role-id",
            "an-access-key",
            "a-token",
        ] {
            assert!(!shown.contains(secret) && !loaded.contains(secret), "{name}");
        }
    }
}

proptest! {
    /// A file of some era with lines left out, doubled or exchanged.
    #[test]
    fn no_mangled_file_makes_it_panic(which in any::<prop::sample::Index>(), lines in proptest::collection::vec(any::<prop::sample::Index>(), 0..40), byte in any::<(prop::sample::Index, char)>()) {
        let files = files();
        let (name, text) = which.get(&files);
        let all: Vec<_> = text.lines().collect();
        let mangled: String = lines.iter().map(|line| format!("{}\n", line.get(&all))).collect();
        let mut pierced: Vec<char> = text.chars().collect();
        let at = byte.0.index(pierced.len());
        pierced[at] = byte.1;
        for text in [mangled, pierced.into_iter().collect()] {
            if let Err(error) = load(name, &text) {
                prop_assert!(!error.errors.is_empty());
            }
            if let Ok(converted) = kes_config::convert(&text, name, &environment)
                && let Ok(loaded) = load(name, &text)
            {
                let current = kes_config::parse(&converted.text, "c.yml", &overrides(name), &environment);
                prop_assert_eq!(loaded.settings, current.unwrap().settings);
            }
        }
    }
}

/// `rest` after what every file needs, in TOML.
fn toml(rest: &str) -> String {
    format!("root = \"disabled\"\ntls = {{ key = \"a\", cert = \"b\" }}\nkeystore.fs.path = \"c\"\n{rest}")
}

fn toml_errors(text: &str) -> Vec<String> {
    let error = load("kes.toml", text)
        .err()
        .unwrap_or_else(|| panic!("this is fine:\n{text}"));
    error.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_newer_than_toml_is_read_from_it_too() {
    for rest in [
        "health.address = \"127.0.0.1:7374\"",
        "[health]\naddress = \"127.0.0.1:7374\"",
    ] {
        let health = load("kes.toml", &toml(rest)).unwrap().settings.health.unwrap();
        assert_eq!(health.address.to_string(), "127.0.0.1:7374");
        assert!(health.place.starts_with("kes.toml:"), "{}", health.place);
    }
}

#[test]
fn what_is_wrong_in_toml_is_told_with_its_line_and_key() {
    assert_eq!(load("kes.toml", &toml("")).unwrap().warnings.len(), 1);
    for (rest, place, part) in [
        ("tls.key = \"x\"", "kes.toml:4: ", "is not valid TOML"),
        (
            "health.address = 7374",
            "kes.toml:4: health.address: ",
            "must be a text in quotes, not a number",
        ),
        (
            "health = \"127.0.0.1:7374\"",
            "kes.toml:4: health: ",
            "must be a section of `key = value` lines",
        ),
        (
            "root = \"x\"",
            "kes.toml:4: ",
            "is not valid TOML: `root` stands here a second time",
        ),
        (
            "log = \"on\"",
            "kes.toml:4: log: ",
            "must be a section of `key = value` lines",
        ),
        (
            "log.error.file = \"a.log\"",
            "kes.toml:4: log.error.file: ",
            "must be a list of files",
        ),
        (
            "log.error.file = [ \"${UNSET}\" ]",
            "kes.toml:4: log.error.file: ",
            "UNSET is not set",
        ),
        (
            "log.error.level = \"on\"",
            "kes.toml:4: log.error: ",
            "must be a level",
        ),
        (
            "address = \"${UNSET}\"",
            "kes.toml:4: address: ",
            "the environment variable UNSET is not set",
        ),
        (
            "address = \"nowhere\"",
            "kes.toml:4: address: ",
            "must be an IP address",
        ),
        (
            "cache.expiry.all = 300",
            "kes.toml:4: cache.expiry.all: ",
            "must be a duration",
        ),
        (
            "cache.expiry.all = \"soon\"",
            "kes.toml:4: cache.expiry.all: ",
            "must be a duration",
        ),
        (
            "cache.entries = \"many\"",
            "kes.toml:4: cache.entries: ",
            "whole number",
        ),
        (
            "[vault]\naddress = \"https://v\"",
            "kes.toml:3: keystore: ",
            "there are `keystore.fs`, `vault`",
        ),
        (
            "kms.vault = \"x\"",
            "kes.toml:4: kms.vault: ",
            "was removed in v0.8.0",
        ),
        ("kms = \"x\"", "kes.toml:4: kms: ", "was removed in v0.8.0"),
        ("keys = \"x\"", "kes.toml:4: keys: ", "must be a list"),
        (
            "keys.fs.path = \"c\"",
            "kes.toml:4: keys: ",
            "stands beside `keystore`",
        ),
        (
            "[policy.p]\npaths = [ \"[\" ]",
            "kes.toml:5: policy.p.paths: ",
            "is not a valid pattern",
        ),
        (
            "[policy.p]\npaths = [ true ]",
            "kes.toml:5: policy.p.paths: ",
            "must be a text in quotes, not a boolean",
        ),
        ("a = [", "kes.toml:", "is not valid TOML"),
        ("\u{0}", "kes.toml:4: ", "is not valid TOML"),
    ] {
        let errors = toml_errors(&toml(rest));
        assert!(
            matches!(&errors[..], [error] if error.starts_with(place) && error.contains(part)),
            "{rest}\n{errors:#?}"
        );
    }
}

#[test]
fn files_that_hold_no_toml_are_refused() {
    for (bytes, part) in [
        (&b""[..], "is empty"),
        (b"\n# nothing\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a = \"1\"\nb = \"\xff\"\n", "line 2 is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0", "is not valid TOML"),
        (b"tls:\n  key: a\n", "is not valid TOML"),
        (b"[[[[[[[[", "is not valid TOML"),
        (&[b'#'; (1 << 20) + 1], "larger than 1 MiB"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kes.toml");
        fs::write(&path, bytes).unwrap();
        let error = kes_config::load(&path, &Overrides::default(), &environment).unwrap_err();
        assert_eq!(error.errors.len(), 1, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        let converted = kes_config::convert_file(&path, &environment).unwrap_err();
        assert_eq!(error.errors, converted.errors);
    }
}

#[test]
fn nothing_is_guessed_for_a_file_that_lost_its_indentation() {
    let text = include_str!("documents/minio-aws-reference-flattened.yml");
    let error = kes_config::convert(text, "c.yml", &environment).unwrap_err();
    assert!(error.errors[0].message.contains("look un-indented"), "{error}");
    // What releases up to v0.4.0 had at the top is not taken for that, though something else is empty.
    let older = "root: disabled\ntls: {key: a, cert: b}\ncache:\nfs: {path: c}\n";
    assert_eq!(load("c.yml", older).unwrap().settings.keystore.kind(), "fs");
    let lost = "root: disabled\ntls: {key: a, cert: b}\nkeystore:\nfs:\npath: c\n";
    assert!(
        load("c.yml", lost)
            .unwrap_err()
            .to_string()
            .contains("look un-indented")
    );
}

#[test]
fn what_cannot_be_brought_into_the_current_form_is_not_converted() {
    for (text, part) in [
        ("root: a\nroot: b\n", "root: stands here and in line 1"),
        ("root: a\nadmin: {identity: b}\n", "root: is not the same"),
        (
            "keystore:\n  generic: {endpoint: e}\n",
            "keystore.generic: this key store was removed",
        ),
        ("kms: {aws: {address: a}}\n", "kms.aws: was removed"),
        (
            "policy:\n  a:\n    allow: [x]\n    allow: [y]\n",
            "policy.a.allow: stands here",
        ),
        (
            "policy:\n  a: {paths: x, allow: [y]}\n",
            "policy.a.allow: must be a list",
        ),
    ] {
        let error = kes_config::convert(text, "kes.yml", &environment).unwrap_err();
        assert!(error.to_string().contains(part), "{text}\n{error}");
    }
    // Variables are written as they are, set or not, unless they must be compared.
    let unset = kes_config::convert("root: ${UNSET}\n", "kes.yml", &environment).unwrap();
    assert!(unset.text.contains("identity: ${UNSET}\n"), "{}", *unset.text);
    let error = kes_config::convert(
        "root: ${UNSET}\nadmin: {identity: disabled}\n",
        "kes.yml",
        &environment,
    )
    .unwrap_err();
    assert!(error.to_string().contains("UNSET is not set"), "{error}");
}

#[test]
fn an_older_file_of_many_policies_is_read_and_converted_in_no_time() {
    let policies: String = (0..2000)
        .map(|i| {
            format!("[policy.p{i}]\npaths = [ \"/v1/key/create/p{i}-*\" ]\nidentities = [ \"{i:064x}\" ]\n")
        })
        .collect();
    let text = toml(&policies);
    assert_eq!(load("kes.toml", &text).unwrap().settings.policies.len(), 2000);
    let converted = kes_config::convert(&text, "kes.toml", &environment).unwrap();
    assert_eq!(converted.text.matches("# was `paths`").count(), 2000);
}
