//! What Vault's policies permit, asked of Vault itself.

use std::collections::BTreeMap;

use kes_keystore::{EntryName, StoreError};
use kes_keystore_http::Method;
use serde::{Deserialize, Serialize};

use super::VaultStore;
use crate::api::{Body, Call};
use crate::client::Failed;
use crate::failure::Purpose;
use crate::path::Path;

/// A path that the key store uses, what it needs there, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The path as policies name it, where `*` stands for a key.
    pub path: String,
    /// What it is for, such as "read keys".
    pub purpose: &'static str,
    /// The capabilities that are needed.
    pub needed: &'static [&'static str],
    /// Those that the login has.
    pub granted: Vec<String>,
    /// Whether nothing works without it; otherwise a part.
    pub is_vital: bool,
}

impl Permission {
    /// What is needed and was not granted.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> + '_ {
        let is_root = self.granted.iter().any(|granted| granted == "root");
        self.needed
            .iter()
            .copied()
            .filter(move |needed| !is_root && !self.granted.iter().any(|granted| granted == needed))
    }
}

#[derive(Serialize)]
struct Question<'a> {
    paths: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    data: BTreeMap<String, serde_json::Value>,
}

impl VaultStore {
    /// What the policies of the login permit on the paths that this store uses for the key `name`, which need not exist. Changes
    /// nothing.
    ///
    /// # Errors
    /// When Vault does not tell, such as to a token without the policy `default`.
    pub async fn permissions(&self, name: &EntryName) -> Result<Vec<Permission>, StoreError> {
        let mut wanted = self.wanted(name);
        let body = Body::new(
            &Question {
                paths: wanted.iter().map(|(path, _)| path.as_str()).collect(),
            },
            "",
        );
        let path = Path::fixed("sys/capabilities-self");
        let mut call = Call {
            body: Some(&body),
            ..self.call(Method::POST, &path)
        };
        let deadline = self.client.deadline();
        let reply = self.client.ask(&mut call, &deadline).await;
        let answer = reply.and_then(|reply| reply.json::<Answer>().map_err(Failed::Api));
        let answer = answer.map_err(|failed| self.origin.error(failed, Purpose::Health, "update"))?;
        for (path, permission) in &mut wanted {
            let granted = answer.data.get(path).and_then(serde_json::Value::as_array);
            permission.granted = granted
                .into_iter()
                .flatten()
                .filter_map(serde_json::Value::as_str)
                .map(str::to_owned)
                .collect();
        }
        Ok(wanted.into_iter().map(|(_, permission)| permission).collect())
    }

    /// The paths to ask about, and what is needed there.
    fn wanted(&self, name: &EntryName) -> Vec<(String, Permission)> {
        let want = |path: String, purpose, needed, is_vital| {
            let shown = path.strip_suffix(name.as_str()).unwrap_or(&path);
            let permission = Permission {
                path: if path.ends_with(name.as_str()) || path.ends_with('/') {
                    format!("{shown}*")
                } else {
                    path.clone()
                },
                purpose,
                needed,
                granted: Vec::new(),
                is_vital,
            };
            (path, permission)
        };
        let (entry, whole) = (self.kv.entry(name), self.kv.whole(name));
        let mut wanted = vec![
            want(entry.to_string(), "read keys", &["read"][..], true),
            want(entry.to_string(), "create keys", &["create"], false),
            want(whole.to_string(), "delete keys", &["delete"], false),
            // The path of a folder ends in a slash, which the pattern of its entries matches.
            want(format!("{}/", whole.folder()), "list keys", &["list"], false),
        ];
        if let Some(transit) = &self.transit {
            let (encrypt, decrypt) = (transit.encrypt.to_string(), transit.decrypt.to_string());
            wanted.push(want(decrypt, "decrypt keys", &["update"], true));
            wanted.push(want(encrypt, "encrypt new keys", &["update"], false));
        }
        wanted
    }
}
