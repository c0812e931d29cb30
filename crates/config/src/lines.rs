//! Where in a configuration file something stands, for whoever has something to say about a file that is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::legacy;
use crate::load::{self, Environment, read_or_report};
use crate::reader::{Context, shown_key};
use crate::schema;
use crate::tree::{Kind, Node};

/// The lines of a configuration file, by the current path of what stands there: `tls.cert`, or `policy.my-app.allow[0]` for
/// the first item of a list. What an older release had elsewhere is found under its current path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The lines of the file `path`. Of a file that cannot be read there are none.
    #[must_use]
    pub fn of_file(path: &Path, environment: &Environment<'_>) -> Self {
        let name = path.to_string_lossy();
        read_or_report(path, environment).map_or_else(
            |_| Self::default(),
            |text| Self::of_text(&text, &name, environment),
        )
    }

    /// The lines of the text of a configuration file called `name`, whose ending says what the format is.
    #[must_use]
    pub fn of_text(text: &str, name: &str, environment: &Environment<'_>) -> Self {
        let cx = Context::new(name, environment);
        let mut lines = Self::default();
        let Ok(tree) = load::tree(&cx, text, name) else {
            return lines;
        };
        let mut root = legacy::modernize(&cx, &tree.root, false);
        if let Kind::Map(entries) = &mut root.kind
            && let Some(policies) = entries.iter_mut().find(|entry| entry.key == "policy")
            && let Ok(modern) = schema::modern_policies(&cx, &policies.value)
        {
            policies.value = Rc::new(modern);
        }
        lines.read("", &root);
        lines
    }

    /// The line of a path, counted from 1; where it stands nowhere, that of what it would stand in.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }

    fn read(&mut self, path: &str, node: &Node) {
        match &node.kind {
            Kind::Null | Kind::Scalar(_) => {}
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.read(&path, item);
                    self.0.insert(path, item.at.line);
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    let key = shown_key(&entry.key);
                    let path = if path.is_empty() {
                        key
                    } else {
                        format!("{path}.{key}")
                    };
                    self.read(&path, &entry.value);
                    self.0.entry(path).or_insert(entry.at.line);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, path: &str) -> Option<usize> {
        Lines::of_text(text, "kes.yml", &|_| None).of(path)
    }

    #[test]
    fn keys_and_items_are_found_by_their_line() {
        let text = "\
tls:
  key: a
policy:
  my-app:
    allow:
      - /v1/status
      - /v1/key/*
    deny: [/a, /b]
keystore: {fs: {path: /keys}}
";
        for (path, expected) in [
            ("tls", 1),
            ("tls.key", 2),
            ("tls.cert", 1),
            ("policy.my-app.allow[1]", 7),
            ("policy.my-app.deny[1]", 8),
            ("policy.my-app.identities[0]", 4),
            ("keystore.fs.path", 9),
        ] {
            assert_eq!(line(text, path), Some(expected), "{path}");
        }
        assert_eq!(line(text, "address"), None);
    }

    #[test]
    fn what_stood_elsewhere_is_found_under_its_current_path() {
        let text = "\
root: disabled
policy:
  one:
    paths: [/v1/status]
    identities: []

    two:
    paths:
      - /v1/ready
    identities: []
";
        for (path, expected) in [
            ("admin.identity", 1),
            ("policy.one.allow[0]", 4),
            ("policy.two", 7),
            ("policy.two.allow[0]", 9),
        ] {
            assert_eq!(line(text, path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_text_that_is_no_configuration_has_no_lines() {
        for text in ["", "just words", "tls: {", "- a"] {
            assert_eq!(line(text, "tls"), None, "{text}");
        }
    }
}
