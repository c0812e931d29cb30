//! What a configuration file is before anybody asks what it means: a tree that still has what a map loses, the order of entries,
//! duplicate keys, positions, and scalars as they are written. The same for every format.

use std::rc::Rc;

use zeroize::Zeroizing;

/// How deep collections nest. A configuration needs six levels; recursion over the tree relies on the bound.
pub(crate) const MAX_DEPTH: usize = 64;

pub(crate) const TOO_DEEP: &str = "lists and mappings are nested too deeply";

/// Why a text is not what its format asks for. Does not quote the text.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: Option<Position>,
    pub(crate) message: String,
}

impl SyntaxError {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            message: message.into(),
        }
    }
}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Counted from 1.
    pub(crate) column: usize,
}

/// A value and where it stands. Aliases share their node, so a place may be that of an anchor.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
    /// What a scalar is that is no text, such as `a number`, in a format that tells them apart.
    pub(crate) typed: Option<&'static str>,
    /// Nodes in this tree, itself included, as often as they occur.
    pub(crate) size: usize,
    /// Levels of this tree.
    pub(crate) depth: usize,
}

impl Node {
    pub(crate) fn new(at: Position, kind: Kind) -> Self {
        let children: &mut dyn Iterator<Item = &Rc<Self>> = match &kind {
            Kind::Null | Kind::Scalar(_) => &mut std::iter::empty(),
            Kind::List(items) => &mut items.iter(),
            Kind::Map(entries) => &mut entries.iter().map(|entry| &entry.value),
        };
        let (size, depth) = children.fold((1usize, 0), |(size, depth), child| {
            (size.saturating_add(child.size), depth.max(child.depth))
        });
        Self {
            at,
            kind,
            typed: None,
            size,
            depth: depth + 1,
        }
    }
}

/// What a value is.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// The text of the scalar, without quotes and escapes. Zeroed, since it may be a secret.
    Scalar(Zeroizing<String>),
    /// `- item`, or `[item]`.
    List(Vec<Rc<Node>>),
    /// `key: value`, in the order of the text, duplicates included.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) at: Position,
    pub(crate) value: Rc<Node>,
    /// The path that the file has it under, if that is one of an older release.
    pub(crate) old: Option<Rc<str>>,
    /// What to say of it in a file of the current form.
    pub(crate) notes: Vec<Rc<str>>,
}

impl Entry {
    pub(crate) const fn new(key: String, at: Position, value: Rc<Node>) -> Self {
        Self {
            key,
            at,
            value,
            old: None,
            notes: Vec::new(),
        }
    }
}
