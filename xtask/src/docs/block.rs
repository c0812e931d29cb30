//! What the documents say about how their blocks are run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::peer::Kind as Peer;
use crate::cargo;

/// One Markdown file and its blocks, in order.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    /// What it needs running.
    pub(super) peers: Vec<Peer>,
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(super) struct Block {
    /// Where it starts in the document, from 1.
    pub(super) line: usize,
    pub(super) kind: Kind,
    pub(super) in_repository: bool,
    pub(super) pasted: bool,
    pub(super) reloads: bool,
    /// Later blocks find what it has defined.
    pub(super) kept: bool,
    /// The port of a server to stop first.
    pub(super) stop: Option<u16>,
    /// What it makes outside the document's folder.
    pub(super) leaves: Option<String>,
    pub(super) text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Serve {
        port: u16,
        once: bool,
    },
    Config(String),
    /// What readers set for themselves, and here the peers do.
    Given,
    /// Texts that programs have printed.
    Said(Vec<String>),
    /// Left to CI itself, or to people.
    NotHere,
}

/// The documents of the repository.
pub(super) fn documents() -> Result<Vec<Document>> {
    let mut files = vec![
        "README.md".into(),
        "ARCHITECTURE.md".into(),
        "CONTRIBUTING.md".into(),
        "SECURITY.md".into(),
    ];
    markdown_below(Path::new("docs"), &mut files)?;
    let documents = files.iter().map(|file: &PathBuf| {
        let name = file.display().to_string();
        let text = fs::read_to_string(cargo::root().join(file)).with_context(|| format!("reading {name}"))?;
        document(name.clone(), &text).context(name)
    });
    documents.collect()
}

fn markdown_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(cargo::root().join(folder)).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(folder.join(entry?.file_name())))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        if cargo::root().join(&name).is_dir() {
            markdown_below(&name, files)?;
        } else if name.extension().is_some_and(|extension| extension == "md") {
            files.push(name);
        }
    }
    Ok(())
}

fn document(name: String, text: &str) -> Result<Document> {
    let (mut peers, mut blocks) = (Vec::new(), Vec::new());
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if let Some(note) = note(line) {
            let kind = note_of(note, &mut peers).with_context(|| format!("line {number}: {line}"))?;
            if let Some(kind) = kind {
                let mut rows = Vec::new();
                while let Some((row, _)) = lines.next_if(|(row, _)| row.trim_start().starts_with('|')) {
                    rows.extend(first_code(row));
                }
                ensure!(!rows.is_empty(), "line {number}: no table of texts follows");
                blocks.push(kind.block(number, rows));
            }
            continue;
        }
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut body = String::new();
        for (line, _) in lines.by_ref().take_while(|(line, _)| line.trim() != "```") {
            body.push_str(line.get(indent..).unwrap_or_else(|| line.trim_start()));
            body.push('\n');
        }
        let mut words = info.split_whitespace();
        let language = words.next().unwrap_or_default();
        let is_run = matches!(language, "sh" | "shell" | "bash" | "console" | "yaml" | "yml");
        if is_run || (language == "text" && words.clone().any(|word| word == "said")) {
            blocks.push(block(number, words, body).with_context(|| format!("line {number}: ```{info}"))?);
        }
    }
    Ok(Document { name, peers, blocks })
}

/// What stands in a comment `<!-- ci: … -->`, which no reader sees.
fn note(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("<!-- ci:")?
        .strip_suffix("-->")
        .map(str::trim)
}

/// A note that makes a block of the table after it.
enum Note {
    Said,
}

impl Note {
    fn block(self, line: usize, rows: Vec<String>) -> Block {
        match self {
            Self::Said => Block {
                line,
                kind: Kind::Said(rows),
                in_repository: false,
                pasted: false,
                reloads: false,
                kept: false,
                stop: None,
                leaves: None,
                text: String::new(),
            },
        }
    }
}

fn note_of(note: &str, peers: &mut Vec<Peer>) -> Result<Option<Note>> {
    match note.split_once('=') {
        None if note == "said" => Ok(Some(Note::Said)),
        Some(("peers", names)) => {
            for name in names.split(',') {
                peers.push(Peer::named(name).with_context(|| format!("there is no peer '{name}'"))?);
            }
            Ok(None)
        }
        _ => bail!("'{note}' means nothing here"),
    }
}

/// What stands in the first pair of backticks of a table's row.
fn first_code(row: &str) -> Option<String> {
    let (_, rest) = row.split_once('`')?;
    Some(rest.split_once('`')?.0.to_owned())
}

