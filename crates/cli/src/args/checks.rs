//! The commands that look for what is wrong before a server or a client does, and their options.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::definition::{Color, Connection};

/// Options of `kes doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// A folder that `kes init` has made.
    #[arg(value_name = "DIR", required_unless_present = "config")]
    pub(crate) directory: Option<PathBuf>,
    /// Examine this configuration file.
    #[arg(long, value_name = "FILE", conflicts_with = "directory")]
    pub(crate) config: Option<PathBuf>,
    /// A host name or IP address, with or without a port, under which clients reach the server; may be repeated.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) address: Vec<String>,
    /// A certificate or API key of a client, whose identity the policies should know; may be repeated.
    #[arg(long, value_name = "KEY|FILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) client_cert: Vec<String>,
    /// Make a key with a random name in the key store, read it, list it and delete it again. Without this, nothing is changed.
    #[arg(long)]
    pub(crate) write: bool,
    /// Do not look at the key store, and do not ask the running server: examine files only.
    #[arg(long, conflicts_with = "write")]
    pub(crate) offline: bool,
    /// Take warnings for errors.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Leave out what is fine.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) color: Color,
}

/// Options of `kes policy test`.
#[derive(Args, Debug)]
pub(crate) struct PolicyTestArgs {
    /// The method of the request, such as PUT.
    #[arg(required_unless_present = "table")]
    pub(crate) method: Option<String>,
    /// The path of the request, such as /v1/key/create/my-key.
    #[arg(required_unless_present = "table")]
    pub(crate) path: Option<String>,
    /// What should come of it: allow, deny, or none where there is no such request; allow if not given.
    pub(crate) expected: Option<String>,
    /// Read admin, policies and opened paths from this configuration file, or from that in this folder. All of it must be right.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy_file", "server"])]
    pub(crate) config: Option<PathBuf>,
    /// Read them from this file, of which nothing else is looked at.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) policy_file: Option<PathBuf>,
    /// Ask on behalf of whoever has this policy.
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["identity", "nobody"])]
    pub(crate) policy: Option<String>,
    /// Ask on behalf of this identity, or that of this API key or of the certificate in this file.
    #[arg(short, long, value_name = "IDENTITY|KEY|FILE", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "nobody")]
    pub(crate) identity: Option<String>,
    /// Ask on behalf of a client without a certificate.
    #[arg(long)]
    pub(crate) nobody: bool,
    /// Test every line of this file: METHOD PATH allow|deny|none, and WHO if that differs; - for the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "method")]
    pub(crate) table: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) connection: Connection,
}
