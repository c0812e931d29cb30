//! What a configuration file may say: its sections, their keys and what is checked. One module a section.

mod api;
mod embedded;
mod endpoint;
mod health;
mod keystore;
mod policy;
mod reach;
mod tls;
mod vault;

use std::collections::HashMap;

use kes_types::{Identity, KeyName};

use crate::keystore::KeyStoreSettings;
use crate::legacy;
use crate::level::LogLevel;
use crate::load::Overrides;
use crate::reader::{Checked, Context, Section, list_items};
use crate::settings::{Access, Admin, Cache, Limits, ListenAddress, Log, Settings};
use crate::tree::{Entry, Kind, Node, Position};

/// Reads a whole file.
pub(crate) fn settings(cx: &Context<'_>, root: &Node, overrides: &Overrides) -> Checked<Settings> {
    cx.check_duplicates(root);
    let lost = report_lost_indentation(cx, &Section::root(cx, root)?);
    // A key that lost its indentation is not one of an older release.
    let root = &legacy::modernize(cx, root, lost);
    let mut root = Section::root(cx, root)?;

    let version = check_version(cx, &mut root);
    let address = address(cx, &mut root, overrides);
    let admin = admin(cx, &mut root, overrides);
    let mut owners = Owners::default();
    if let Ok(admin) = &admin
        && let Ok(identity) = Identity::parse(&admin.text)
    {
        owners.0.insert(identity, ADMINS.to_owned());
    }
    let tls = root
        .section(cx, "tls")
        .and_then(|section| tls::read(cx, section, overrides, &mut owners));
    let api = root.section(cx, "api").and_then(|section| api::read(cx, section));
    let policies = root
        .section(cx, "policy")
        .and_then(|section| policy::read(cx, section, &mut owners));
    let keys = keys(cx, &mut root);
    let cache = root.section(cx, "cache").and_then(|section| cache(cx, section));
    let log = root.section(cx, "log").and_then(|section| log(cx, section));
    let health = root
        .section(cx, "health")
        .and_then(|section| health::read(cx, section, address.as_ref().ok()));
    let limits = root.section(cx, "limits").and_then(|section| limits(cx, section));
    let keystore = root
        .section(cx, "keystore")
        .and_then(|section| keystore::read(cx, section));
    root.finish(cx);

    version?;
    Ok(Settings {
        address: address?,
        admin: admin?,
        tls: tls?,
        api: api?,
        policies: policies?,
        keys: keys?,
        cache: cache?,
        log: log?,
        health: health?,
        limits: limits?,
        keystore: keystore?,
    })
}

/// Reads what a file says about who may do what, whatever the rest of it says or lacks.
pub(crate) fn access_alone(cx: &Context<'_>, root: &Node) -> Checked<Access> {
    cx.check_duplicates(root);
    let lost = report_lost_indentation(cx, &Section::root(cx, root)?);
    let root = &legacy::modernize(cx, root, lost);
    let mut root = Section::root(cx, root)?;

    let has_admin = root.entries().any(|entry| entry.key == "admin");
    let admin = if has_admin {
        admin(cx, &mut root, &Overrides::default()).map(|admin| admin.identity)
    } else {
        Ok(None)
    };
    let mut owners = Owners::default();
    if let Ok(Some(identity)) = &admin {
        owners.0.insert(identity.clone(), ADMINS.to_owned());
    }
    let proxies = root
        .section(cx, "tls")
        .and_then(|section| tls::proxies_alone(cx, section, &mut owners));
    let api = root.section(cx, "api").and_then(|section| api::read(cx, section));
    let policies = root
        .section(cx, "policy")
        .and_then(|section| policy::read(cx, section, &mut owners));
    let keystore = root.section(cx, "keystore")?;
    let is_embedded = keystore
        .entries()
        .any(|entry| entry.key == "embedded" && !matches!(entry.value.kind, Kind::Null));
    Ok(Access {
        admin: admin?,
        proxies: proxies?,
        api: api?,
        policies: policies?,
        is_embedded,
    })
}

/// Reads the section `keystore` of a file, whatever the others say or lack.
pub(crate) fn keystore_alone(cx: &Context<'_>, root: &Node) -> Checked<KeyStoreSettings> {
    cx.check_duplicates(root);
    let root = &legacy::modernize(cx, root, false);
    let mut root = Section::root(cx, root)?;
    let section = root.section(cx, "keystore")?;
    keystore::read(cx, section)
}

