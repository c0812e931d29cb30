//! Brings what older releases called otherwise to its current place, before anything is checked: there is one schema, whatever
//! the year of the file.
//!
//! Each key remembers the path that the file has it under, which is the one that messages name. `policy.*.paths` is not here: its
//! list joins that of `allow`, which the reader of policies does.

use std::rc::Rc;

use kes_types::Identity;
use zeroize::Zeroizing;

use crate::duration;
use crate::reader::{Context, Reported, Section, Text};
use crate::tree::{Entry, Kind, Node, Position};

/// A key or a section that has another place now.
pub(crate) struct Move {
    pub(crate) from: &'static [&'static str],
    pub(crate) to: &'static [&'static str],
    /// Why, or since when.
    since: &'static str,
}

impl Move {
    fn apply(&self, cx: &Context<'_>, root: &mut Node) {
        if let Some(moved) = take(root, self.from) {
            let current = self.to.join(".");
            deprecated(cx, &moved, &current, self.since);
            let note = moved_note(&moved, self.since);
            put(cx, root, self.to, moved, Some(note));
        }
    }
}

const V0_4_1: &str = "since v0.4.1";
const V0_8: &str = "since v0.8.0";

/// In this order: what a move brings below `keystore` is found there by the later ones.
pub(crate) const MOVES: [Move; 13] = [
    Move {
        from: &["fs"],
        to: &["keystore", "fs"],
        since: V0_4_1,
    },
    Move {
        from: &["vault"],
        to: &["keystore", "vault"],
        since: V0_4_1,
    },
    Move {
        from: &["keystore", "vault", "address"],
        to: &["keystore", "vault", "endpoint"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "vault", "name"],
        to: &["keystore", "vault", "prefix"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "aws", "secrets_manager"],
        to: &["keystore", "aws", "secretsmanager"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "aws", "secretsmanager", "address"],
        to: &["keystore", "aws", "secretsmanager", "endpoint"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "aws", "secretsmanager", "kms_key_id"],
        to: &["keystore", "aws", "secretsmanager", "kmskey"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "aws", "secretsmanager", "credentials", "access_key"],
        to: &["keystore", "aws", "secretsmanager", "credentials", "accesskey"],
        since: V0_8,
    },
    Move {
        from: &["keystore", "aws", "secretsmanager", "credentials", "secret_key"],
        to: &["keystore", "aws", "secretsmanager", "credentials", "secretkey"],
        since: V0_8,
    },
    Move {
        from: &[
            "keystore",
            "aws",
            "secretsmanager",
            "credentials",
            "session_token",
        ],
        to: &["keystore", "aws", "secretsmanager", "credentials", "token"],
        since: V0_8,
    },
    // A sample of v0.11.0 has it there.
    Move {
        from: &["keystore", "aws", "gemalto"],
        to: &["keystore", "gemalto"],
        since: "",
    },
    Move {
        from: &["root"],
        to: &["admin", "identity"],
        since: "since v0.17.3",
    },
    Move {
        from: &["cache", "expiry", "all"],
        to: &["cache", "expiry", "any"],
        since: V0_8,
    },
];

/// What is in many samples and has had no effect since 2023.
pub(crate) const RETRIES: [&[&str]; 3] = [
    &["keystore", "vault", "approle", "retry"],
    &["keystore", "vault", "kubernetes", "retry"],
    &["keystore", "gemalto", "keysecure", "credentials", "retry"],
];

/// Key stores that exist no more, and the last release that had them.
pub(crate) const REMOVED: [(&str, &str); 2] = [("kes", "2023-10-03"), ("generic", "2023-10-03")];

/// Said of `policy.*.paths`.
pub(crate) const PATHS: (&str, &str) = ("policy.*.paths", "since v0.15.0");

/// Said of `log.error` and `log.audit` when they are sections of something else than the files of that time.
pub(crate) const LOG_FILES: &str = "must be a level such as `on` or `off`";

