//! The section `policy`, including the nested form that documentation shows by mistake:
//!
//! ```yaml
//! policy:
//!   one:
//!     allow: […]
//!
//!     two:        # should stand where `one` does
//!     allow: […]
//! ```
//!
//! Read as it stands, `one` has `allow` twice. Where nothing stands twice, the file may as well mean one policy, and
//! nothing is guessed: a `deny` that went to another policy would allow more than was meant.

use std::collections::HashMap;
use std::rc::Rc;

use kes_types::{Policy, PolicyName, Rule, is_name};

use crate::legacy;
use crate::reader::{Checked, Context, Reported, Section, list_items};
use crate::schema::reach::Reach;
use crate::schema::{Owners, reach};
use crate::settings::PolicyAssignment;
use crate::tree::{Entry, Kind, Node, Position};

const KEYS: [&str; 4] = ["allow", "deny", "paths", "identities"];

/// A policy as the file has it.
struct Draft<'a> {
    name: &'a str,
    at: Position,
    fields: Vec<&'a Entry>,
}

pub(crate) fn read(
    cx: &Context<'_>,
    mut section: Section<'_>,
    owners: &mut Owners,
) -> Checked<Vec<PolicyAssignment>> {
    let (drafts, failed) = drafts(cx, &mut section);
    let policies: Vec<_> = drafts
        .into_iter()
        .map(|draft| assignment(cx, &section, draft, owners))
        .collect();
    let policies = policies.into_iter().collect::<Checked<_>>()?;
    failed.map_or(Ok(policies), Err)
}

/// The policies of the section, those that stand in others included, in the order of the file.
fn drafts<'a>(cx: &Context<'_>, section: &mut Section<'a>) -> (Vec<Draft<'a>>, Option<Reported>) {
    let mut drafts = Vec::new();
    let mut recovered = Vec::new();
    let mut failed = None;
    for entry in section.take_all() {
        let path = section.path_of(&entry.key);
        match split(cx, entry, &path) {
            Ok((own, nested)) => {
                drafts.push(own);
                recovered.extend(nested);
            }
            Err(reported) => failed = Some(reported),
        }
    }

    let mut lines: HashMap<&str, usize> = HashMap::new();
    for draft in &drafts {
        lines.entry(draft.name).or_insert(draft.at.line);
    }
    // Rules of two policies are never merged: a name that exists is an error, whichever came first.
    for draft in recovered {
        match lines.insert(draft.name, draft.at.line) {
            Some(first) => {
                let message =
                    format!("is indented into another policy, and line {first} has a policy of this name");
                failed = Some(cx.error(Some(draft.at), &section.path_of(draft.name), message));
            }
            None => drafts.push(draft),
        }
    }
    drafts.sort_by_key(|draft| draft.at);
    (drafts, failed)
}

/// The section in the current form: policies that stand in others are beside them, and `paths` is part of `allow`.
pub(crate) fn modern(cx: &Context<'_>, node: &Node) -> Checked<Node> {
    let mut section = Section::new(cx, "policy".to_owned(), node)?;
    if !section.is_present() {
        return Ok(Node::new(node.at, Kind::Null));
    }
    let names: Vec<_> = section.entries().map(|entry| entry.at).collect();
    let (drafts, failed) = drafts(cx, &mut section);
    if let Some(reported) = failed {
        return Err(reported);
    }
    let mut policies = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let mut fields: Vec<Entry> = Vec::new();
        for field in &draft.fields {
            let mut field = (*field).clone();
            if field.key == "paths" {
                let (_, since) = legacy::PATHS;
                field
                    .notes
                    .push(since.replace("since", "was `paths` before").into());
                field.key = "allow".to_owned();
            }
            join(cx, &mut fields, field, &format!("policy.{}", draft.name))?;
        }
        let value = if fields.is_empty() {
            Kind::Null
        } else {
            Kind::Map(fields)
        };
        let mut policy = Entry::new(
            draft.name.to_owned(),
            draft.at,
            Rc::new(Node::new(draft.at, value)),
        );
        if !names.contains(&draft.at) {
            policy.notes.push("was indented into the policy before it".into());
        }
        policies.push(policy);
    }
    Ok(Node::new(node.at, Kind::Map(policies)))
}

