//! The commands about configuration files, and their options.

use std::path::PathBuf;

use clap::Subcommand;

/// Sub-commands of `kes config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a configuration file of any release, YAML or TOML, in the current form.
    Convert {
        /// The configuration file, which is not changed. Its comments are not kept.
        file: PathBuf,
    },
}