/// Said of `keys` when it is neither a list nor, as it was once, the section of the key store.
pub(crate) const KEYS_SECTION: &str = "must be a list of `- name: KEY` lines";

/// The tree `root` in the current form. What cannot be brought into it is reported. When it `lost` its indentation, only what stands
/// at its top anyway is.
pub(crate) fn modernize(cx: &Context<'_>, root: &Node, lost: bool) -> Node {
    let mut root = root.clone();
    if lost {
        MOVES
            .iter()
            .filter(|step| step.from == ["root"])
            .for_each(|step| step.apply(cx, &mut root));
        return root;
    }
    keys(cx, &mut root);
    secretsmanager(cx, &mut root);
    for step in &MOVES {
        step.apply(cx, &mut root);
    }
    for path in RETRIES {
        if let Some(retry) = take(&mut root, path)
            && let Some((_, section)) = path.split_last()
            // Samples list the sections of every login, empty but for this.
            && !find(&root, section).is_none_or(|section| cx.is_blank(section))
        {
            let message = "is deprecated: it has no effect; remove it".to_owned();
            cx.deprecated(retry.at(), &retry.old, "retry", message);
            note(&mut root, path, "`retry` has no effect any more and is left out");
        }
    }
    kms(cx, &mut root);
    log(cx, &mut root);
    for (removed, _) in REMOVED {
        let path = ["keystore", removed];
        // Samples list these empty, too.
        take_if(&mut root, &path, |entry| !is_used(cx, &entry.value));
    }
    root
}

/// Which releases a file was written for, as far as its keys tell. For a person to read, never to decide by.
pub(crate) fn written_for(root: &Node, is_toml: bool) -> Option<&'static str> {
    let has = |path: &[&str]| find(root, path).is_some();
    let is_map = |path: &[&str]| find(root, path).is_some_and(|node| matches!(node.kind, Kind::Map(_)));
    let policies = |key: &str| {
        find(root, &["policy"]).is_some_and(|node| match &node.kind {
            Kind::Map(policies) => policies
                .iter()
                .any(|policy| find(&policy.value, &[key]).is_some()),
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => false,
        })
    };
    if has(&["admin"]) {
        None
    } else if is_toml {
        Some("v0.1.0 to v0.7.2")
    } else if has(&["fs"]) || has(&["vault"]) {
        Some("v0.3.0 to v0.4.0")
    } else if has(&["keystore", "vault", "address"])
        || has(&["keystore", "vault", "name"])
        || has(&["keystore", "aws", "secrets_manager"])
        || has(&["cache", "expiry", "all"])
        || is_map(&["log", "error"])
        || is_map(&["log", "audit"])
        || has(&["kms"])
    {
        Some("v0.4.1 to v0.7.2")
    } else if is_map(&["keys"]) {
        Some("v0.8.0 to v0.13.5")
    } else if has(&["root"]) && policies("paths") {
        Some("v0.13.6 to v0.14.0")
    } else if has(&["root"]) {
        Some("v0.15.0 to v0.17.2, or documentation of later ones")
    } else {
        None
    }
}

/// Reports a key store that exists no more, if `section` asks for it.
pub(crate) fn check_removed(cx: &Context<'_>, section: &Section<'_>, last_release: &str) -> Option<Reported> {
    let entry = section.entries().next()?;
    let message =
        format!("this key store was removed after the release of {last_release}: choose another one");
    Some(cx.error(section.at().or(Some(entry.at)), section.path(), message))
}

/// Whether a section of a key store that is no more asks for it. Samples list it with an empty address.
fn is_used(cx: &Context<'_>, node: &Node) -> bool {
    let mut addresses = Vec::new();
    collect(node, &["address", "endpoint"], &mut addresses);
    if addresses.is_empty() {
        !cx.is_blank(node)
    } else {
        addresses.into_iter().any(|node| !cx.is_blank(node))
    }
}

