//! The table is what the readers do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{GROUPS, Key, OLDER, Without};
use crate::diagnostic::Diagnostic;
use crate::legacy::{MOVES, PATHS, REMOVED, RETRIES};
use crate::load::{Loaded, Overrides, parse};
use crate::reader::asked;

/// What must not stand together: of each list, one file has one.
const CHOICES: [&[&str]; 4] = [
    &[
        "keystore.embedded",
        "keystore.fs",
        "keystore.vault",
        "keystore.aws",
        "keystore.gcp",
        "keystore.azure",
        "keystore.fortanix",
        "keystore.gemalto",
        "keystore.entrust",
    ],
    &[
        "keystore.vault.approle",
        "keystore.vault.kubernetes",
        "keystore.vault.token",
        "keystore.vault.cert",
    ],
    &["keystore.embedded.seal[].file", "keystore.embedded.seal[].env"],
    &[
        "keystore.azure.keyvault.credentials",
        "keystore.azure.keyvault.managed_identity",
    ],
];

/// The identity in the samples of policies, which a test puts elsewhere, too.
const VARIABLE: &str = "KES_SAMPLE";

fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys)
}

fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// All keys that can stand in a file together with `key`.
fn beside(key: &Key) -> Vec<&'static Key> {
    let keep = |path: &str| {
        CHOICES.iter().all(|choice| {
            let of = |path: &str| choice.iter().position(|section| is_below(path, section));
            let Some(own) = of(path) else { return true };
            // The choice of the key itself, or else the first one.
            own == of(key.path).unwrap_or(0)
        })
    };
    keys().filter(|other| keep(other.path)).collect()
}

/// The path that a file has it under.
fn real(path: &str) -> String {
    path.replace("<path>", "/v1/ready")
        .replace("<name>", "minio")
        .replace("[]", "")
}

/// A file with these values, in YAML without indentation.
fn file(values: &[(&str, String)]) -> String {
    #[derive(Default)]
    struct Section(Vec<(String, Node)>);
    enum Node {
        Value(String),
        Inner(Section),
    }
    impl Section {
        fn put(&mut self, path: &[&str], value: &str) {
            let [first, rest @ ..] = path else { return };
            if rest.is_empty() {
                self.0.push(((*first).to_owned(), Node::Value(value.to_owned())));
                return;
            }
            if !self.0.iter().any(|(name, _)| name == first) {
                self.0.push(((*first).to_owned(), Node::Inner(Self::default())));
            }
            if let Some((_, Node::Inner(inner))) = self.0.iter_mut().find(|(name, _)| name == first) {
                inner.put(rest, value);
            }
        }

        fn write(&self, text: &mut String) {
            text.push_str("{ ");
            for (name, node) in &self.0 {
                let list = name.ends_with("[]");
                let name = real(name);
                write!(text, "\"{name}\": {}", if list { "[ " } else { "" }).unwrap();
                match node {
                    Node::Value(value) => text.push_str(value),
                    Node::Inner(section) => section.write(text),
                }
                text.push_str(if list { " ], " } else { ", " });
            }
            text.push('}');
        }
    }

    let mut root = Section::default();
    for (path, value) in values {
        root.put(&path.split('.').collect::<Vec<_>>(), value);
    }
    let mut text = String::new();
    root.write(&mut text);
    text
}

/// What a file with all keys beside `key` says, with `value` for it, or without it.
fn read(key: &Key, value: Option<&str>) -> Result<Loaded, String> {
    let values: Vec<_> = beside(key)
        .into_iter()
        .filter_map(|other| {
            let value = if other.path == key.path {
                value?
            } else {
                other.sample
            };
            Some((other.path, value.to_owned()))
        })
        .collect();
    let environment = |name: &str| match name {
        "KES_SEAL_KEY" => Some("a seal".to_owned()),
        VARIABLE => Some(items(key.sample).to_owned()),
        _ => None,
    };
    parse(&file(&values), "kes.yml", &Overrides::default(), &environment).map_err(|error| error.to_string())
}

/// The only item of a list, or the value that is none.
fn items(sample: &str) -> &str {
    sample.trim_matches(['[', ']', ' '])
}

fn sampled(key: &Key) -> Loaded {
    read(key, Some(key.sample)).unwrap_or_else(|error| panic!("{}: {error}", key.path))
}

