//! Reads the tree of a file section by section: takes values out of it, replaces variables, converts, and remembers
//! what is wrong, so that everything wrong is told at once.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::diagnostic::{Diagnostic, LoadError};
use crate::duration;
use crate::load::Environment;
use crate::secret::SecretText;
use crate::tree::{Entry, Kind, Node, Position};

/// Proof that an error has been reported. Whoever holds one has no value and nothing more to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported(());

/// A value, or the proof that the reason for having none has been reported.
///
/// A reader asks for all its values first and unwraps them last, so that every error is found.
pub(crate) type Checked<T> = Result<T, Reported>;

/// What is being read and what has been found out.
pub(crate) struct Context<'e> {
    file: Arc<str>,
    environment: &'e Environment<'e>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    deprecated: RefCell<HashSet<String>>,
    /// Whether deprecated keys are warned of.
    warns_of_deprecated: bool,
    /// Whether the file is TOML, for messages that show how something is written.
    is_toml: Cell<bool>,
}

impl<'e> Context<'e> {
    pub(crate) fn new(file: &str, environment: &'e Environment<'e>) -> Self {
        Self {
            file: file.into(),
            environment,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            deprecated: RefCell::default(),
            warns_of_deprecated: true,
            is_toml: Cell::new(false),
        }
    }

    /// From now on, messages are about a file in TOML.
    pub(crate) fn is_toml(&self) {
        self.is_toml.set(true);
    }

    /// For who is told of older keys in another way.
    pub(crate) fn without_deprecations(self) -> Self {
        Self {
            warns_of_deprecated: false,
            ..self
        }
    }

    /// Reports an error. `at` is absent when something is missing that no line can be named for.
    pub(crate) fn error(&self, at: Option<Position>, key: &str, message: impl Into<String>) -> Reported {
        self.errors
            .borrow_mut()
            .push(self.diagnostic(at, key, message.into()));
        Reported(())
    }

    /// Reports an error in what the command line says.
    pub(crate) fn option_error(&self, option: &str, message: impl Into<String>) -> Reported {
        let diagnostic = Diagnostic {
            file: None,
            ..self.diagnostic(None, option, message.into())
        };
        self.errors.borrow_mut().push(diagnostic);
        Reported(())
    }

    pub(crate) fn warn(&self, at: Position, key: &str, message: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(self.diagnostic(Some(at), key, message.into()));
    }

    /// Warns of a key of an older release that is still read, once for all places that it stands in. `id` is the same for these.
    pub(crate) fn deprecated(&self, at: Position, key: &str, id: &str, message: String) {
        if self.warns_of_deprecated && self.deprecated.borrow_mut().insert(id.to_owned()) {
            self.warn(at, key, message);
        }
    }

    /// A place of the file, for whoever finds out later that something is wrong with what stands there.
    pub(crate) fn place(&self, at: Position, key: &str) -> String {
        format!("{}:{}: {key}", self.file, at.line)
    }

    fn diagnostic(&self, at: Option<Position>, key: &str, message: String) -> Diagnostic {
        Diagnostic {
            file: Some(Arc::clone(&self.file)),
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
            key: key.to_owned(),
            message,
        }
    }

    /// What came out of it all.
    pub(crate) fn finish<T>(self, read: Checked<T>) -> Result<(T, Vec<Diagnostic>), LoadError> {
        let sorted = |diagnostics: RefCell<Vec<Diagnostic>>| {
            let mut diagnostics = diagnostics.into_inner();
            diagnostics.sort_by_key(|d| (d.line.is_none(), d.line, d.column));
            // Two spellings of a key that are compared are read once more than others.
            diagnostics.dedup();
            diagnostics
        };
        let (errors, warnings) = (sorted(self.errors), sorted(self.warnings));
        match read {
            Ok(read) if errors.is_empty() => Ok((read, warnings)),
            _ => Err(LoadError { errors, warnings }),
        }
    }

    /// The text of a scalar, where nothing counts as empty.
    pub(crate) fn text(&self, node: &Node, key: &str) -> Checked<Text> {
        self.check_is_text(node, key)?;
        self.scalar(node, key)
    }