/// The values of all `keys` below `node`.
fn collect<'n>(node: &'n Node, keys: &[&str], found: &mut Vec<&'n Node>) {
    let Kind::Map(entries) = &node.kind else { return };
    for entry in entries {
        if keys.contains(&entry.key.as_str()) {
            found.push(&entry.value);
        } else {
            collect(&entry.value, keys, found);
        }
    }
}

/// `keys` was the section of the key store in v0.8.0 to v0.13.5.
fn keys(cx: &Context<'_>, root: &mut Node) {
    const SINCE: &str = "since v0.13.6";
    let Some(keys) = take_if(root, &["keys"], |entry| matches!(entry.value.kind, Kind::Map(_))) else {
        return;
    };
    if let Some(keystore) = find_entry(root, &["keystore"])
        && !matches!(keystore.value.kind, Kind::Null)
    {
        let message = format!(
            "is a section, which was the key store until v0.13.5, and stands beside `keystore` in line {}: remove one of them, \
             or make it a list of `- name: KEY` lines",
            keystore.at.line
        );
        cx.error(Some(keys.at()), &keys.old, message);
        return;
    }
    deprecated(cx, &keys, "keystore", SINCE);
    let note = moved_note(&keys, SINCE);
    put(cx, root, &["keystore"], keys, Some(note));
}

/// Documentation has `keystore.secretsmanager`, without the vendor's section.
fn secretsmanager(cx: &Context<'_>, root: &mut Node) {
    let Some(moved) = take(root, &["keystore", "secretsmanager"]) else {
        return;
    };
    let current = ["keystore", "aws", "secretsmanager"];
    if find(root, &current).is_some_and(|node| !matches!(node.kind, Kind::Null)) {
        let message = "stands beside `keystore.aws.secretsmanager`, which is the same: remove one";
        cx.error(Some(moved.at()), &moved.old, message);
        return;
    }
    deprecated(cx, &moved, &current.join("."), "");
    let note = moved_note(&moved, "");
    put(cx, root, &current, moved, Some(note));
}

/// `kms` was a key management service that wrapped what the key store had.
fn kms(cx: &Context<'_>, root: &mut Node) {
    let Some(kms) = take(root, &["kms"]) else { return };
    let services: Vec<&Entry> = match &kms.entry.value.kind {
        Kind::Map(services) => services.iter().collect(),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => vec![&kms.entry],
    };
    let mut used = false;
    for service in services {
        if is_used(cx, &service.value) {
            used = true;
            let path = if std::ptr::eq(service, &raw const kms.entry) {
                "kms".to_owned()
            } else {
                format!("kms.{}", crate::reader::shown_key(&service.key))
            };
            cx.error(
                Some(service.at),
                &path,
                "was removed in v0.8.0 without a replacement",
            );
        }
    }
    if !used {
        let message = "was removed in v0.8.0: remove it".to_owned();
        cx.deprecated(kms.at(), "kms", "kms", message);
    }
}

/// `log.error` and `log.audit` named files until v0.7.2.
fn log(cx: &Context<'_>, root: &mut Node) {
    const NONE: &str = "is deprecated since v0.8.0: it has no effect; remove it";
    for (stream, what, output) in [
        ("error", "errors", "standard error output"),
        ("audit", "audit events", "standard output"),
    ] {
        let of_that_time = |entry: &Entry| match &entry.value.kind {
            Kind::Map(entries) => entries.iter().all(|entry| entry.key == "file"),
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => false,
        };
        let Some(section) = take_if(root, &["log", stream], of_that_time) else {
            continue;
        };
        let Kind::Map(entries) = &section.entry.value.kind else {
            continue;
        };
        let Some(file) = entries.first() else { continue };
        let path = format!("{}.file", section.old);
        if !matches!(file.value.kind, Kind::List(_) | Kind::Null) {
            cx.error(
                Some(file.value.at),
                &path,
                "must be a list of files, or absent: `log` knows levels now",
            );
            continue;
        }
        if let Kind::List(items) = &file.value.kind
            && items.iter().any(|item| cx.text(item, &path).is_err())
        {
            continue;
        }
        if cx.is_blank(&file.value) {
            cx.deprecated(file.at, &path, stream, NONE.to_owned());
            continue;
        }
        let gone = format!(
            "log files ended with v0.7.2: {what} go to the {output} (`log.{stream}: on`), which can be redirected"
        );
        cx.deprecated(file.at, &path, stream, gone);
        let on = Node::new(file.at, Kind::Scalar(Zeroizing::new("on".to_owned())));
        let level = Moved {
            entry: Entry::new(stream.to_owned(), file.at, Rc::new(on)),
            old: path,
        };
        let note = format!("was a list of files before v0.8.0, and is the {output} now");
        put(cx, root, &["log", stream], level, Some(note));
    }
    let is_empty = |log: &Entry| matches!(&log.value.kind, Kind::Map(entries) if entries.is_empty());
    take_if(root, &["log"], is_empty);
}

