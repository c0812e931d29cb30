//! The text of the configuration.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use kes_config::keystore::{Embedded, KeyStoreSettings, SealSettings};
use kes_config::{ListenAddress, Overrides, Settings};
use kes_types::Identity;

use super::folder::Names;

/// The configuration of a server in the folder of `names`. It has been read again, so that whatever the folder is called, the
/// server finds it.
pub(super) fn text(names: &Names, address: ListenAddress, admin: &Identity) -> anyhow::Result<String> {
    let text = render(
        &quoted(&address.to_string()),
        admin.as_str(),
        [
            &path(&names.private_key)?,
            &path(&names.certificate)?,
            &path(&names.store)?,
            &path(&names.seal)?,
        ],
    );
    let loaded = kes_config::parse(&text, "config.yml", &Overrides::default(), &|_| None)
        .context("the folder cannot be named in a configuration")?;
    if !says(&loaded.settings, names, address) {
        bail!(
            "the folder {} cannot be named in a configuration",
            names.folder.display()
        );
    }
    Ok(text)
}

fn says(settings: &Settings, names: &Names, address: ListenAddress) -> bool {
    let store = KeyStoreSettings::Embedded(Embedded {
        path: names.store.clone(),
        seals: vec![SealSettings::File(names.seal.clone())],
        undelete: Embedded::UNDELETE,
    });
    settings.address == address
        && settings.tls.key == names.private_key
        && settings.tls.cert == names.certificate
        && settings.keystore == store
}

fn path(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(quoted)
        .with_context(|| format!("the path {} is not UTF-8", path.display()))
}

/// A text as YAML reads it back, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn render(address: &str, admin: &str, [private_key, certificate, store, seal]: [&str; 4]) -> String {
    format!(
        "\
# The configuration of a KES server, made by `kes init`. After a change, check it by `kes server --check --config FILE`, and
# send the server a SIGHUP.

# The IP address and the port to listen on. A new one takes a restart, and other machines need a certificate with its name.
address: {address}

admin:
  # Who may do everything: the identity of the API key that was shown when this file was made. The key itself is stored
  # nowhere. To replace it, make another one by `kes identity`, and put its identity here.
  identity: {admin}

tls:
  key: {private_key}
  cert: {certificate}
  # off: clients are known by their keys alone. on: their certificates must be issued by a known CA, too.
  auth: off

# What others than the administrator may do. This example is for a MinIO Server whose API key has this identity:
#
# policy:
#   minio:
#     allow:
#       - /v1/key/create/*
#       - /v1/key/generate/*
#       - /v1/key/decrypt/*
#       - /v1/key/describe/*
#       - /v1/key/list/*
#       - /v1/status
#       - /v1/metrics
#     identities:
#       - 7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7

cache:
  expiry:
    # How long a key is used before it is read from the key store again.
    any: 5m
    # How long a key stays that nobody uses.
    unused: 30s
    # How long keys stay usable while the key store is out of reach.
    offline: 0s

log:
  error: on
  # on: one line of JSON for each request, on the standard output.
  audit: off

keystore:
  embedded:
    path: {store}
    # What the key store is sealed with. Whoever has this file and the key store has all keys; without this file nobody has.
    seal:
      file: {seal}
    # How long `kes key undelete` can bring a deleted key back.
    undelete: 7d
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_be_quoted() {
        assert_eq!(quoted("/srv/kes"), "\"/srv/kes\"");
        assert_eq!(
            quoted("a \"b\" \\ 'c' #d\n"),
            "\"a \\\"b\\\" \\\\ 'c' #d\\u000a\""
        );
    }

    #[test]
    fn the_example_of_a_policy_is_right_once_it_is_no_comment() {
        let text = render("':1'", "disabled", ["a", "b", "c", "d"]);
        let (before, example) = text.split_once("# policy:\n").unwrap();
        let (example, after) = example.split_once("\n\n").unwrap();
        let example = example
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap())
            .collect::<Vec<_>>()
            .join("\n");
        let text = format!("{before}policy:\n{example}\n\n{after}");
        let loaded = kes_config::parse(&text, "config.yml", &Overrides::default(), &|_| None).unwrap();
        assert_eq!(loaded.warnings, []);
        let [policy] = loaded.settings.policies.as_slice() else {
            panic!("{loaded:?}")
        };
        assert_eq!((policy.policy.allow.len(), policy.identities.len()), (7, 1));
    }

    #[test]
    fn the_defaults_that_are_written_out_are_the_defaults() {
        let text = render("':1'", "disabled", ["a", "b", "c", "d"]);
        let bare = "address: ':1'\nadmin: {identity: disabled}\ntls: {key: a, cert: b}\n\
                    keystore: {embedded: {path: c, seal: {file: d}}}\n";
        let settings = |text: &str| {
            kes_config::parse(text, "config.yml", &Overrides::default(), &|_| None)
                .unwrap()
                .settings
        };
        assert_eq!(settings(&text), settings(bare));
    }
}