    /// The text of a scalar that need not be a text in the file: a switch or a number.
    fn scalar(&self, node: &Node, key: &str) -> Checked<Text> {
        let mut text = self.any_literal(node, key)?;
        let Some(name) = variable(&text.value) else {
            return Ok(text);
        };
        let name = name.to_owned();
        if !is_variable_name(&name) {
            let message = "what stands between `${` and `}` must be the name of one environment variable";
            return Err(self.error(Some(text.at), key, message));
        }
        let Some(value) = self.variable(&name) else {
            return Err(self.error(
                Some(text.at),
                key,
                format!("the environment variable {name} is not set"),
            ));
        };
        text.value = value;
        text.variable = Some(name);
        Ok(text)
    }

    /// What the environment variable `name` holds.
    pub(crate) fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        (self.environment)(name).map(Zeroizing::new)
    }

    /// The text of a scalar where variables have no meaning.
    pub(crate) fn literal(&self, node: &Node, key: &str) -> Checked<Text> {
        self.check_is_text(node, key)?;
        self.any_literal(node, key)
    }

    fn check_is_text(&self, node: &Node, key: &str) -> Checked<()> {
        match node.typed {
            Some(typed) => Err(self.error(
                Some(node.at),
                key,
                format!("must be a text in quotes, not {typed}"),
            )),
            None => Ok(()),
        }
    }

    fn any_literal(&self, node: &Node, key: &str) -> Checked<Text> {
        let value = match &node.kind {
            Kind::Null => Zeroizing::default(),
            Kind::Scalar(text) => text.clone(),
            Kind::List(_) | Kind::Map(_) => {
                let message = format!("must be a single value, not {}", kind_name(node));
                return Err(self.error(Some(node.at), key, message));
            }
        };
        Ok(Text {
            value,
            at: node.at,
            key: key.to_owned(),
            variable: None,
        })
    }

    /// Whether nothing is said in `node`: no text, or a variable that is set, but empty.
    pub(crate) fn is_blank(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Null => true,
            Kind::Scalar(text) => match variable(text) {
                Some(name) => self.variable(name).is_some_and(|value| value.is_empty()),
                None => text.is_empty(),
            },
            Kind::List(items) => items.iter().all(|item| self.is_blank(item)),
            Kind::Map(entries) => entries.iter().all(|entry| self.is_blank(&entry.value)),
        }
    }

    /// A text that must be there. `hint` says what it should be.
    pub(crate) fn demand(
        &self,
        text: Option<Text>,
        at: Option<Position>,
        key: &str,
        hint: &str,
    ) -> Checked<Text> {
        match text {
            Some(text) if !text.value.trim().is_empty() => Ok(text),
            Some(Text {
                at,
                variable: Some(name),
                ..
            }) => Err(self.error(
                Some(at),
                key,
                format!("the environment variable {name} is set, but empty"),
            )),
            Some(text) => Err(self.error(Some(text.at), key, format!("is empty: {hint}"))),
            None => Err(self.error(at, key, format!("is missing: {hint}"))),
        }
    }

    /// Reports keys that stand twice in a mapping. Policies are left to their own reader, which tells a duplicate from
    /// a policy that lost its indentation.
    pub(crate) fn check_duplicates(&self, root: &Node) {
        let mut reported = HashSet::new();
        self.check_duplicates_below(root, &mut Vec::new(), &mut reported);
    }

    fn check_duplicates_below<'a>(
        &self,
        node: &'a Node,
        path: &mut Vec<&'a str>,
        reported: &mut HashSet<Position>,
    ) {
        let entries = match &node.kind {
            Kind::Null | Kind::Scalar(_) => return,
            Kind::List(items) => {
                for item in items {
                    self.check_duplicates_below(item, path, reported);
                }
                return;
            }
            Kind::Map(entries) => entries,
        };
        let is_policy = matches!(path.as_slice(), ["policy", _]);
        let mut lines = std::collections::HashMap::new();
        for entry in entries {
            path.push(&entry.key);
            if let Some(first) = lines.insert(entry.key.as_str(), entry.at.line)
                && !is_policy
                && reported.insert(entry.at)
            {
                let key = path
                    .iter()
                    .map(|key| shown_key(key))
                    .collect::<Vec<_>>()
                    .join(".");
                self.duplicate(entry.at, &key, first);
            }
            self.check_duplicates_below(&entry.value, path, reported);
            path.pop();
        }
    }

    /// Reports that `key` stands at `at` and, before, in line `first`.
    pub(crate) fn duplicate(&self, at: Position, key: &str, first: usize) -> Reported {
        self.error(
            Some(at),
            key,
            format!("stands here and in line {first}: a key can stand only once in its section"),
        )
    }
}

