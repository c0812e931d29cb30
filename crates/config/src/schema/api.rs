//! The section `api`.

use std::collections::{BTreeMap, HashMap};

use kes_types::Verb;

use crate::reader::{Checked, Context, Section};
use crate::settings::ApiOverride;
use crate::tree::{Entry, Kind};

pub(crate) fn read(cx: &Context<'_>, mut section: Section<'_>) -> Checked<BTreeMap<Verb, ApiOverride>> {
    let mut lines: HashMap<Verb, usize> = HashMap::new();
    let mut overrides = Vec::new();
    for entry in section.take_all() {
        let path = section.path_of(entry.key.trim());
        let Some(verb) = verb(&entry.key) else {
            // Not even its `skip_auth` counts: a misspelled path must not open the TLS handshake.
            cx.warn(entry.at, &path, "is not a path of the API and is ignored");
            continue;
        };
        if matches!(entry.value.kind, Kind::Null) {
            continue;
        }
        if let Some(first) = lines.insert(verb, entry.at.line) {
            let message = format!("is the same path as the one in line {first}: join them");
            overrides.push(Err(cx.error(Some(entry.at), &path, message)));
            continue;
        }
        overrides.push(route(cx, path, entry, verb).map(|route| (verb, route)));
    }
    overrides.into_iter().collect()
}

/// The path is written with or without the slash in front and, for paths that take a name, the one at the end.
fn verb(key: &str) -> Option<Verb> {
    let key = key.trim();
    let path = if key.starts_with('/') {
        key.to_owned()
    } else {
        format!("/{key}")
    };
    Verb::from_path(&path)
}

fn route(cx: &Context<'_>, path: String, entry: &Entry, verb: Verb) -> Checked<ApiOverride> {
    let mut section = Section::new(cx, path, &entry.value)?;
    let skip_auth = section.boolean(cx, "skip_auth");
    let timeout = section.duration(cx, "timeout");
    let at = section
        .entries()
        .find(|entry| entry.key == "skip_auth")
        .map(|entry| entry.value.at);
    let key = section.path_of("skip_auth");
    section.finish(cx);

    let skip_auth = skip_auth?.unwrap_or(false);
    if skip_auth && !verb.may_skip_auth() {
        let open: Vec<_> = Verb::ALL
            .into_iter()
            .filter(|verb| verb.may_skip_auth())
            .map(Verb::path)
            .collect();
        let message = format!(
            "this path always needs a client certificate; only {} can do without",
            open.join(", ")
        );
        return Err(cx.error(at, &key, message));
    }
    Ok(ApiOverride {
        skip_auth,
        timeout: timeout?.filter(|timeout| !timeout.is_zero()),
    })
}
