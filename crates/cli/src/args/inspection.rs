//! The commands that look into a server, and their options.

use clap::Subcommand;

use super::definition::{Color, KeyOptions};

/// Sub-commands of `kes policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Describe a policy.
    Info {
        name: String,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// List policies.
    Ls {
        /// What the names start with.
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// Show the rules of a policy.
    Show {
        name: String,
        #[command(flatten)]
        options: KeyOptions,
    },
    #[command(hide = true)]
    List {
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
}