/// A key that has been taken out of the tree.
struct Moved {
    entry: Entry,
    /// The path that the file has it under.
    old: String,
}

impl Moved {
    const fn at(&self) -> Position {
        self.entry.at
    }
}

fn deprecated(cx: &Context<'_>, moved: &Moved, current: &str, since: &str) {
    let blank = if since.is_empty() { "" } else { " " };
    let message = format!("is deprecated{blank}{since}: write it as `{current}`");
    cx.deprecated(moved.at(), &moved.old, current, message);
}

fn moved_note(moved: &Moved, since: &str) -> String {
    match since.strip_prefix("since ") {
        Some(release) => format!("was `{}` before {release}", moved.old),
        None => format!("was `{}`", moved.old),
    }
}

/// The value at `path`.
fn find<'n>(root: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(root, |node, key| match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .find(|entry| entry.key == *key)
            .map(|entry| &*entry.value),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
    })
}

fn find_entry<'n>(root: &'n Node, path: &[&str]) -> Option<&'n Entry> {
    let (last, section) = path.split_last()?;
    match &find(root, section)?.kind {
        Kind::Map(entries) => entries.iter().find(|entry| entry.key == *last),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
    }
}

/// Takes out what stands at `path`. Null is the same as absent.
fn take(root: &mut Node, path: &[&str]) -> Option<Moved> {
    let moved = take_if(root, path, |_| true)?;
    (!matches!(moved.entry.value.kind, Kind::Null)).then_some(moved)
}

fn take_if(root: &mut Node, path: &[&str], condition: impl Fn(&Entry) -> bool) -> Option<Moved> {
    // Without a look before, everything on the way would be copied for nothing.
    find_entry(root, path).filter(|entry| condition(entry))?;
    let (last, section) = path.split_last()?;
    let mut old = String::new();
    let mut node = root;
    for key in section {
        let entry = entries_mut(node)?.iter_mut().find(|entry| entry.key == *key)?;
        old = old_path(&old, entry);
        node = Rc::make_mut(&mut entry.value);
    }
    let entries = entries_mut(node)?;
    let index = entries.iter().position(|entry| entry.key == *last)?;
    let entry = entries.remove(index);
    Some(Moved {
        old: old_path(&old, &entry),
        entry,
    })
}

fn old_path(section: &str, entry: &Entry) -> String {
    match &entry.old {
        Some(old) => old.to_string(),
        None if section.is_empty() => entry.key.clone(),
        None => format!("{section}.{}", entry.key),
    }
}

fn entries_mut(node: &mut Node) -> Option<&mut Vec<Entry>> {
    match &mut node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
    }
}

/// Puts `moved` at `path`, where sections that are absent are made. What is there already must say the same.
fn put(cx: &Context<'_>, root: &mut Node, path: &[&str], moved: Moved, note: Option<String>) {
    let Some((last, section)) = path.split_last() else {
        return;
    };
    let at = moved.at();
    let mut node = root;
    for key in section {
        // What is no section where one is wanted will be reported as that.
        let Some(entry) = section_entry(node, key, at) else {
            return;
        };
        node = Rc::make_mut(&mut entry.value);
    }
    let Moved { mut entry, old } = moved;
    (*last).clone_into(&mut entry.key);
    entry.old = Some(old.into());
    entry.notes.extend(note.map(Rc::from));
    merge(cx, node, entry, &path.join("."));
}

