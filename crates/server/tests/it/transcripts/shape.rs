//! Placeholders: what the client takes from one answer and sends in a later request, and the shape of what may vary.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What has been captured so far.
#[derive(Debug, Default)]
pub(super) struct Captures(BTreeMap<String, String>);

/// `${name}`, `${name: kind}` or `${: kind}`.
struct Placeholder<'a> {
    name: &'a str,
    kind: Option<&'a str>,
}

impl<'a> Placeholder<'a> {
    /// The placeholder that all of `text` is, if it is one.
    fn whole(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix("${")?.strip_suffix('}')?;
        (!inner.contains('}')).then(|| Self::of(inner))
    }

    fn of(inner: &'a str) -> Self {
        match inner.split_once(':') {
            Some((name, kind)) => Self {
                name,
                kind: Some(kind.trim()),
            },
            None => Self {
                name: inner,
                kind: None,
            },
        }
    }
}

impl Captures {
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts in what the placeholders stand for.
    pub(super) fn fill(&self, text: &str) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (inner, after) = after.split_once('}').expect("a placeholder ends");
            filled.push_str(before);
            match inner.split_once(' ') {
                Some(("filler", size)) => {
                    filled.push_str(&"A".repeat(size.parse().expect("a size of filler")));
                }
                Some(("items", number)) => {
                    filled.push_str(&vec!["{}"; number.parse().expect("a number of items")].join(","));
                }
                _ => filled.push_str(
                    self.0
                        .get(inner)
                        .unwrap_or_else(|| panic!("nothing was captured as {inner}")),
                ),
            }
            rest = after;
        }
        filled + rest
    }

    /// Compares a JSON value with what it should be, and captures from it. `path` says where it is.
    pub(super) fn json(&mut self, expected: &Value, actual: &Value, path: &str) -> Result<(), String> {
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                let open = expected.contains_key("...");
                let mut unexpected: Vec<_> = actual.keys().cloned().collect();
                for (name, expected) in expected.iter().filter(|(name, _)| *name != "...") {
                    let name = self.fill(name);
                    let actual = actual
                        .get(&name)
                        .ok_or_else(|| format!("{path}.{name} is missing"))?;
                    self.json(expected, actual, &format!("{path}.{name}"))?;
                    unexpected.retain(|other| *other != name);
                }
                if open || unexpected.is_empty() {
                    return Ok(());
                }
                Err(format!("{path} has {unexpected:?} beyond what is expected"))
            }
            (Value::Array(expected), Value::Array(actual)) => {
                let expected: Vec<Value> = expected.iter().flat_map(repeat).collect();
                if expected.len() != actual.len() {
                    return Err(format!(
                        "{path} has {} elements instead of {}",
                        actual.len(),
                        expected.len()
                    ));
                }
                let mut pairs = expected.iter().zip(actual).enumerate();
                pairs.try_for_each(|(at, (expected, actual))| {
                    self.json(expected, actual, &format!("{path}[{at}]"))
                })
            }
            (Value::String(expected), actual) => self.string(expected, actual, path),
            (expected, actual) if expected == actual => Ok(()),
            (expected, actual) => Err(format!("{path} is {actual} instead of {expected}")),
        }
    }

    fn string(&mut self, expected: &str, actual: &Value, path: &str) -> Result<(), String> {
        match Placeholder::whole(expected) {
            Some(Placeholder {
                name,
                kind: Some(kind),
            }) => {
                let text = has_kind(kind, actual).ok_or_else(|| format!("{path} is {actual}, no {kind}"))?;
                self.set(name, text);
                Ok(())
            }
            Some(Placeholder { name, kind: None }) if !self.0.contains_key(name) && !name.contains(' ') => {
                let text = has_kind("text", actual).ok_or_else(|| format!("{path} is {actual}, no text"))?;
                self.set(name, text);
                Ok(())
            }
            _ => {
                let expected = self.fill(expected);
                if actual.as_str() == Some(&expected) {
                    return Ok(());
                }
                Err(format!("{path} is {actual} instead of {expected:?}"))
            }
        }
    }

    /// Compares a line of text that may end in a placeholder with a kind.
    pub(super) fn line(&self, expected: &str, actual: &str) -> bool {
        let typed = expected.rsplit_once("${:").and_then(|(before, kind)| {
            let kind = kind.strip_suffix('}')?.trim();
            Some((self.fill(before), kind))
        });
        match typed {
            None => self.fill(expected) == actual,
            Some((before, kind)) => actual.strip_prefix(&before).is_some_and(|rest| {
                let value = rest
                    .parse::<f64>()
                    .map_or_else(|_| Value::from(rest), Value::from);
                has_kind(kind, &value).is_some()
            }),
        }
    }
}

/// The elements that an expected one stands for: `"${keys 3..5}"` is `"key-00003","key-00004"`, also inside an object.
pub(super) fn repeat(expected: &Value) -> Vec<Value> {
    let text = expected.to_string();
    let Some((before, rest)) = text.split_once("${keys ") else {
        return vec![expected.clone()];
    };
    let (range, after) = rest.split_once('}').expect("a placeholder ends");
    let (from, to) = range.split_once("..").expect("a range of keys");
    let number = |text: &str| text.parse::<usize>().expect("a number of a key");
    (number(from)..number(to))
        .map(|key| serde_json::from_str(&format!("{before}{}{after}", key_name(key))).expect("still JSON"))
        .collect()
}

/// The name of a key that was there before the first request.
pub(super) fn key_name(number: usize) -> String {
    format!("key-{number:05}")
}

/// The text of a value if it is of this kind.
fn has_kind(kind: &str, value: &Value) -> Option<String> {
    if let Some(("mentions", part)) = kind.split_once(' ') {
        return value
            .as_str()
            .filter(|text| text.contains(part))
            .map(ToOwned::to_owned);
    }
    let (kind, size) = match kind.split_once(' ') {
        Some((kind, size)) => (kind, Some(size.parse::<usize>().expect("a size"))),
        None => (kind, None),
    };
    let fits = match (kind, value) {
        ("number", Value::Number(number)) => number.as_f64().is_some_and(|number| number >= 0.0),
        ("positive", Value::Number(number)) => number.as_f64().is_some_and(|number| number > 0.0),
        ("text", Value::String(text)) => !text.is_empty(),
        ("base64", Value::String(text)) => STANDARD
            .decode(text)
            .is_ok_and(|bytes| size.map_or(!bytes.is_empty(), |size| bytes.len() == size)),
        ("time", Value::String(text)) => {
            OffsetDateTime::parse(text, &Rfc3339).is_ok() && text.contains('.') && text.ends_with('Z')
        }
        ("array", Value::Array(elements)) => !elements.is_empty(),
        ("algorithm", Value::String(text)) => ["AES256", "ChaCha20"].contains(&text.as_str()),
        ("position", Value::String(text)) => {
            text.starts_with('~')
                && text.len() < 256
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        }
        ("number" | "positive" | "text" | "base64" | "time" | "array" | "algorithm" | "position", _) => false,
        _ => panic!("{kind} is no kind"),
    };
    fits.then(|| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}