/// Adds a field to those of a policy. Two lists of the same name become one.
fn join(cx: &Context<'_>, fields: &mut Vec<Entry>, mut field: Entry, path: &str) -> Checked<()> {
    let Some(present) = fields.iter_mut().find(|present| present.key == field.key) else {
        fields.push(field);
        return Ok(());
    };
    let key = format!("{path}.{}", field.key);
    let mut items = list_items(cx, &present.value, &key)?.to_vec();
    items.extend_from_slice(list_items(cx, &field.value, &key)?);
    present.notes.append(&mut field.notes);
    present.value = Rc::new(Node::new(present.at, Kind::List(items)));
    Ok(())
}

/// Takes a policy apart: its own fields, and the policies that stand in it by mistake.
fn split<'a>(cx: &Context<'_>, entry: &'a Entry, path: &str) -> Checked<(Draft<'a>, Vec<Draft<'a>>)> {
    let mut drafts = vec![];
    let mut siblings = vec![];
    let mut current = Draft {
        name: &entry.key,
        at: entry.at,
        fields: vec![],
    };
    let mut failed = None;

    let fields: Vec<_> = Section::new(cx, path.to_owned(), &entry.value)?.take_all();
    let mut rest = fields.as_slice();
    while let Some((&field, after)) = rest.split_first() {
        let is_head = is_head(rest);
        rest = after;
        if is_policy_key(field) {
            match current.fields.iter().find(|seen| seen.key == field.key) {
                Some(seen) => {
                    let key = format!("{path}.{}", field.key);
                    failed = Some(cx.duplicate(field.at, &key, seen.at.line));
                }
                None => current.fields.push(field),
            }
            continue;
        }
        match &field.value.kind {
            Kind::Null if is_head && !repeats(&current, after) => {
                let key = format!("{path}.{}", field.key);
                let message = format!(
                    "has no value; if `{}` is a policy, it belongs one level up, with the lines that belong to it below it",
                    field.key
                );
                failed = Some(cx.error(Some(field.at), &key, message));
            }
            Kind::Null if is_head => {
                warn_nested(cx, field, path);
                drafts.push(std::mem::replace(
                    &mut current,
                    Draft {
                        name: &field.key,
                        at: field.at,
                        fields: vec![],
                    },
                ));
            }
            Kind::Map(inner) if is_name(&field.key) && inner.iter().all(is_policy_key) => {
                warn_nested(cx, field, path);
                siblings.push(Draft {
                    name: &field.key,
                    at: field.at,
                    fields: inner.iter().collect(),
                });
            }
            _ => {
                let key = format!("{path}.{}", crate::reader::shown_key(&field.key));
                cx.warn(field.at, &key, "is not a known key here and is ignored");
            }
        }
    }
    if let Some(reported) = failed {
        return Err(reported);
    }
    drafts.push(current);
    let own = drafts.remove(0);
    siblings.extend(drafts);
    Ok((own, siblings))
}

/// Whether `fields` begin with what may be the name of a policy that is indented too far, followed by its fields.
fn is_head(fields: &[&Entry]) -> bool {
    let [head, next, ..] = fields else { return false };
    matches!(head.value.kind, Kind::Null) && is_name(&head.key) && !is_policy_key(head) && is_policy_key(next)
}

/// Whether the fields up to the next name contain one that `policy` has already.
fn repeats(policy: &Draft<'_>, mut fields: &[&Entry]) -> bool {
    while let Some((field, after)) = fields.split_first() {
        if is_head(fields) {
            return false;
        }
        if is_policy_key(field) && policy.fields.iter().any(|seen| seen.key == field.key) {
            return true;
        }
        fields = after;
    }
    false
}

fn warn_nested(cx: &Context<'_>, field: &Entry, path: &str) {
    let message =
        format!("is taken as a policy of its own: it should stand in the column of `{path}`, not in it");
    cx.warn(field.at, &format!("policy.{}", field.key), message);
}

fn is_policy_key(entry: &Entry) -> bool {
    KEYS.contains(&entry.key.as_str())
}

