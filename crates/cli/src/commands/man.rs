//! `kes man`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;

use crate::args;
use crate::failure::Outcome;
use crate::files::{Existing, NewFile, Prepared};
use crate::version::VERSION;

/// Writes a manual page of each command into `folder`, which is made if it does not exist.
pub(crate) fn run(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(write(&args::visible(), folder)?)
}

fn write(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("KES {VERSION}"))
        .render(&mut page)?;
    Prepared::new(NewFile {
        path: &path,
        content: &page,
        mode: 0o644,
    })?
    .appear(Existing::Replace)?;
    command
        .get_subcommands()
        .try_for_each(|command| write(command, folder))
}
