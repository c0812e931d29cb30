//! YAML text to a tree that still has what a configuration needs and a map does not: the order of entries, duplicate
//! keys, positions, and scalars as they are written (`0123` stays `0123`). The only module that knows the YAML parser.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use zeroize::Zeroizing;

use crate::tree::{Entry, Kind, MAX_DEPTH, Node, Position, SyntaxError, TOO_DEEP};

/// How many nodes aliases and merges may add to a tree. Aliases of aliases multiply, so a short text could be endless.
const MAX_ALIASED_NODES: usize = 100_000;

impl From<Span> for Position {
    fn from(span: Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

/// The first document of a text.
pub(crate) struct Document {
    pub(crate) root: Rc<Node>,
    /// Where a second document begins, which nobody reads.
    pub(crate) second: Option<Position>,
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        let at = Position {
            line: error.marker().line(),
            column: error.marker().col() + 1,
        };
        let reason = match error.kind() {
            // Its own text shows the character, which may be one of a secret.
            ErrorKind::UnexpectedCharacter { .. } => {
                "a character that cannot stand here; put the text in quotes".to_owned()
            }
            ErrorKind::TabInIndentation
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabInPlainScalar => "a tab, where only blanks may indent".to_owned(),
            ErrorKind::RecursionLimitExceeded => TOO_DEEP.to_owned(),
            // Those with texts from elsewhere, which this input never makes.
            ErrorKind::Custom(_) | ErrorKind::InputIo { .. } | ErrorKind::InputDecoding { .. } => {
                "unreadable".to_owned()
            }
            kind => kind.to_string(),
        };
        Self::new(at, format!("is not valid YAML: {reason}"))
    }
}

/// Reads the first document of `text`; `None` when there is none but comments.
pub(crate) fn parse(text: &str) -> Result<Option<Document>, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let mut events = Parser::new_from_str_with_options(text, options);
    for event in &mut events {
        let (event, span) = event?;
        let at = Position::from(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                builder.scalar(text.into_owned(), style, anchor, tag.as_deref(), at)?
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Collection::List(Vec::new()), anchor, at)?,
            Event::MappingStart(_, anchor, _) => {
                builder.open(Collection::Map(MapBuilder::default()), anchor, at)?
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => builder.alias(anchor, at)?,
            Event::DocumentEnd => break,
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) => {}
            // Events that must be asked for, and those of parsers to come.
            _ => return Err(SyntaxError::new(at, "is not YAML that can be used here")),
        }
    }
    let Some(root) = builder.root else { return Ok(None) };
    let second = match events.next() {
        Some(Ok((Event::DocumentStart(..), span))) => Some(span.into()),
        Some(Err(error)) => return Err(error.into()),
        _ => None,
    };
    Ok(Some(Document { root, second }))
}

#[derive(Default)]
struct Builder {
    root: Option<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    aliased: usize,
}

/// A collection whose end has not come.
struct Open {
    at: Position,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Rc<Node>>),
    Map(MapBuilder),
}

#[derive(Default)]
struct MapBuilder {
    entries: Vec<Slot>,
    /// A key whose value has not come.
    key: Option<(Key, Position)>,
}

enum Key {
    Text(String),
    /// `<<`
    Merge,
}

enum Slot {
    Entry(Entry),
    Merge(Position, Rc<Node>),
}

impl Builder {
    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Result<(), SyntaxError> {
        let text = Zeroizing::new(text);
        let tag = tag
            .and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"))
            .map(Cow::into_owned);
        let tag = tag.as_deref();
        if tag == Some("binary") {
            return Err(SyntaxError::new(
                at,
                "the tag !!binary is not supported: write the text itself",
            ));
        }
        let plain = style == ScalarStyle::Plain && tag.is_none();
        if plain
            && *text == "<<"
            && let Some(Open {
                collection: Collection::Map(map @ MapBuilder { key: None, .. }),
                ..
            }) = self.open.last_mut()
        {
            map.key = Some((Key::Merge, at));
            return Ok(());
        }
        let null =
            tag == Some("null") || plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        if null && !self.expects_key() {
            return self.add(Kind::Null, anchor, at);
        }
        self.add(Kind::Scalar(text), anchor, at)
    }

