//! The keys of the configuration file, from the table that its readers are held to.

use anyhow::{Context, Result};
use kes_config::reference::{GROUPS, Group, Key, OLDER, Older, Without};

use super::{code, row};

const HEADER: [&str; 4] = ["Key", "Value", "Default", "Meaning"];
const RULE: &str = "|---|---|---|---|\n";

/// All keys, a table for each section.
pub(super) fn keys() -> String {
    GROUPS.iter().map(group).collect()
}

fn group(group: &Group) -> String {
    let Group { title, about, keys } = group;
    let mut text = format!("### {title}\n\n");
    if !about.is_empty() {
        text.push_str(&format!("{about}\n\n"));
    }
    text.push_str(&row(HEADER));
    text.push_str(RULE);
    text.extend(keys.iter().map(key));
    text.push('\n');
    text
}

fn key(key: &Key) -> String {
    let value = if key.variable {
        key.accepts.to_owned()
    } else {
        format!("{}, no variable", key.accepts)
    };
    let default = match key.default {
        Without::Required => "required".to_owned(),
        Without::Is(value) => code(value),
        Without::Says(text) | Without::Together(text) => text.to_owned(),
    };
    let mut meaning = key.meaning.to_owned();
    if matches!(key.default, Without::Together(_)) {
        meaning.push_str("; needed with the keys beside it");
    }
    row([&code(key.path), &value, &default, &meaning])
}

/// The keys of one section, without its name, for the page about it in the folder of the key stores.
pub(super) fn section(title: &str, page: &str) -> Result<String> {
    let group = GROUPS.iter().find(|group| group.title == title);
    let group = group.with_context(|| format!("there is no section {title}"))?;
    let mut text = row(HEADER);
    text.push_str(RULE);
    text.extend(group.keys.iter().map(key));
    Ok(text
        .replace(&format!("`{title}."), "`")
        .replace(&format!("(keystores/{page}#"), "(#"))
}

/// The keys of older releases.
pub(super) fn older() -> String {
    let mut text = row(["Older key", "Until", "Now"]);
    text.push_str("|---|---|---|\n");
    for Older {
        path,
        until,
        now,
        note,
    } in OLDER
    {
        let now = match (now.is_empty(), note.is_empty()) {
            (true, _) => format!("nothing: {note}"),
            (false, true) => code(now),
            (false, false) => format!("{}: {note}", code(now)),
        };
        text.push_str(&row([&code(path), until, &now]));
    }
    text
}
