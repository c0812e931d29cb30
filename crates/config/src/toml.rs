//! TOML text to the tree that YAML is read into. The only module that knows the TOML parser.
//!
//! Releases up to v0.7.2 read TOML. Its values have types: what is no text remembers that, and is refused where a text is
//! wanted.

use std::ops::Range;
use std::rc::Rc;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue, Error};
use zeroize::Zeroizing;

use crate::tree::{Entry, Kind, MAX_DEPTH, Node, Position, SyntaxError, TOO_DEEP};

/// Reads `text`; `None` when there is nothing but comments in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| syntax_error(&error, text, &lines))?;
    if table.get_ref().is_empty() {
        return Ok(None);
    }
    let root = Builder { lines: &lines }.table(table.into_inner(), Position { line: 1, column: 1 }, 1)?;
    Ok(Some(root))
}

fn syntax_error(error: &Error, text: &str, lines: &Lines<'_>) -> SyntaxError {
    let span = error.span();
    let at = span.as_ref().map(|span| lines.position(span.start));
    let message = error.message();
    let message = if message == "duplicate key" {
        // As much of the name as cannot be a value.
        let key = span.and_then(|span| text.get(span)).unwrap_or_default();
        let key = crate::reader::shown_key(key.trim_matches(['"', '\'']));
        format!("is not valid TOML: `{key}` stands here a second time")
    } else {
        // Its texts are constants, unlike what it displays, which has the whole line.
        format!("is not valid TOML: {message}")
    };
    SyntaxError { at, message }
}

struct Builder<'t> {
    lines: &'t Lines<'t>,
}

impl Builder<'_> {
    fn table(&self, table: DeTable<'_>, at: Position, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let at = self.position(key.span());
            let value = Rc::new(self.value(value, at, depth + 1)?);
            entries.push(Entry::new(key.into_inner().into_owned(), at, value));
        }
        // The parser sorts them by name.
        entries.sort_by_key(|entry| entry.at);
        Ok(Node::new(at, Kind::Map(entries)))
    }

    /// `key_at` is where its key stands.
    fn value(
        &self,
        value: Spanned<DeValue<'_>>,
        key_at: Position,
        depth: usize,
    ) -> Result<Node, SyntaxError> {
        let span = value.span();
        let at = if span.is_empty() {
            key_at
        } else {
            self.position(span)
        };
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(at, TOO_DEEP));
        }
        let scalar = |text: String, typed| Node {
            typed,
            ..Node::new(at, Kind::Scalar(Zeroizing::new(text)))
        };
        Ok(match value.into_inner() {
            DeValue::String(text) => scalar(text.into_owned(), None),
            DeValue::Boolean(value) => scalar(value.to_string(), Some("a boolean")),
            DeValue::Integer(number) => {
                let decimal = i64::from_str_radix(number.as_str(), number.radix());
                let text = decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string());
                scalar(text, Some("a number"))
            }
            DeValue::Float(number) => scalar(number.to_string(), Some("a number")),
            DeValue::Datetime(time) => scalar(time.to_string(), Some("a time")),
            DeValue::Array(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for item in items {
                    nodes.push(Rc::new(self.value(item, at, depth + 1)?));
                }
                Node::new(at, Kind::List(nodes))
            }
            DeValue::Table(table) => self.table(table, at, depth)?,
        })
    }

    fn position(&self, span: Range<usize>) -> Position {
        self.lines.position(span.start)
    }
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        // Characters of what a person may have written, and bytes of what takes too long to count.
        let before = self.text.get(start..offset).unwrap_or_default();
        let column = if before.len() < 4096 {
            before.chars().count()
        } else {
            before.len()
        };
        Position {
            line: line.max(1),
            column: column + 1,
        }
    }
}

#[cfg(test)]
#[path = "toml/tests.rs"]
mod tests;
