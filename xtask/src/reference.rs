//! The parts of the documents that are written by programs: the keys of the configuration file, the commands, the metrics.
//!
//! A part stands between `<!-- generated: NAME, by cargo xtask reference -->` and `<!-- end of what is generated -->`.
//! `cargo xtask reference` writes these parts anew; `cargo xtask test docs` fails if one is not what would be written.

mod commands;
mod configuration;
mod metrics;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// A document, the name of a part of it, and what writes that part with the executable `kes` at hand.
type Part = (&'static str, &'static str, fn(&Path) -> Result<String>);

const PARTS: [Part; 6] = [
    ("docs/configuration.md", "keys", |_| Ok(configuration::keys())),
    ("docs/configuration.md", "older keys", |_| {
        Ok(configuration::older())
    }),
    ("docs/keystores/vault.md", "keys", |_| {
        configuration::section("keystore.vault", "vault.md")
    }),
    ("docs/keystores/aws.md", "keys", |_| {
        configuration::section("keystore.aws.secretsmanager", "aws.md")
    }),
    ("docs/commands.md", "commands", commands::all),
    ("docs/operating.md", "metrics", metrics::table),
];

/// The command that writes all parts, for messages.
const COMMAND: &str = "cargo xtask reference";

/// Writes all parts anew.
pub(crate) fn write() -> Result<()> {
    let kes = cargo::build_kes()?;
    for (document, name, generate) in PARTS {
        let path = cargo::root().join(document);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {document}"))?;
        let new = replaced(&text, name, &generate(&kes)?).context(document)?;
        if new != text {
            fs::write(&path, new).with_context(|| format!("writing {document}"))?;
            println!("{document}: '{name}' is written anew");
        }
    }
    Ok(())
}

/// Fails if a part is not what would be written.
pub(crate) fn check(kes: &Path) -> Result<()> {
    let mut old = Vec::new();
    for (document, name, generate) in PARTS {
        let text = fs::read_to_string(cargo::root().join(document))
            .with_context(|| format!("reading {document}"))?;
        let new = replaced(&text, name, &generate(kes)?).context(document)?;
        if let Some((is, was)) = new.lines().zip(text.lines()).find(|(is, was)| is != was) {
            old.push(format!(
                "{document}: '{name}' has\n  {was}\nand should have\n  {is}"
            ));
        } else if new != text {
            old.push(format!("{document}: '{name}' has lines too many or too few"));
        }
    }
    ensure!(
        old.is_empty(),
        "{}\nrun `{COMMAND}` and commit what it writes",
        old.join("\n")
    );
    Ok(())
}

/// `text` with `content` as the part of this name.
fn replaced(text: &str, name: &str, content: &str) -> Result<String> {
    const END: &str = "<!-- end of what is generated -->";
    let begin = format!("<!-- generated: {name}, by {COMMAND} -->\n");
    let Some((before, rest)) = text.split_once(&begin) else {
        bail!("there is no line {begin:?}");
    };
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("'{name}' has no end: {END}"))?;
    Ok(format!("{before}{begin}\n{}\n\n{END}{after}", content.trim()))
}

/// A row of a table.
fn row<const N: usize>(cells: [&str; N]) -> String {
    format!("| {} |\n", cells.join(" | ").replace("  ", " "))
}

/// A value in backticks, for a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_between_its_lines() {
        let begin = "<!-- generated: x, by cargo xtask reference -->\n";
        let end = "<!-- end of what is generated -->";
        let text = format!("a\n{begin}old\n{end}\nb\n");
        assert_eq!(
            replaced(&text, "x", "new\n").unwrap(),
            format!("a\n{begin}\nnew\n\n{end}\nb\n")
        );
        assert!(replaced(&text, "y", "").is_err());
        assert!(replaced(begin, "x", "").is_err());
    }
}
