//! A configuration of any year, written anew in the current form, with comments on what changed.

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use zeroize::Zeroizing;

use crate::diagnostic::{Diagnostic, LoadError};
use crate::legacy;
use crate::load::{self, Environment, Tree};
use crate::reader::{Checked, Context, Section};
use crate::schema;
use crate::tree::{Entry, Kind, Node};

/// More than the current form of a file with some hundred policies takes.
const ROOM: usize = 1 << 18;

/// The order that documentation has them in.
const SECTIONS: [&str; 12] = [
    "version", "address", "admin", "tls", "api", "policy", "keys", "cache", "log", "health", "limits",
    "keystore",
];

/// A configuration in the current form.
pub struct Converted {
    /// Its text, in YAML. Zeroed, since it may have secrets in it.
    pub text: Zeroizing<String>,
    /// What is suspicious about the file that it was made from, besides the keys of older releases.
    pub warnings: Vec<Diagnostic>,
}

impl std::fmt::Debug for Converted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { text, warnings } = self;
        write!(f, "Converted({} bytes, {warnings:?})", text.len())
    }
}

/// Writes the configuration file `path` in the current form. See [`convert`].
///
/// # Errors
/// Why the file cannot be read or brought into the current form.
pub fn convert_file(path: &Path, environment: &Environment<'_>) -> Result<Converted, LoadError> {
    let text = load::read_or_report(path, environment)?;
    convert(&text, &path.to_string_lossy(), environment)
}

/// Writes the text of a configuration file called `name` in the current form. Values stay as they are, variables among them; whether
/// they are right is not checked. The comments of the file are not kept.
///
/// # Errors
/// Why the text cannot be brought into the current form: it is in no format, a key stands twice, an old and a new key
/// disagree, or it asks for what exists no more.
pub fn convert(text: &str, name: &str, environment: &Environment<'_>) -> Result<Converted, LoadError> {
    let cx = Context::new(name, environment).without_deprecations();
    let converted = load::tree(&cx, text, name).and_then(|tree| write_anew(&cx, &tree));
    let (text, warnings) = cx.finish(converted)?;
    Ok(Converted { text, warnings })
}

fn write_anew(cx: &Context<'_>, Tree { root, is_toml }: &Tree) -> Checked<Zeroizing<String>> {
    cx.check_duplicates(root);
    let lost = schema::report_lost_indentation(cx, &Section::root(cx, root)?);
    let mut modern = legacy::modernize(cx, root, lost);
    schema::check_removed(cx, &modern)?;
    if let Kind::Map(entries) = &mut modern.kind
        && let Some(policies) = entries.iter_mut().find(|entry| entry.key == "policy")
    {
        policies.value = Rc::new(schema::modern_policies(cx, &policies.value)?);
    }

    let mut writer = Writer::default();
    // Room for most files at once, so that growing leaves no copies of secrets behind.
    writer.text.reserve(ROOM);
    writer.comment(
        0,
        "Written by `kes config convert`. Check it by `kes server --check --config FILE`.",
    );
    if let Some(releases) = legacy::written_for(root, *is_toml) {
        writer.comment(
            0,
            &format!("The file that it was made from looks like one for {releases}."),
        );
    }
    if *is_toml {
        writer.comment(0, "That was TOML; this is YAML.");
    }
    if let Kind::Map(entries) = &mut modern.kind {
        let place = |entry: &Entry| {
            SECTIONS
                .iter()
                .position(|key| *key == entry.key)
                .unwrap_or(SECTIONS.len())
        };
        entries.sort_by_key(place);
        for entry in &*entries {
            writer.text.push('\n');
            writer.entry(entry, 0);
        }
    }
    Ok(writer.text)
}

/// Writes YAML.
#[derive(Default)]
struct Writer {
    text: Zeroizing<String>,
}

impl Writer {
    fn comment(&mut self, indent: usize, comment: &str) {
        self.indent(indent);
        // A note names keys, which may be any text.
        let comment = comment.replace(
            |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'),
            " ",
        );
        let _ = writeln!(self.text, "# {comment}");
    }

    fn indent(&mut self, indent: usize) {
        self.text.extend(std::iter::repeat_n(' ', indent));
    }