fn block<'a>(line: usize, words: impl Iterator<Item = &'a str>, text: String) -> Result<Block> {
    let (mut kind, mut once, mut in_repository) = (None, false, false);
    let (mut pasted, mut reloads, mut kept) = (false, false, false);
    let (mut stop, mut leaves) = (None, None);
    for word in words {
        match word.split_once('=') {
            None if word == "run" => kind = Some(Kind::Run),
            None if word == "given" => kind = Some(Kind::Given),
            None if word == "said" => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                kind = Some(Kind::Said(lines.map(str::to_owned).collect()));
            }
            None if word == "ci" || word == "by-hand" => kind = Some(Kind::NotHere),
            None if word == "once" => once = true,
            None if word == "repo" => in_repository = true,
            None if word == "pasted" => pasted = true,
            None if word == "reloads" => reloads = true,
            None if word == "kept" => kept = true,
            Some(("stop", port)) => stop = Some(port.parse()?),
            Some(("leaves", name)) => leaves = Some(name.to_owned()),
            Some(("serve", port)) => {
                kind = Some(Kind::Serve {
                    port: port.parse()?,
                    once: false,
                })
            }
            Some(("config", file)) => kind = Some(Kind::Config(file.to_owned())),
            _ => bail!("'{word}' means nothing here"),
        }
    }
    let mut kind = kind.context("does not say how it is run")?;
    if let Kind::Serve { once: stopped, .. } = &mut kind {
        *stopped = once;
    }
    Ok(Block {
        line,
        kind,
        in_repository,
        pasted,
        reloads,
        kept,
        stop,
        leaves,
        text,
    })
}

/// Whether `said` has `text` in one of its lines; `…` in it stands for anything.
pub(super) fn has_line(said: &str, text: &str) -> bool {
    said.lines().any(|line| {
        let mut rest = Some(line);
        for part in text.split('…') {
            rest = rest.and_then(|rest| rest.split_once(part.trim()).map(|(_, after)| after));
        }
        rest.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Result<Vec<Block>> {
        document("x.md".to_owned(), text).map(|document| document.blocks)
    }

    #[test]
    fn blocks_are_found_with_what_is_to_be_done() {
        let text = "a\n```sh run\nls\n```\n\n1. b\n   ```yaml config=kes.yml\n   a:\n     b\n   ```\n```text\nx\n```\n\
                    ```sh serve=7373 once repo\nx\n```\n\
                    ```sh run pasted reloads kept stop=7373 leaves=data\nx\n```\n";
        let blocks = blocks(text).unwrap();
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| (block.line, block.text.as_str(), block.in_repository))
            .collect();
        assert_eq!(
            seen,
            [
                (2, "ls\n", false),
                (7, "a:\n  b\n", false),
                (14, "x\n", true),
                (17, "x\n", false)
            ]
        );
        let [_, _, _, last] = &blocks[..] else {
            panic!("{blocks:?}")
        };
        assert!(last.pasted && last.reloads && last.kept && last.stop == Some(7373));
        assert_eq!(last.leaves.as_deref(), Some("data"));
        assert_eq!(blocks[1].kind, Kind::Config("kes.yml".to_owned()));
        assert_eq!(
            blocks[2].kind,
            Kind::Serve {
                port: 7373,
                once: true
            }
        );
    }

    #[test]
    fn a_block_that_says_nothing_is_a_mistake() {
        assert!(blocks("```sh\nls\n```\n").is_err());
        assert!(blocks("```yaml typo\na: b\n```\n").is_err());
        assert!(blocks("<!-- ci: typo -->\n").is_err());
        assert!(blocks("<!-- ci: said -->\nno table\n").is_err());
    }

    #[test]
    fn blocks_in_other_languages_say_what_they_like() {
        assert!(
            blocks("```text vectors\nx\n```\n```rust,no_run\nx\n```\n")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_document_names_its_peers() {
        let text = "# Title\n<!-- ci: peers=vault,kubernetes -->\n";
        let document = document("x.md".to_owned(), text).unwrap();
        assert_eq!(document.peers, [Peer::Vault, Peer::Kubernetes]);
    }

    #[test]
    fn what_is_said_stands_in_a_text_block_or_in_the_first_column_of_a_table() {
        let text =
            "```text said\none\n\ntwo\n```\n<!-- ci: said -->\n| message | |\n|---|---|\n| `a … c` | `b` |\n";
        let kinds: Vec<_> = blocks(text)
            .unwrap()
            .into_iter()
            .map(|block| block.kind)
            .collect();
        let said = |texts: &[&str]| Kind::Said(texts.iter().map(|&text| text.to_owned()).collect());
        assert_eq!(kinds, [said(&["one", "two"]), said(&["a … c"])]);
    }

    #[test]
    fn dots_stand_for_anything_in_one_line() {
        assert!(has_line("x\nkey k1 is gone now\n", "key … is gone"));
        assert!(!has_line("key k1\nis gone", "key … is gone"));
        assert!(!has_line("is gone: key", "key … is gone"));
    }
}
