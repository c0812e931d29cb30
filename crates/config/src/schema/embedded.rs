//! The section `keystore.embedded`.

use std::collections::HashMap;
use std::time::Duration;

use crate::duration;
use crate::keystore::{Embedded, KeyStoreSettings, SealSettings};
use crate::reader::{Checked, Context, Section, is_variable_name};
use crate::secret::SecretText;
use crate::tree::{Kind, Node, Position};

/// Said of a seal that is missing.
const SEAL: &str =
    "set it to `file: FILE` or `env: NAME`, where a key of 32 bytes in base64 is, or to a list of these";

pub(crate) fn read(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let path = section.required(cx, "path", "set it to the file that keys are kept in");
    let seals = seals(cx, section);
    let undelete = section.value(cx, "undelete", period);
    Ok(KeyStoreSettings::Embedded(Embedded {
        path: path?.to_path(),
        seals: seals?,
        undelete: undelete?.unwrap_or(Embedded::UNDELETE),
    }))
}

/// How long deleted keys are kept, which is counted in seconds. Less than one would be none.
fn period(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(period) if !period.is_zero() && period < Duration::from_secs(1) => {
            Err("must be at least a second, or 0 so that a deleted key is gone at once".to_owned())
        }
        period => period.map_err(|error| error.to_string()),
    }
}

/// One seal, or a list of them.
fn seals(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<Vec<SealSettings>> {
    let key = section.path_of("seal");
    let Some(entry) = section.take("seal") else {
        return Err(cx.error(section.at(), &key, format!("is missing: {SEAL}")));
    };
    let items = match &entry.value.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Null | Kind::Scalar(_) | Kind::Map(_) => std::slice::from_ref(&entry.value),
    };
    if items.is_empty() {
        return Err(cx.error(Some(entry.value.at), &key, format!("is empty: {SEAL}")));
    }
    let seals: Vec<_> = items
        .iter()
        .map(|item| Ok((seal(cx, &key, item)?, item.at)))
        .collect();
    let seals = seals.into_iter().collect::<Checked<Vec<_>>>()?;
    check_places(cx, &key, &seals)?;
    Ok(seals.into_iter().map(|(seal, _)| seal).collect())
}

fn seal(cx: &Context<'_>, key: &str, node: &Node) -> Checked<SealSettings> {
    let mut section = match &node.kind {
        Kind::Null => return Err(cx.error(Some(node.at), key, format!("is empty: {SEAL}"))),
        // A name alone could be either, and a key has no business here.
        Kind::Scalar(_) => {
            let message = format!("must be a section, not a single value: {SEAL}");
            return Err(cx.error(Some(node.at), key, message));
        }
        Kind::List(_) | Kind::Map(_) => Section::new(cx, key.to_owned(), node)?,
    };
    let file = section.text(cx, "file");
    let variable = section.literal(cx, "env");
    let (file_key, variable_key) = (section.path_of("file"), section.path_of("env"));
    section.finish(cx);

    // One that is left empty beside the other says nothing.
    let (file, variable) = match (file?, variable?) {
        (Some(file), Some(variable)) if file.is_empty() => (None, Some(variable)),
        (Some(file), Some(variable)) if variable.is_empty() => (Some(file), None),
        given => given,
    };
    match (file, variable) {
        (Some(file), None) => {
            let file = cx.demand(
                Some(file),
                None,
                &file_key,
                "set it to the file with the seal's key",
            )?;
            file.parse(cx, refuse_key)?;
            Ok(SealSettings::File(file.to_path()))
        }
        (None, Some(variable)) => {
            let name = cx.demand(
                Some(variable),
                None,
                &variable_key,
                "set it to the name of the environment variable with the seal's key",
            )?;
            let value = name.parse(cx, |name| value_of(cx, name.trim()))?;
            Ok(SealSettings::Variable {
                name: name.as_str().trim().to_owned(),
                value,
            })
        }
        (Some(_), Some(variable)) => {
            let message = "stands beside `file`, and a seal is one of the two: of several seals make a list";
            Err(cx.error(Some(variable.at), &variable_key, message))
        }
        (None, None) => Err(cx.error(
            Some(node.at),
            key,
            format!("has neither `file` nor `env`: {SEAL}"),
        )),
    }
}

/// Refuses the text of a key, which somebody has put in the place of the file's name: whoever cannot read a file says its
/// name.
fn refuse_key(file: &str) -> Result<(), &'static str> {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    match file.trim().strip_suffix('=') {
        Some(text) if text.len() == 43 && text.bytes().all(is_base64) => {
            Err("must be the name of a file, and never the key itself")
        }
        Some(_) | None => Ok(()),
    }
}

/// What the environment variable `name` holds. No message has the name in it: somebody may have put the key in its place.
fn value_of(cx: &Context<'_>, name: &str) -> Result<SecretText, &'static str> {
    if !is_variable_name(name) {
        return Err("must be the name of an environment variable, and never the key itself");
    }
    match cx.variable(name) {
        Some(value) if value.trim().is_empty() => {
            Err("the environment variable of this name is set, but empty")
        }
        Some(value) => Ok(SecretText::new(value)),
        None => Err("the environment variable of this name is not set"),
    }
}

/// Reports a place that is listed twice: somebody meant another one.
fn check_places(cx: &Context<'_>, key: &str, seals: &[(SealSettings, Position)]) -> Checked<()> {
    let mut lines = HashMap::new();
    for (seal, at) in seals {
        let place = match seal {
            SealSettings::File(file) => (true, file.as_os_str()),
            SealSettings::Variable { name, value: _ } => (false, name.as_ref()),
        };
        if let Some(first) = lines.insert(place, at.line) {
            return Err(cx.error(
                Some(*at),
                key,
                format!("this seal stands in line {first} already"),
            ));
        }
    }
    Ok(())
}