#[test]
fn every_key_is_taken_and_says_something() {
    for key in keys() {
        let with = sampled(key);
        // What else a key changes is told of with every file that has it.
        let told = |warning: &&Diagnostic| warning.key != "keystore.entrust.keycontrol.tls";
        assert_eq!(with.warnings.iter().find(told), None, "{}", key.path);
        match read(key, None) {
            // The version is the only key that changes nothing.
            Ok(without) => assert!(
                without.settings != with.settings || key.path == "version",
                "{} changes nothing",
                key.path
            ),
            Err(error) => assert!(
                matches!(key.default, Without::Required | Without::Together(_))
                    || key.path.starts_with("keystore.embedded.seal"),
                "{} can be left out, and yet: {error}",
                key.path
            ),
        }
    }
}

#[test]
fn what_is_required_is_missed_by_name() {
    for key in keys().filter(|key| key.default == Without::Required) {
        let missed = match read(key, None) {
            Ok(_) => String::new(),
            Err(error) => error,
        };
        // A list of keys, or a login, without its only key is an empty one.
        let alone = matches!(
            key.path,
            "keys[].name"
                | "keystore.fs.path"
                | "keystore.vault.token.file"
                | "keystore.azure.keyvault.managed_identity.client_id"
        );
        assert!(
            missed.contains(&real(key.path)) || alone,
            "{}: {missed}",
            key.path
        );
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    for key in keys() {
        let Without::Is(value) = key.default else { continue };
        let (given, absent) = (read(key, Some(value)), read(key, None));
        // A route of which nothing differs is one that is not there.
        let blank = |loaded: &Loaded| {
            let mut settings = loaded.settings.clone();
            settings.api.retain(|_, route| *route != Default::default());
            settings
        };
        let (given, absent) = (given.unwrap(), absent.unwrap());
        assert_eq!(blank(&given), blank(&absent), "{} is not {value}", key.path);
    }
}

#[test]
fn variables_stand_where_the_table_allows_them() {
    for key in keys() {
        let list = key.sample.starts_with('[');
        let variable = if list {
            format!("[ '${{{VARIABLE}}}' ]")
        } else {
            format!("'${{{VARIABLE}}}'")
        };
        let read = read(key, Some(&variable));
        let is_same = read.is_ok_and(|loaded| loaded.settings == sampled(key).settings);
        assert_eq!(is_same, key.variable, "{}", key.path);
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for key in keys() {
        for wrong in key.refused {
            let Err(error) = read(key, Some(wrong)) else {
                panic!("{} takes {wrong}", key.path)
            };
            let section = real(key.path.split("[]").next().unwrap_or_default());
            assert!(error.contains(&section), "{}: {error}", key.path);
        }
    }
}

#[test]
fn readers_know_no_key_that_is_not_in_the_table() {
    keys().for_each(|key| drop(sampled(key)));
    let table: BTreeSet<String> = keys().map(|key| real(key.path)).collect();
    let is_section = |asked: &str| {
        table
            .iter()
            .any(|path| is_below(path, asked) && path.len() > asked.len())
    };
    let removed: Vec<_> = REMOVED
        .iter()
        .map(|(name, _)| format!("keystore.{name}"))
        .collect();
    let unknown: Vec<_> = asked::keys()
        .into_iter()
        .filter(|asked| !table.contains(asked) && !is_section(asked) && !removed.contains(asked))
        .collect();
    assert_eq!(
        unknown, [""; 0],
        "a row in crates/config/src/reference.rs is missing"
    );
}

#[test]
fn older_keys_are_those_that_are_brought_to_their_place() {
    let table: BTreeSet<_> = OLDER.iter().map(|older| (older.path, older.now)).collect();
    let mut known = BTreeSet::new();
    let moves: Vec<_> = MOVES
        .iter()
        .map(|step| (step.from.join("."), step.to.join(".")))
        .collect();
    known.extend(moves.iter().map(|(from, to)| (from.as_str(), to.as_str())));
    let retries: Vec<_> = RETRIES.iter().map(|path| path.join(".")).collect();
    known.extend(retries.iter().map(|path| (path.as_str(), "")));
    let removed: Vec<_> = REMOVED
        .iter()
        .map(|(name, _)| format!("keystore.{name}"))
        .collect();
    known.extend(removed.iter().map(|path| (path.as_str(), "")));
    assert_eq!(PATHS.0, "policy.*.paths");
    known.extend([
        ("policy.<name>.paths", "policy.<name>.allow"),
        ("keystore.secretsmanager", "keystore.aws.secretsmanager"),
        ("keys", "keystore"),
        ("log.error.file", "log.error"),
        ("log.audit.file", "log.audit"),
        ("kms", ""),
    ]);
    assert_eq!(table, known);
}