    fn entry(&mut self, entry: &Entry, indent: usize) {
        for note in &entry.notes {
            self.comment(indent, note);
        }
        self.indent(indent);
        self.scalar(&entry.key);
        self.text.push(':');
        self.value(&entry.value, indent);
    }

    /// What stands after the `:` of a key or the `-` of an item that is indented by `indent`.
    fn value(&mut self, node: &Node, indent: usize) {
        match &node.kind {
            Kind::Null => self.text.push('\n'),
            Kind::Scalar(text) => {
                self.text.push(' ');
                self.scalar(text);
                self.text.push('\n');
            }
            Kind::List(items) if items.is_empty() => self.text.push_str(" []\n"),
            Kind::Map(entries) if entries.is_empty() => self.text.push_str(" {}\n"),
            Kind::List(items) => {
                self.text.push('\n');
                for item in items {
                    self.indent(indent + 2);
                    self.text.push('-');
                    self.item(item, indent + 2);
                }
            }
            Kind::Map(entries) => {
                self.text.push('\n');
                for entry in entries {
                    self.entry(entry, indent + 2);
                }
            }
        }
    }

    /// An item of a list. The first key of a section stands beside the `-`.
    fn item(&mut self, node: &Node, indent: usize) {
        match &node.kind {
            Kind::Map(entries) => match entries.split_first() {
                Some((first, rest)) if first.notes.is_empty() => {
                    self.text.push(' ');
                    self.scalar(&first.key);
                    self.text.push(':');
                    self.value(&first.value, indent + 2);
                    for entry in rest {
                        self.entry(entry, indent + 2);
                    }
                }
                _ => self.value(node, indent),
            },
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => self.value(node, indent),
        }
    }

    fn scalar(&mut self, text: &str) {
        if is_plain(text) {
            self.text.push_str(text);
            return;
        }
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// Whether YAML reads `text` as itself without quotes, wherever it stands. Some texts for which that is so are not among these.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._$".contains(c))
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-./:*+=${}@".contains(&b))
        && !text.ends_with(':')
        && !text.starts_with("...")
        && !matches!(text, "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Position;
    use crate::yaml;

    const HERE: Position = Position { line: 1, column: 1 };

    fn node() -> impl Strategy<Value = Node> {
        let text = prop_oneof![
            any::<String>(),
            "[-a0:{}\\[\\]&*<!?|>'\"#%@`$~ .,=\n\t]{0,8}",
            Just("null".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Kind::Null),
            text.clone().prop_map(|text| Kind::Scalar(Zeroizing::new(text)))
        ]
        .prop_map(|kind| Node::new(HERE, kind));
        leaf.prop_recursive(4, 30, 4, move |inner| {
            let key = text.clone();
            prop_oneof![
                proptest::collection::vec(inner.clone().prop_map(Rc::new), 0..4).prop_map(Kind::List),
                proptest::collection::vec((key, inner), 0..4).prop_map(|entries| {
                    Kind::Map(
                        entries
                            .into_iter()
                            .map(|(key, value)| Entry {
                                notes: Vec::from_iter((key.len() % 2 == 0).then(|| key.as_str().into())),
                                ..Entry::new(key, HERE, Rc::new(value))
                            })
                            .collect(),
                    )
                }),
            ]
            .prop_map(|kind| Node::new(HERE, kind))
        })
    }

    fn same(a: &Node, b: &Node) -> bool {
        match (&a.kind, &b.kind) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Scalar(a), Kind::Scalar(b)) => a == b,
            (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Kind::Map(a), Kind::Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(value in node()) {
            let mut writer = Writer::default();
            let value = Rc::new(value);
            writer.entry(&Entry::new("key".to_owned(), HERE, Rc::clone(&value)), 0);
            let text = &*writer.text;
            let read = yaml::parse(text).map_err(|error| TestCaseError::fail(format!("{text:?}: {error:?}")))?;
            let root = read.unwrap().root;
            let Kind::Map(entries) = &root.kind else { panic!("{text:?}") };
            prop_assert!(entries.len() == 1 && same(&entries[0].value, &value), "{text:?}");
        }
    }
}