/// A scalar, after variables have been replaced.
pub(crate) struct Text {
    value: Zeroizing<String>,
    pub(crate) at: Position,
    /// The path of its key.
    pub(crate) key: String,
    /// The variable that it is the value of.
    variable: Option<String>,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.value
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    pub(crate) fn into_secret(self) -> SecretText {
        SecretText::new(self.value)
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        PathBuf::from(self.as_str())
    }

    /// For names, addresses and the like, which are no secrets.
    pub(crate) fn to_public(&self) -> String {
        self.value.to_string()
    }

    /// Converts it by `parse`, whose error says what would be right.
    pub(crate) fn parse<T, E: std::fmt::Display>(
        &self,
        cx: &Context<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Checked<T> {
        parse(&self.value).map_err(|error| cx.error(Some(self.at), &self.key, error.to_string()))
    }
}

/// A mapping of which the entries are taken one by one. One that is absent has none.
pub(crate) struct Section<'a> {
    path: String,
    /// Where to report what is missing: where it stands, or else the section that it should stand in.
    at: Option<Position>,
    present: bool,
    fields: Vec<(&'a Entry, bool)>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(cx: &Context<'_>, node: &'a Node) -> Checked<Self> {
        Ok(Self {
            at: None,
            ..Self::new(cx, String::new(), node)?
        })
    }

    /// The section in `node`. If that is null, it is absent.
    pub(crate) fn new(cx: &Context<'_>, path: String, node: &'a Node) -> Checked<Self> {
        let entries: &[Entry] = match &node.kind {
            Kind::Null => &[],
            Kind::Map(entries) => entries,
            Kind::Scalar(_) | Kind::List(_) => {
                let lines = if cx.is_toml.get() {
                    "`key = value`"
                } else {
                    "`key: value`"
                };
                let message = format!("must be a section of {lines} lines, not {}", kind_name(node));
                return Err(cx.error(Some(node.at), &path, message));
            }
        };
        let present = !matches!(node.kind, Kind::Null);
        let fields = entries.iter().map(|entry| (entry, false)).collect();
        Ok(Self {
            path,
            at: Some(node.at),
            present,
            fields,
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) const fn at(&self) -> Option<Position> {
        self.at
    }

    pub(crate) const fn is_present(&self) -> bool {
        self.present
    }

    /// The path of a key of this section, as the file has it.
    pub(crate) fn path_of(&self, key: &str) -> String {
        let entry = self.fields.iter().find(|(entry, _)| entry.key == key);
        match entry {
            Some((Entry { old: Some(old), .. }, _)) => old.to_string(),
            _ => self.current_path_of(key),
        }
    }

    fn current_path_of(&self, key: &str) -> String {
        let key = shown_key(key);
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The entry of `key`, unless there is none or its value is null.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'a Entry> {
        #[cfg(test)]
        asked::note(self.current_path_of(key));
        let (entry, used) = self.fields.iter_mut().find(|(entry, _)| entry.key == key)?;
        *used = true;
        Some(*entry).filter(|entry| !matches!(entry.value.kind, Kind::Null))
    }

    /// All entries, for a section whose keys are names.
    pub(crate) fn take_all(&mut self) -> Vec<&'a Entry> {
        self.fields.drain(..).map(|(entry, _)| entry).collect()
    }

    /// All entries, without taking them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &'a Entry> {
        self.fields.iter().map(|(entry, _)| *entry)
    }

    /// A section in this one; absent when it says nothing at all.
    pub(crate) fn section(&mut self, cx: &Context<'_>, key: &str) -> Checked<Self> {
        let path = self.path_of(key);
        match self.take(key) {
            Some(entry) => Self::new(cx, path, &entry.value),
            None => Ok(Self {
                path,
                at: self.at,
                present: false,
                fields: Vec::new(),
            }),
        }
    }