fn assignment(
    cx: &Context<'_>,
    section: &Section<'_>,
    draft: Draft<'_>,
    owners: &mut Owners,
) -> Checked<PolicyAssignment> {
    let path = section.path_of(draft.name);
    let name = PolicyName::parse(draft.name).map_err(|_| {
        let message =
            "must be a policy name: 1 to 80 letters, digits, `-` and `_`, with `-` neither first nor last";
        cx.error(Some(draft.at), &path, message)
    });
    let role = format!(
        "has the policy `{}` already",
        crate::reader::shown_key(draft.name)
    );
    let (mut allow, mut deny, mut identities) = (vec![], vec![], vec![]);
    let mut failed = None;
    for field in draft.fields {
        let key = format!("{path}.{}", field.key);
        let items = match list_items(cx, &field.value, &key) {
            Ok(items) => items,
            Err(reported) => {
                failed = Some(reported);
                continue;
            }
        };
        match field.key.as_str() {
            "deny" => deny.extend(items.iter().map(|item| deny_rule(cx, item, &key))),
            "identities" => identities.extend(items.iter().map(|item| owners.claim(cx, item, &key, &role))),
            "paths" => {
                let (id, since) = legacy::PATHS;
                let message = format!("is deprecated {since}: write it as `{path}.allow`");
                cx.deprecated(field.at, &key, id, message);
                allow.extend(items.iter().map(|item| allow_rule(cx, item, &key)));
            }
            _ => allow.extend(items.iter().map(|item| allow_rule(cx, item, &key))),
        }
    }
    let allow = allow.into_iter().collect::<Checked<_>>();
    let deny = deny.into_iter().collect::<Checked<_>>();
    let identities = identities.into_iter().collect::<Checked<_>>();
    if let Some(reported) = failed {
        return Err(reported);
    }
    Ok(PolicyAssignment {
        name: name?,
        policy: Policy {
            allow: allow?,
            deny: deny?,
        },
        identities: identities?,
    })
}

fn allow_rule(cx: &Context<'_>, node: &Node, key: &str) -> Checked<Rule> {
    let rule = rule(cx, node, key)?;
    if !matches_something(&rule) {
        cx.warn(
            node.at,
            key,
            "this pattern never matches: it starts with neither `/` nor `*`",
        );
    } else {
        warn_unreachable(cx, node, key, &rule);
    }
    Ok(rule)
}

fn deny_rule(cx: &Context<'_>, node: &Node, key: &str) -> Checked<Rule> {
    let rule = rule(cx, node, key)?;
    if matches_something(&rule) {
        warn_unreachable(cx, node, key, &rule);
        return Ok(rule);
    }
    // What should be denied and is not is worse than what should be allowed and is not.
    Err(cx.error(
        Some(node.at),
        key,
        "this pattern would never match and deny nothing: it must start with `/` or `*`",
    ))
}

fn rule(cx: &Context<'_>, node: &Node, key: &str) -> Checked<Rule> {
    // No variables: a pattern is literal.
    cx.literal(node, key)?.parse(cx, |text| {
        Rule::parse(text).map_err(|_| {
            "is not a valid pattern: each `[` needs its `]`, a range starts with its lower end, and `\\` stands before \
             a character"
        })
    })
}

fn matches_something(rule: &Rule) -> bool {
    rule.as_str().starts_with(['/', '*'])
}

fn warn_unreachable(cx: &Context<'_>, node: &Node, key: &str, rule: &Rule) {
    match reach::of(rule) {
        Reach::Some => {}
        Reach::NameMissing => cx.warn(
            node.at,
            key,
            "this pattern matches no request: a name follows this path; end it with `/*` to mean all names",
        ),
        Reach::Admin => cx.warn(
            node.at,
            key,
            "this pattern has no effect: what it matches is the admin's alone, whatever policies say",
        ),
        Reach::None => cx.warn(
            node.at,
            key,
            "this pattern matches no request: there is no such path in the API",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::KEYS;
    use crate::reference::GROUPS;

    #[test]
    fn the_keys_of_a_policy_are_those_of_the_reference() {
        let keys = GROUPS.iter().flat_map(|group| group.keys);
        let reference: BTreeSet<_> = keys
            .filter_map(|key| key.path.strip_prefix("policy.<name>."))
            .chain(["paths"])
            .collect();
        assert_eq!(reference, KEYS.into_iter().collect());
    }
}