    fn open(&mut self, collection: Collection, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(SyntaxError::new(at, TOO_DEEP));
        }
        self.open.push(Open {
            at,
            anchor,
            collection,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        // The parser's events are balanced.
        let Some(Open {
            at,
            anchor,
            collection,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let kind = match collection {
            Collection::List(items) => Kind::List(items),
            Collection::Map(map) => Kind::Map(self.merged(map.entries)?),
        };
        self.add(kind, anchor, at)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(SyntaxError::new(at, "an alias inside of what it stands for"));
        };
        self.spend(node.size, at)?;
        self.place(node, at)
    }

    /// Counts nodes that a text has without containing them.
    fn spend(&mut self, nodes: usize, at: Position) -> Result<(), SyntaxError> {
        self.aliased = self.aliased.saturating_add(nodes);
        if self.aliased > MAX_ALIASED_NODES {
            return Err(SyntaxError::new(
                at,
                "aliases stand for more than a configuration can have",
            ));
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                collection: Collection::Map(MapBuilder { key: None, .. }),
                ..
            })
        )
    }

    fn add(&mut self, kind: Kind, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        let node = Rc::new(Node::new(at, kind));
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, at)
    }

    /// Puts a finished node where the text has it. `at` is where it is mentioned.
    fn place(&mut self, node: Rc<Node>, at: Position) -> Result<(), SyntaxError> {
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(SyntaxError::new(at, TOO_DEEP));
        }
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.root = Some(node),
            Some(Collection::List(items)) => items.push(node),
            Some(Collection::Map(map)) => match map.key.take() {
                Some((Key::Text(key), at)) => map.entries.push(Slot::Entry(Entry::new(key, at, node))),
                Some((Key::Merge, at)) => map.entries.push(Slot::Merge(at, node)),
                None => match &node.kind {
                    Kind::Scalar(text) => map.key = Some((Key::Text(text.to_string()), at)),
                    Kind::Null => map.key = Some((Key::Text("null".to_owned()), at)),
                    Kind::List(_) | Kind::Map(_) => {
                        return Err(SyntaxError::new(at, "a list or mapping cannot be a key"));
                    }
                },
            },
        }
        Ok(())
    }

    /// Replaces `<<` by the entries of what it refers to, except those that the mapping has itself.
    fn merged(&mut self, slots: Vec<Slot>) -> Result<Vec<Entry>, SyntaxError> {
        let mut own: HashSet<String> = HashSet::new();
        if slots.iter().any(|slot| matches!(slot, Slot::Merge(..))) {
            own.extend(slots.iter().filter_map(|slot| match slot {
                Slot::Entry(entry) => Some(entry.key.clone()),
                Slot::Merge(..) => None,
            }));
        }
        let mut entries = Vec::with_capacity(slots.len());
        let mut merges = 0;
        for slot in slots {
            let (at, source) = match slot {
                Slot::Entry(entry) => {
                    entries.push(entry);
                    continue;
                }
                Slot::Merge(at, source) => (at, source),
            };
            merges += 1;
            if merges > 1 {
                return Err(SyntaxError::new(
                    at,
                    "a second `<<` in one mapping: give the first one a list",
                ));
            }
            let sources = match &source.kind {
                Kind::List(items) => items.as_slice(),
                Kind::Null | Kind::Scalar(_) | Kind::Map(_) => std::slice::from_ref(&source),
            };
            for source in sources {
                let Kind::Map(merged) = &source.kind else {
                    return Err(SyntaxError::new(
                        at,
                        "`<<` must be given a mapping or a list of mappings",
                    ));
                };
                self.spend(source.size, at)?;
                entries.extend(
                    merged
                        .iter()
                        .filter(|entry| own.insert(entry.key.clone()))
                        .cloned(),
                );
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
#[path = "yaml/tests.rs"]
mod tests;