/// Reports key stores that exist no more.
pub(crate) fn check_removed(cx: &Context<'_>, root: &Node) -> Checked<()> {
    let section = Section::root(cx, root)?.section(cx, "keystore")?;
    keystore::check_removed(cx, section)
}

/// The section `policy` in the current form.
pub(crate) fn modern_policies(cx: &Context<'_>, node: &Node) -> Checked<Node> {
    policy::modern(cx, node)
}

fn check_version(cx: &Context<'_>, root: &mut Section<'_>) -> Checked<()> {
    let Some(version) = root.literal(cx, "version")? else {
        return Ok(());
    };
    version.parse(cx, |text| match text {
        "" | "v1" => Ok(()),
        _ => Err("must be `v1`, or absent"),
    })
}

fn address(cx: &Context<'_>, root: &mut Section<'_>, overrides: &Overrides) -> Checked<ListenAddress> {
    let address = root.filled(cx, "address")?;
    if let Some(option) = &overrides.addr {
        return ListenAddress::parse(option).map_err(|error| cx.option_error("--addr", error.to_string()));
    }
    address.map_or(Ok(ListenAddress::DEFAULT), |text| {
        text.parse(cx, ListenAddress::parse)
    })
}

fn admin(cx: &Context<'_>, root: &mut Section<'_>, overrides: &Overrides) -> Checked<Admin> {
    const HINT: &str = "set it to the identity of the admin, or to `disabled`";

    let text = root.section(cx, "admin").and_then(|mut section| {
        let identity = section.text(cx, "identity");
        section.finish(cx);
        identity
    })?;
    let text = match &overrides.root {
        Some(option) if option.trim().is_empty() => {
            return Err(cx.option_error("--root", format!("is empty: {HINT}")));
        }
        Some(option) => option.trim().to_owned(),
        None => legacy::identity_text(&cx.demand(text, None, "admin.identity", HINT)?),
    };
    let identity = Identity::parse(&text).ok().filter(Identity::is_digest);
    Ok(Admin {
        text: identity.as_ref().map_or(text, ToString::to_string),
        identity,
    })
}

/// Said of an identity that is given to somebody else, too.
const ADMINS: &str = "is the admin's, who may do everything already";

/// Who has an identity: an identity has one role, and one policy at most.
#[derive(Default)]
struct Owners(HashMap<Identity, String>);

impl Owners {
    /// Checks the identity in `node`, for which `role` will be said when it comes again.
    fn claim(&mut self, cx: &Context<'_>, node: &Node, key: &str, role: &str) -> Checked<Identity> {
        let text = cx.text(node, key)?;
        let text = cx.demand(Some(text), None, key, "an item of the list must be an identity")?;
        let identity = text.parse(cx, |text| {
            Identity::parse(text.trim()).map_err(
                |_| "must be an identity: 1 to 80 letters, digits, `-` and `_`, most often 64 hex digits",
            )
        })?;
        if let Some(owner) = self.0.get(&identity) {
            return Err(cx.error(Some(text.at), key, format!("this identity {owner}")));
        }
        self.0
            .insert(identity.clone(), format!("{role} (line {})", text.at.line));
        Ok(identity)
    }
}

fn keys(cx: &Context<'_>, root: &mut Section<'_>) -> Checked<Vec<KeyName>> {
    let Some(entry) = root.take("keys") else {
        return Ok(Vec::new());
    };
    if matches!(entry.value.kind, Kind::Map(_)) {
        return Err(cx.error(Some(entry.at), "keys", legacy::KEYS_SECTION));
    }
    let mut lines: HashMap<KeyName, usize> = HashMap::new();
    let mut key = |node: &Node| {
        let mut section = Section::new(cx, "keys".to_owned(), node)?;
        let name = section.required(cx, "name", "an item of the list is written as `- name: KEY`");
        section.finish(cx);
        let text = name?;
        let name = text.parse(cx, |text| {
            KeyName::parse(text).map_err(|_| {
                "must be a key name: 1 to 80 letters, digits, `-` and `_`, with `-` neither first nor last"
            })
        })?;
        match lines.insert(name.clone(), text.at.line) {
            Some(first) => Err(cx.error(
                Some(text.at),
                &text.key,
                format!("this key stands in line {first} already"),
            )),
            None => Ok(name),
        }
    };
    let keys: Vec<_> = list_items(cx, &entry.value, "keys")?
        .iter()
        .map(|node| key(node))
        .collect();
    keys.into_iter().collect()
}

