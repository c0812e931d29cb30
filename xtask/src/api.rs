//! The public API of the client library: that it is as it is written down, and that each item of it has an example.
//!
//! Both are read from what rustdoc knows of the crate. Its JSON is not stable, so the pinned toolchain and `public-api` have to fit
//! each other: whoever raises one raises the other.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo;
use crate::report::Report;

const CRATE: &str = "kes-client";
const SNAPSHOT: &str = "crates/client/public-api.txt";
/// What has an example. Fields and variants have that of their type.
const WITH_EXAMPLE: &[&str] = &[
    "struct",
    "enum",
    "union",
    "trait",
    "function",
    "constant",
    "static",
    "macro",
    "type_alias",
];
/// Code blocks that nobody compiles.
const NOT_COMPILED: &[&str] = &["text", "sh", "console", "json", "yaml", "toml", "ignore"];

/// `cargo xtask api`, and the same with `--update`.
pub(crate) fn command(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        [] => {
            let mut report = Report::default();
            run(&mut report);
            Ok(report.close())
        }
        ["--update"] => {
            let path = cargo::root().join(SNAPSHOT);
            fs::write(&path, public_api(&rustdoc()?)?).with_context(|| path.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        [other, ..] => bail!("'{other}' is no option of `cargo xtask api`: there is only --update"),
    }
}

/// Compares the public API with what is written down, and looks for examples.
pub(crate) fn run(report: &mut Report) {
    let mut json = PathBuf::new();
    let is_there = report.step(
        "api: rustdoc describes kes-client",
        &mut json,
        |json| {
            *json = rustdoc()?;
            Ok(())
        },
        |_| String::new(),
    );
    if !is_there {
        return;
    }
    report.step(
        "api: the public API of kes-client is the one written down",
        &mut json,
        |json| compare(json),
        |_| String::new(),
    );
    report.step(
        "api: nothing of the other crates of this repository is in it",
        &mut json,
        |json| {
            let api = public_api(json)?;
            let ours = api.lines().filter(|line| is_of_another_crate(line));
            let ours: Vec<_> = ours.collect();
            ensure!(ours.is_empty(), "{}", ours.join("\n"));
            Ok(())
        },
        |_| String::new(),
    );
    report.step(
        "api: each public item of kes-client has an example that is compiled",
        &mut json,
        |json| examples(json),
        |_| String::new(),
    );
}

fn compare(json: &Path) -> Result<()> {
    let path = cargo::root().join(SNAPSHOT);
    let written = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let difference = difference(&written, &public_api(json)?);
    ensure!(
        difference.is_empty(),
        "{SNAPSHOT} differs. If that is meant, `cargo xtask api --update` writes it anew; a line that goes is a breaking change.\n{difference}"
    );
    Ok(())
}

fn examples(json: &Path) -> Result<()> {
    let text = fs::read_to_string(json).with_context(|| json.display().to_string())?;
    let (with, without) = by_example(&serde_json::from_str(&text).context("the JSON of rustdoc")?)?;
    ensure!(
        without.is_empty(),
        "no example that is compiled: {}",
        without.join(", ")
    );
    // Nothing is found where nothing is looked at.
    ensure!(with > 50, "only {with} public items were found");
    Ok(())
}

/// Has rustdoc write down what it knows, and answers where.
fn rustdoc() -> Result<PathBuf> {
    let target = cargo::target_folder()?;
    // Through a wrapper, so that only rustdoc itself is told to do what it only does on nightly. In the environment of cargo, build
    // scripts would see it as well, and everything would be built again.
    let folder = target.join("xtask");
    fs::create_dir_all(&folder)?;
    let wrapper = folder.join("rustdoc");
    let script = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(script) {
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    let status = cargo::command("rustdoc")
        .args(["--quiet", "--package", CRATE, "--lib", "--"])
        .args(["-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", &wrapper)
        .status()
        .context("starting cargo rustdoc")?;
    ensure!(status.success(), "cargo rustdoc: {status}");
    Ok(target.join("doc").join(CRATE.replace('-', "_") + ".json"))
}

/// The public API, one item a line.
fn public_api(json: &Path) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .sorted(true)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .context("public-api does not read what rustdoc writes: their versions do not fit")?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// Whether a line names a crate of this repository that can change without the client library.
fn is_of_another_crate(line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word.starts_with("kes_") && word != CRATE.replace('-', "_"))
}

/// The lines that only one of them has.
fn difference(old: &str, new: &str) -> String {
    let [old, new] = [old, new].map(|text| text.lines().collect::<BTreeSet<_>>());
    let gone = old.difference(&new).map(|line| format!("- {line}\n"));
    let come = new.difference(&old).map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

/// How many public items have an example, and which have none.
fn by_example(rustdoc: &Value) -> Result<(usize, Vec<String>)> {
    let index = rustdoc.get("index").and_then(Value::as_object);
    let index = index.context("the JSON of rustdoc has no index")?;
    let (mut with, mut without) = (0, Vec::new());
    for item in index.values() {
        let text = |name| item.get(name).and_then(Value::as_str);
        let is_ours = item.get("crate_id").and_then(Value::as_u64) == Some(0);
        let kind = item
            .get("inner")
            .and_then(Value::as_object)
            .and_then(|inner| inner.keys().next());
        let needs_one = kind.is_some_and(|kind| WITH_EXAMPLE.contains(&kind.as_str()));
        if !is_ours || !needs_one || text("visibility") != Some("public") {
            continue;
        }
        if has_example(text("docs").unwrap_or_default()) {
            with += 1;
        } else {
            let file = item.pointer("/span/filename").and_then(Value::as_str);
            let name = text("name").unwrap_or("?");
            without.push(format!("{name} ({})", file.unwrap_or("?")));
        }
    }
    without.sort();
    Ok((with, without))
}

/// Whether there is a code block that is compiled.
fn has_example(docs: &str) -> bool {
    let mut is_inside = false;
    docs.lines()
        .filter_map(|line| line.trim_start().strip_prefix("```"))
        .any(|kind| {
            is_inside = !is_inside;
            is_inside && !kind.split(',').any(|word| NOT_COMPILED.contains(&word.trim()))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(kind: &str, visibility: &str, crate_id: u64, docs: &str) -> Value {
        let (name, inner) = (format!("{kind}_{visibility}_{crate_id}"), json!({ kind: {} }));
        json!({"name": name, "inner": inner, "visibility": visibility, "crate_id": crate_id, "docs": docs,
            "span": {"filename": "lib.rs"}})
    }

    #[test]
    fn a_public_item_without_an_example_is_found() {
        let index = json!({"index": {
            "1": item("struct", "public", 0, "A type.\n\n```\nlet a = 1;\n```"),
            "2": item("function", "public", 0, "A method."),
            "3": item("function", "default", 0, "Of a trait."),
            "4": item("struct_field", "public", 0, "A field."),
            "5": item("constant", "public", 1, "Another crate's."),
            "6": item("constant", "public", 0, "```text\nnothing\n```"),
        }});
        let (with, without) = by_example(&index).unwrap();
        assert_eq!(with, 1);
        assert_eq!(
            without,
            ["constant_public_0 (lib.rs)", "function_public_0 (lib.rs)"]
        );
        assert!(by_example(&json!({})).is_err());
    }

    #[test]
    fn only_blocks_that_are_compiled_are_examples() {
        for (docs, has) in [
            ("```\na();\n```", true),
            ("```no_run\na();\n```", true),
            ("```text\na\n```\n```rust\na();\n```", true),
            ("```sh\na\n```", false),
            ("```rust,ignore\na();\n```", false),
            ("Text with `code`.", false),
        ] {
            assert_eq!(has_example(docs), has, "{docs}");
        }
    }

    #[test]
    fn other_crates_of_the_repository_are_seen() {
        for (line, is) in [
            ("pub fn kes_client::Client::ready(&self)", false),
            ("impl From<kes_tls::ca::BadTrust> for kes_client::BadTrust", true),
        ] {
            assert_eq!(is_of_another_crate(line), is, "{line}");
        }
    }

    #[test]
    fn what_goes_and_what_comes_is_shown() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), "- a\n+ c\n");
        assert_eq!(difference("a\nb\n", "b\na\n"), "");
    }
}
