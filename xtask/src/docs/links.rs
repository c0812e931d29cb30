//! Links from one document of the repository to another, and to a heading in it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Folders that hold nothing of the repository.
const OTHERS: [&str; 2] = ["target", "node_modules"];

/// Fails if a link in a Markdown file of the repository leads nowhere.
pub(super) fn check() -> Result<()> {
    let mut files = Vec::new();
    markdown_below(cargo::root(), &mut files)?;
    let mut texts = HashMap::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        texts.insert(file, text);
    }
    let anchors: HashMap<&Path, HashSet<String>> = texts
        .iter()
        .map(|(file, text)| (file.as_path(), anchors(text)))
        .collect();
    let mut broken = Vec::new();
    for (file, text) in &texts {
        let folder = file.parent().unwrap_or(Path::new(""));
        for (line, target) in links(text) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                file.clone()
            } else {
                joined(folder, path)
            };
            let leads = if anchor.is_empty() {
                path.exists()
            } else {
                anchors
                    .get(path.as_path())
                    .is_some_and(|anchors| anchors.contains(anchor))
            };
            if !leads {
                let file = file.strip_prefix(cargo::root()).unwrap_or(file);
                broken.push(format!("{}:{line}: {target}", file.display()));
            }
        }
    }
    broken.sort();
    ensure!(
        broken.is_empty(),
        "these links lead nowhere:\n{}",
        broken.join("\n")
    );
    Ok(())
}

fn markdown_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !OTHERS.contains(&&*name) {
                markdown_below(&path, files)?;
            }
        } else if name.ends_with(".md") {
            files.push(path);
        }
    }
    Ok(())
}

/// `path` as seen from `folder`, without `..` in it.
fn joined(folder: &Path, path: &str) -> PathBuf {
    let mut joined = folder.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                joined.pop();
            }
            Component::CurDir => {}
            other => joined.push(other),
        }
    }
    joined
}

/// The lines that are no code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The targets of links to other places than the web, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every other piece between backticks is code; a link's text may have some, but not its target.
        for (index, piece) in line.split("](").enumerate().skip(1) {
            let before: usize = line
                .split("](")
                .take(index)
                .map(|piece| piece.matches('`').count())
                .sum();
            let Some((target, _)) = piece.split_once(')') else {
                continue;
            };
            let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
            if before.is_multiple_of(2) && !is_elsewhere {
                found.push((number, target));
            }
        }
    }
    found
}

/// What the headings of a document are called in links, as forges make it.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = HashSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let anchor = anchor(title.trim());
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 {
            anchor
        } else {
            format!("{anchor}-{count}")
        });
        *count += 1;
    }
    anchors
}

fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let plain: String = title.chars().filter(kept).collect();
    plain.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_called_as_forges_call_them() {
        let text = "# A `kes key`, *two* words!\n## Twice\n## Twice\n```sh\n# no heading\n```\n#none\n";
        let mut anchors: Vec<_> = anchors(text).into_iter().collect();
        anchors.sort();
        assert_eq!(anchors, ["a-kes-key-two-words", "twice", "twice-1"]);
    }

    #[test]
    fn links_are_found_but_not_in_code_or_on_the_web() {
        let text = "[a](b.md#c) and [`d`](e), `[f](g)`, [h](https://i), [j](#k)\n```text\n[l](m)\n```\n";
        assert_eq!(links(text), [(1, "b.md#c"), (1, "e"), (1, "#k")]);
    }

    #[test]
    fn paths_are_followed_upwards() {
        assert_eq!(
            joined(Path::new("/r/docs"), "../a/./b.md"),
            Path::new("/r/a/b.md")
        );
    }

    #[test]
    fn no_link_leads_nowhere() {
        check().unwrap();
    }
}
