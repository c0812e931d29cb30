//! The commands that look into a server, and their options.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::checks::PolicyTestArgs;
use super::definition::{Color, Connection, KeyOptions, positive_duration};

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
    /// Say whether requests are allowed, and by which rule; exits with 1 when one is not as expected.
    Test(PolicyTestArgs),
    /// List policies; the name until 2022 of `kes policy ls`.
    #[command(hide = true)]
    List {
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
}

/// Options of `kes log`.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// Follow the audit log. This is the default.
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) audit: Option<bool>,
    /// Follow the error log.
    #[arg(long)]
    pub(crate) error: bool,
    /// Print JSON, one event a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Sub-commands that `kes log` had until 2022.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Follow a log, or the metrics; the name until 2022 of `kes log` and `kes metric`.
    #[command(hide = true)]
    Trace(LogTraceArgs),
}

/// Options of `kes log trace`.
#[derive(Args, Debug)]
pub(crate) struct LogTraceArgs {
    /// What to follow.
    #[arg(long = "type", value_name = "WHAT", value_parser = ["audit", "error", "metric"], default_value = "audit")]
    pub(crate) kind: String,
    /// How often the server is asked for its metrics; 3s if not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) rate: Option<Duration>,
    /// Print JSON, one event a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Options of `kes metric`.
#[derive(Args, Debug)]
pub(crate) struct MetricArgs {
    /// How often the server is asked; 5s if not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) rate: Option<Duration>,
    #[command(flatten)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Sub-commands that `kes audit` had until 2020.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Follow the audit log; the name until 2020 of `kes log`.
    #[command(hide = true)]
    Trace {
        /// Print JSON, one event a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        connection: Connection,
    },
}