fn section_entry<'n>(node: &'n mut Node, key: &str, at: Position) -> Option<&'n mut Entry> {
    let empty = || Rc::new(Node::new(at, Kind::Map(Vec::new())));
    let entries = entries_mut(node)?;
    let index = match entries.iter().position(|entry| entry.key == key) {
        Some(index) => index,
        None => {
            entries.push(Entry::new(key.to_owned(), at, empty()));
            entries.len() - 1
        }
    };
    let entry = entries.get_mut(index)?;
    if matches!(entry.value.kind, Kind::Null) {
        entry.value = empty();
    }
    Some(entry)
}

/// Puts `entry`, which has an older path, into `section`.
fn merge(cx: &Context<'_>, section: &mut Node, mut entry: Entry, current: &str) {
    let Some(entries) = entries_mut(section) else {
        return;
    };
    let Some(present) = entries.iter_mut().find(|present| present.key == entry.key) else {
        entries.push(entry);
        // A new name stands where the old one did.
        entries.sort_by_key(|entry| entry.at);
        return;
    };
    if cx.is_blank(&entry.value) {
        return;
    }
    if cx.is_blank(&present.value) {
        *present = entry;
        return;
    }
    let old = entry.old.clone().unwrap_or_default();
    if let (Kind::Map(_), Kind::Map(moved)) = (&present.value.kind, &mut Rc::make_mut(&mut entry.value).kind)
    {
        present.notes.append(&mut entry.notes);
        let present = Rc::make_mut(&mut present.value);
        for mut inner in std::mem::take(moved) {
            let path = old_path(&old, &inner);
            let current = format!("{current}.{}", inner.key);
            inner.old = Some(path.into());
            merge(cx, present, inner, &current);
        }
        return;
    }
    if !same(cx, &present.value, &entry.value, current, &old) {
        let message = format!(
            "is not the same as `{current}` in line {}: remove it",
            present.at.line
        );
        cx.error(Some(entry.at), &old, message);
    }
}

/// Whether two spellings of one key say the same; also when that cannot be said, which has been reported then.
fn same(cx: &Context<'_>, one: &Node, other: &Node, current: &str, old: &str) -> bool {
    match (&one.kind, &other.kind) {
        (Kind::Scalar(a), Kind::Scalar(b)) if a == b => true,
        (Kind::Scalar(_), Kind::Scalar(_)) => {
            let (Ok(a), Ok(b)) = (cx.text(one, current), cx.text(other, old)) else {
                return true;
            };
            a.as_str() == b.as_str()
                || match current {
                    "admin.identity" => identity_text(&a) == identity_text(&b),
                    "cache.expiry.any" => duration::parse(a.as_str())
                        .is_ok_and(|a| duration::parse(b.as_str()).is_ok_and(|b| a == b)),
                    _ => false,
                }
        }
        (Kind::List(a), Kind::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(cx, a, b, current, old))
        }
        _ => false,
    }
}

/// An identity as it is compared.
pub(crate) fn identity_text(text: &Text) -> String {
    let text = text.as_str().trim();
    Identity::parse(text).map_or_else(|_| text.to_owned(), |identity| identity.to_string())
}

/// Leaves a note at the innermost section on the way to `path` that is still there.
fn note(root: &mut Node, path: &[&str], text: &str) {
    let mut node = root;
    let Some((_, section)) = path.split_last() else {
        return;
    };
    for (index, key) in section.iter().enumerate() {
        let Some(entry) = entries_mut(node).and_then(|entries| entries.iter_mut().find(|e| e.key == *key))
        else {
            return;
        };
        if index + 1 == section.len() {
            entry.notes.push(text.into());
            return;
        }
        node = Rc::make_mut(&mut entry.value);
    }
}