fn cache(cx: &Context<'_>, mut section: Section<'_>) -> Checked<Cache> {
    let default = Cache::default();
    let entries = section.count(cx, "entries");
    let expiry = section.section(cx, "expiry");
    section.finish(cx);

    let mut expiry = expiry?;
    let any = expiry.duration(cx, "any");
    let (unused, offline) = (expiry.duration(cx, "unused"), expiry.duration(cx, "offline"));
    expiry.finish(cx);

    let not_zero =
        |value: Option<std::time::Duration>, default| value.filter(|d| !d.is_zero()).unwrap_or(default);
    Ok(Cache {
        any: not_zero(any?, default.any),
        unused: not_zero(unused?, default.unused),
        offline: offline?.unwrap_or(default.offline),
        entries: entries?.unwrap_or(default.entries),
    })
}

fn log(cx: &Context<'_>, mut section: Section<'_>) -> Checked<Log> {
    let default = Log::default();
    let mut level = |key: &str, default| {
        if let Some(entry) = section.take(key)
            && matches!(entry.value.kind, Kind::Map(_))
        {
            return Err(cx.error(Some(entry.at), &section.path_of(key), legacy::LOG_FILES));
        }
        let text = section
            .scalar(cx, key)?
            .filter(|text| !text.as_str().trim().is_empty());
        text.map_or(Ok(default), |text| text.parse(cx, LogLevel::parse))
    };
    let (error, audit) = (level("error", default.error), level("audit", default.audit));
    section.finish(cx);
    Ok(Log {
        error: error?,
        audit: audit?,
    })
}

fn limits(cx: &Context<'_>, mut section: Section<'_>) -> Checked<Limits> {
    let default = Limits::default();
    let connections = section.count(cx, "connections");
    let body_memory = section.value(cx, "body_memory", body_memory);
    let log_streams = section.count(cx, "log_streams");
    section.finish(cx);
    Ok(Limits {
        connections: connections?,
        body_memory: body_memory?.unwrap_or(default.body_memory),
        log_streams: log_streams?.unwrap_or(default.log_streams),
    })
}

/// A size of memory that has room for the largest request body.
fn body_memory(text: &str) -> Result<u64, &'static str> {
    const LARGEST_BODY: u64 = 1 << 20;
    const BAD: &str =
        "must be a size of at least 1MiB, such as `256MiB`: a whole number with B, KiB, MiB or GiB";

    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(BAD),
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    size.filter(|&size| size >= LARGEST_BODY).ok_or(BAD)
}

/// A text copied from a web page may have lost its indentation, which leaves sections empty and their keys beside them.
/// To guess what belongs where could grant what nobody meant to grant, so this only says what happened, and whether it did.
pub(crate) fn report_lost_indentation(cx: &Context<'_>, root: &Section<'_>) -> bool {
    const SECTIONS: [&str; 6] = ["admin", "tls", "policy", "cache", "log", "keystore"];
    const INNER_KEYS: [&str; 15] = [
        "identity",
        "key",
        "cert",
        "allow",
        "deny",
        "identities",
        "expiry",
        "error",
        "audit",
        "embedded",
        "fs",
        "vault",
        "aws",
        "secretsmanager",
        "endpoint",
    ];
    let empty: Vec<(&str, Position)> = root
        .entries()
        .filter(|entry| matches!(entry.value.kind, Kind::Null))
        .filter_map(|entry| {
            SECTIONS
                .into_iter()
                .find(|section| *section == entry.key)
                .map(|key| (key, entry.at))
        })
        .collect();
    let Some(&(first, at)) = empty.first() else {
        return false;
    };
    // Releases up to v0.4.0 had the sections `fs` and `vault` there, though not empty.
    let is_older = |entry: &Entry| {
        matches!(entry.key.as_str(), "fs" | "vault") && matches!(entry.value.kind, Kind::Map(_))
    };
    let lost = root
        .entries()
        .any(|entry| INNER_KEYS.contains(&entry.key.as_str()) && !is_older(entry));
    if lost {
        let names = empty
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let are = if empty.len() == 1 { "is" } else { "are" };
        let message =
            format!("{names} {are} empty and look un-indented: indent the lines that belong to each section");
        cx.error(Some(at), first, message);
    }
    lost
}
