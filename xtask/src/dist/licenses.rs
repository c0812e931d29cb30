//! The licences of what is linked into the executable, which most of them want shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::sbom::Metadata;

/// One text: each licence once, under the names of those that come with it.
pub(crate) fn collect(metadata: &Metadata) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut bare = Vec::new();
    for package in metadata
        .packages()
        .filter(|package| package.linked && !package.own)
    {
        let name = format!("{} {}", package.name, package.version);
        let entries =
            fs::read_dir(&package.folder).with_context(|| format!("reading the sources of {name}"))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            let is_license = [
                "LICENSE",
                "LICENCE",
                "COPYING",
                "COPYRIGHT",
                "NOTICE",
                "UNLICENSE",
            ]
            .iter()
            .any(|prefix| file.starts_with(prefix));
            if is_license && path.is_file() {
                files.push(path);
            }
        }
        if files.is_empty() {
            bare.push(format!("{name}: {}", package.license));
        }
        files.sort();
        for file in files {
            let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            texts
                .entry(text.trim().to_owned())
                .or_default()
                .push(name.clone());
        }
    }
    let mut all = String::from(
        "KES is under the Apache License 2.0. Its executable contains these libraries, under these licences.\n\
         It contains the GNU C Library as well, under the GNU Lesser General Public License 2.1 or later, and the Rust\n\
         standard library, under the MIT License or the Apache License 2.0.\n",
    );
    if !bare.is_empty() {
        write!(
            all,
            "\nWithout a text of their own:\n\n    {}\n",
            bare.join("\n    ")
        )?;
    }
    let mut texts: Vec<(Vec<String>, String)> =
        texts.into_iter().map(|(text, names)| (names, text)).collect();
    texts.sort();
    for (mut names, text) in texts {
        names.dedup();
        write!(all, "\n{}\n\n{}:\n\n{text}\n", "-".repeat(100), names.join(", "))?;
    }
    Ok(all)
}
