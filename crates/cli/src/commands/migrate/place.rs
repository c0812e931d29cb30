//! Where keys are, before anything is connected.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kes_config::KeyStoreSettings;
use kes_config::keystore::Vault;
use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, StoreError};
use kes_keystore_embedded::EmbeddedStore;
use kes_types::is_name;

use super::copy::Replace;
use super::pattern::Pattern;
use crate::connect;

/// The file or folder of a key store on this machine. The same place has the same path, however it was written.
fn resolved(settings: &KeyStoreSettings) -> Option<PathBuf> {
    let absolute = std::path::absolute(connect::path(settings)?).ok()?;
    if let Ok(resolved) = absolute.canonicalize() {
        return Some(resolved);
    }
    // It is not there yet.
    let folder = absolute.parent()?.canonicalize().ok();
    folder
        .and_then(|folder| Some(folder.join(absolute.file_name()?)))
        .or(Some(absolute))
}

/// Whether both are one key store, as far as the settings tell.
pub(super) fn are_same(a: &KeyStoreSettings, b: &KeyStoreSettings) -> bool {
    match (a, b) {
        (KeyStoreSettings::Vault(a), KeyStoreSettings::Vault(b)) => entries_of(a) == entries_of(b),
        // Another account has other credentials.
        (KeyStoreSettings::Aws(a), KeyStoreSettings::Aws(b)) => {
            (&a.endpoint, &a.region, &a.credentials) == (&b.endpoint, &b.region, &b.credentials)
        }
        _ => match (resolved(a), resolved(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
    }
}

/// Where the keys are in Vault, whoever asks for them.
fn entries_of(vault: &Vault) -> [&str; 4] {
    let Vault {
        endpoint,
        engine,
        namespace,
        prefix,
        version: _,
        transit: _,
        login: _,
        tls: _,
        ping: _,
    } = vault;
    let (namespace, prefix) = (namespace.as_deref(), prefix.as_deref());
    [
        endpoint,
        engine,
        namespace.unwrap_or_default(),
        prefix.unwrap_or_default(),
    ]
    .map(|text: &str| text.trim_matches('/'))
}

/// The path of a key store of this machine that is not there, and would be made by connecting.
pub(super) fn absent(settings: &KeyStoreSettings) -> Option<&Path> {
    connect::path(settings).filter(|path| matches!(path.try_exists(), Ok(false)))
}

/// What lies among the keys of a source and is none, since no key can have such a name.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// The names, as far as they are worth a line each.
    pub(super) names: Vec<String>,
    /// How many more there are.
    pub(super) more: u64,
}

impl Foreign {
    /// Files in a folder of keys. Hidden ones were never keys.
    pub(super) fn find(settings: &KeyStoreSettings, pattern: &Pattern) -> io::Result<Self> {
        let mut found = Self::default();
        let KeyStoreSettings::Fs(fs) = settings else {
            return Ok(found);
        };
        for entry in fs.path.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_name(&name) || name.starts_with('.') || !pattern.matches(&name) {
                continue;
            }
            // A link counts for what it leads to.
            if !entry.path().is_file() {
                continue;
            }
            if found.names.len() < MOST_NAMED {
                found.names.push(name.escape_debug().to_string());
            } else {
                found.more += 1;
            }
        }
        found.names.sort_unstable();
        Ok(found)
    }
}

#[async_trait]
impl Replace for EmbeddedStore {
    async fn replace(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        Self::replace(self, name, value).await
    }
}

/// How many foreign names are named. More would not be read, but take memory.
const MOST_NAMED: usize = 10_000;

#[cfg(test)]
mod tests {
    use kes_config::keystore::Fs;

    use super::*;

    fn fs(path: PathBuf) -> KeyStoreSettings {
        KeyStoreSettings::Fs(Fs { path })
    }

    #[test]
    fn one_place_is_one_place_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (a, link) = (dir.path().join("a"), dir.path().join("link"));
        std::fs::create_dir(&a).unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        assert!(are_same(&fs(a.clone()), &fs(link.clone())));
        assert!(
            are_same(&fs(a.join("new")), &fs(link.join("new"))),
            "also one that is not there"
        );
        assert!(are_same(&fs(a.clone()), &fs(dir.path().join("a/../link/."))));
        assert!(!are_same(&fs(a), &fs(dir.path().join("b"))));
        assert!(are_same(&fs("x".into()), &fs("./x".into())));
    }

    fn settings(keystore: &str) -> KeyStoreSettings {
        let text = format!("keystore: {{{keystore}}}");
        kes_config::parse_keystore(&text, "kes.yml", &|_| None).unwrap().0
    }

    #[test]
    fn one_place_of_a_service_is_one_place_whoever_asks() {
        let vault = |rest: &str| settings(&format!("vault: {{endpoint: 'https://vault:8200', {rest}}}"));
        let base = vault("token: {file: a}");
        for same in [
            vault("token: {file: b}, version: v2, engine: /kv/, namespace: '', transit: {key: k}"),
            vault("approle: {id: i, secret: s}, prefix: /"),
            settings("vault: {endpoint: 'https://vault:8200/', token: {file: a}}"),
        ] {
            assert!(are_same(&base, &same), "{same:?}");
        }
        for other in [
            vault("token: {file: a}, engine: kv2"),
            vault("token: {file: a}, namespace: n"),
            vault("token: {file: a}, prefix: p"),
            settings("vault: {endpoint: 'https://vault:8201', token: {file: a}}"),
            fs("https://vault:8200".into()),
        ] {
            assert!(!are_same(&base, &other), "{other:?}");
        }

        let aws = |rest: &str| settings(&format!("aws: {{secretsmanager: {{region: r{rest}}}}}"));
        assert!(are_same(&aws(""), &aws(", kmskey: k")));
        for other in [
            aws(", endpoint: e"),
            aws(", credentials: {accesskey: a, secretkey: s}"),
            settings("aws: {secretsmanager: {region: q}}"),
        ] {
            assert!(!are_same(&aws(""), &other), "{other:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_keys_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "key",
            ".hidden",
            "a.b",
            "_",
            "-x",
            "naïve",
            "tab\there",
            &"x".repeat(81),
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("a.folder")).unwrap();
        let settings = fs(dir.path().to_owned());
        let find = |pattern| {
            let pattern = Pattern::parse(pattern).unwrap();
            Foreign::find(&settings, &pattern).unwrap().names
        };
        let long = "x".repeat(81);
        assert_eq!(find(None), ["-x", "_", "a.b", "naïve", "tab\\there", &long]);
        assert_eq!(find(Some("a*")), ["a.b"]);
    }
}