    /// A section that samples list with empty values, which then mean that it is absent.
    pub(crate) fn optional_section(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Self>> {
        let section = self.section(cx, key)?;
        let blank = section.fields.iter().all(|(entry, _)| cx.is_blank(&entry.value));
        if blank { Ok(None) } else { Ok(Some(section)) }
    }

    /// The value of `key`, which may be empty.
    pub(crate) fn text(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Text>> {
        let path = self.path_of(key);
        self.take(key)
            .map(|entry| cx.text(&entry.value, &path))
            .transpose()
    }

    /// The value of `key`, which may also be a switch or a number.
    pub(crate) fn scalar(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Text>> {
        let path = self.path_of(key);
        self.take(key)
            .map(|entry| cx.scalar(&entry.value, &path))
            .transpose()
    }

    /// The value of `key`, for which variables have no meaning.
    pub(crate) fn literal(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Text>> {
        let path = self.path_of(key);
        self.take(key)
            .map(|entry| cx.literal(&entry.value, &path))
            .transpose()
    }

    /// The value of `key`, unless it is empty.
    pub(crate) fn filled(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Text>> {
        Ok(self.text(cx, key)?.filter(|text| !text.is_empty()))
    }

    /// The value of `key`, which must be there. `hint` says what it should be.
    pub(crate) fn required(&mut self, cx: &Context<'_>, key: &str, hint: &str) -> Checked<Text> {
        let text = self.text(cx, key)?;
        cx.demand(text, self.at, &self.path_of(key), hint)
    }

    /// The items of a list, each with the path to report it under.
    pub(crate) fn list(&mut self, cx: &Context<'_>, key: &str) -> Checked<&'a [Rc<Node>]> {
        let path = self.path_of(key);
        match self.take(key) {
            Some(entry) => list_items(cx, &entry.value, &path),
            None => Ok(&[]),
        }
    }

    /// A duration; `None` also for a variable that is empty.
    pub(crate) fn duration(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<Duration>> {
        self.value(cx, key, duration::parse)
    }

    /// A switch in any of its spellings.
    pub(crate) fn boolean(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<bool>> {
        self.value(cx, key, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err("must be `true` or `false`"),
        })
    }

    /// A number that is not zero.
    pub(crate) fn count(&mut self, cx: &Context<'_>, key: &str) -> Checked<Option<usize>> {
        self.value(cx, key, |text| match text.parse() {
            Ok(count @ 1..) => Ok(count),
            _ => Err("must be a whole number of at least 1"),
        })
    }

    /// A value that `parse` reads; an empty one only if it stands in the file itself.
    pub(crate) fn value<T, E: std::fmt::Display>(
        &mut self,
        cx: &Context<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Checked<Option<T>> {
        match self.scalar(cx, key)? {
            Some(text) if text.variable.is_none() || !text.is_empty() => text.parse(cx, parse).map(Some),
            _ => Ok(None),
        }
    }

    /// Warns about the entries that nobody took.
    pub(crate) fn finish(self, cx: &Context<'_>) {
        for (entry, _) in self.fields.iter().filter(|(_, used)| !used) {
            let path = match &entry.old {
                Some(old) => old.to_string(),
                None => self.current_path_of(&entry.key),
            };
            cx.warn(entry.at, &path, "is not a known key here and is ignored");
        }
    }
}

/// The items of a list.
pub(crate) fn list_items<'a>(cx: &Context<'_>, node: &'a Node, path: &str) -> Checked<&'a [Rc<Node>]> {
    match &node.kind {
        Kind::Null => Ok(&[]),
        Kind::List(items) => Ok(items),
        Kind::Scalar(_) | Kind::Map(_) => {
            let list = if cx.is_toml.get() {
                "list, such as `[\"one\", \"two\"]`"
            } else {
                "list of `- item` lines"
            };
            Err(cx.error(
                Some(node.at),
                path,
                format!("must be a {list}, not {}", kind_name(node)),
            ))
        }
    }
}

const fn kind_name(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Null => "nothing",
        Kind::Scalar(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a section",
    }
}

/// The name in `${name}`. A variable stands for a whole value and never for a part of one.
fn variable(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}').map(str::trim)
}

pub(crate) fn is_variable_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// As much of a key as looks like one. The rest may be a value: `{accesskey:hunter2}` is one key.
pub(crate) fn shown_key(key: &str) -> String {
    const SHOWN: usize = 80;
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-./*".contains(*c);
    let mut shown: String = key.chars().take_while(plain).take(SHOWN).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    shown
}

/// The keys that readers ask for, whether a file has them or not.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static KEYS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn note(key: String) {
        KEYS.with_borrow_mut(|keys| keys.insert(key));
    }

    /// Those that this thread has asked for so far.
    pub(crate) fn keys() -> BTreeSet<String> {
        KEYS.with_borrow(Clone::clone)
    }
}
