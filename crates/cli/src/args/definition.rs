//! The commands and their options.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};

use super::checks::DoctorArgs;
use super::configuration::ConfigCommand;
use super::inspection::{AuditCommand, LogArgs, LogCommand, MetricArgs, PolicyCommand};
use super::stores::{InitArgs, MigrateArgs, StoreCommand};
use crate::output::ColorWhen;

/// A key encryption service.
#[derive(Debug, Parser)]
#[command(
    name = "kes",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    /// Show the version.
    #[arg(short, long)]
    pub(crate) version: bool,
    /// Set up completion in bash or zsh, by a line in the file that it reads when it starts.
    #[arg(long)]
    pub(crate) auto_completion: bool,
    #[arg(short, long, hide = true)]
    pub(crate) update: bool,
    #[command(subcommand)]
    pub(crate) command: Option<TopCommand>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum TopCommand {
    /// Make a folder with everything that a server needs.
    Init(InitArgs),
    /// Start a server.
    Server(ServerArgs),
    /// List keys, identities or policies.
    Ls(LsArgs),
    /// Manage keys, and use them.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Inspect policies.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Make API keys and certificates, and inspect identities.
    #[command(args_conflicts_with_subcommands = true)]
    Identity {
        /// An API key, whose identity is shown; or a file with a certificate or a private key.
        #[arg(value_name = "KEY|FILE")]
        subject: Option<String>,
        #[command(subcommand)]
        command: Option<IdentityCommand>,
    },
    /// Follow the audit log or the error log of a server.
    #[command(args_conflicts_with_subcommands = true)]
    Log {
        #[command(flatten)]
        args: LogArgs,
        #[command(subcommand)]
        command: Option<LogCommand>,
    },
    /// Show the state of the server.
    Status(StatusArgs),
    /// Look for what is wrong with a configuration and its world; exits with 3 for warnings, 1 for errors.
    Doctor(DoctorArgs),
    /// Look after a key store that the server keeps itself.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Convert configuration files of older releases.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the metrics of a server again and again.
    Metric(MetricArgs),
    /// Copy keys between key stores.
    Migrate(MigrateArgs),
    /// Print a script that completes commands and options.
    Completion {
        /// The shell: bash, zsh or fish.
        #[arg(value_parser = Shell::parse)]
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder. It is made if it does not exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Say how to update this program.
    Update(UpdateArgs),
    /// The audit log, under a name that it had until 2020.
    #[command(hide = true)]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Commands under the names that they had until 2022: identity new, identity of and migrate.
    #[command(hide = true)]
    Tool {
        #[command(subcommand)]
        command: ToolCommand,
    },
}

/// Sub-commands that had other names or places until 2022.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolCommand {
    /// Commands under the names that they had until 2022: new and of.
    #[command(hide = true)]
    Identity {
        #[command(subcommand)]
        command: ToolIdentityCommand,
    },
    /// Copy keys between key stores; the name until 2022 of `kes migrate`.
    #[command(hide = true)]
    Migrate(MigrateArgs),
}

/// `kes tool identity`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolIdentityCommand {
    /// Make a private key and a certificate; the name until 2022 of `kes identity new`.
    #[command(hide = true)]
    New(IdentityNewArgs),
    /// Show the identity of certificates or API keys; the name until 2022 of `kes identity of`.
    #[command(hide = true)]
    Of(IdentityOfArgs),
}

/// A shell that completion scripts are made for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "bash" => Self::Bash,
            "zsh" => Self::Zsh,
            "fish" => Self::Fish,
            _ => return Err("want bash, zsh or fish".to_owned()),
        })
    }
}

/// Options of `kes server`.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// A folder that `kes init` has made.
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Make the folder as `kes init` does, if it is empty or does not exist.
    #[arg(long)]
    pub(crate) init: bool,
    /// Listen on this address: IP:PORT, or :PORT for all interfaces.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) addr: Option<String>,
    /// Read the configuration from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Start a server for development: keys in memory, a fresh API key.
    #[arg(long, conflicts_with = "config")]
    pub(crate) dev: bool,
    /// Check the configuration and the files that it names, and stop.
    #[arg(long)]
    pub(crate) check: bool,
    /// Take warnings about the configuration for errors.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Require that memory is locked, so that no key is ever swapped out.
    #[arg(long)]
    pub(crate) mlock: bool,
    /// Do not say what has started.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The admin identity (deprecated: admin.identity in the configuration).
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) root: Option<String>,
    /// Verify client certificates: on or off (deprecated: tls.auth in the configuration).
    #[arg(long, alias = "mtls-auth", value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) auth: Option<String>,
    /// The private key (deprecated: tls.key in the configuration).
    #[arg(long, alias = "tls-key", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The certificate (deprecated: tls.cert in the configuration).
    #[arg(long, alias = "tls-cert", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
}

/// How to reach a server.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connection {
    /// Do not verify the server's certificate.
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Authenticate with this API key.
    #[arg(short = 'a', long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// The server, or several with commas between them.
    #[arg(short, long, value_name = "HOST[:PORT]")]
    pub(crate) server: Option<String>,
}

/// How to reach a server, where `-s` means something else.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConnectionWithoutShortServer {
    /// Do not verify the server's certificate.
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Authenticate with this API key.
    #[arg(short = 'a', long, value_name = "KEY")]
    api_key: Option<String>,
    /// The server, or several with commas between them.
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
}

impl From<ConnectionWithoutShortServer> for Connection {
    fn from(options: ConnectionWithoutShortServer) -> Self {
        let ConnectionWithoutShortServer {
            insecure,
            api_key,
            server,
        } = options;
        Self {
            insecure,
            api_key,
            server,
        }
    }
}

/// Colours.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Color {
    /// When to colour the output: always, auto or never.
    #[arg(long = "color", value_name = "WHEN", value_parser = ColorWhen::parse, default_value = "auto", hide_default_value = true)]
    pub(crate) when: ColorWhen,
}

/// Options of `kes ls`.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// What the names start with.
    pub(crate) prefix: Option<String>,
    /// List identities.
    #[arg(short, long, conflicts_with = "policy")]
    pub(crate) identity: bool,
    /// List policies.
    #[arg(short, long)]
    pub(crate) policy: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// What all commands about keys take.
#[derive(Args, Debug)]
pub(crate) struct KeyOptions {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(short, long, hide = true)]
    pub(crate) enclave: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Sub-commands of `kes key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create keys.
    Create {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Import a key.
    Import {
        name: String,
        /// The key: 32 bytes in base64.
        key: String,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Describe a key.
    Info {
        name: String,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// List keys.
    Ls {
        /// What the names start with.
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// Delete keys. What they have encrypted is lost.
    Rm {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Bring deleted keys back, where the key store keeps them for a while.
    Undelete {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Encrypt a message.
    Encrypt {
        name: String,
        /// The message, as it is.
        message: String,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Decrypt a ciphertext.
    Decrypt {
        name: String,
        /// The ciphertext in base64.
        ciphertext: String,
        /// The context that it was encrypted with, in base64.
        context: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Make a data encryption key.
    Dek {
        name: String,
        /// A context that decryption must repeat, in base64.
        context: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// List keys; the name until 2022 of `kes key ls`.
    #[command(hide = true)]
    List {
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Delete a key; the name until 2022 of `kes key rm`.
    #[command(hide = true)]
    Delete {
        name: String,
        #[command(flatten)]
        options: KeyOptions,
    },
    /// Make a data encryption key; the name until 2022 of `kes key dek`.
    #[command(hide = true)]
    Derive {
        name: String,
        context: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
}

/// Sub-commands of `kes identity`.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Make a private key and a certificate.
    New(IdentityNewArgs),
    /// Show the identity of certificates or API keys.
    Of(IdentityOfArgs),
    /// Describe an identity.
    Info {
        /// The identity; the own one if not given.
        identity: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// List identities.
    Ls {
        /// What the identities start with.
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
        #[command(flatten)]
        color: Color,
    },
    /// List identities; the name until 2022 of `kes identity ls`.
    #[command(hide = true)]
    List {
        pattern: Option<String>,
        #[command(flatten)]
        options: KeyOptions,
    },
}

/// Options of `kes identity new`.
#[derive(Args, Debug)]
pub(crate) struct IdentityNewArgs {
    /// Common name of the certificate.
    pub(crate) subject: Option<String>,
    /// Write the private key to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Write the certificate to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// IP address that the certificate is valid for; may be repeated.
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Vec<String>,
    /// DNS name that the certificate is valid for; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) dns: Vec<String>,
    /// How long the certificate is valid; 720h if not given.
    #[arg(long, alias = "time", short_alias = 't', value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) expiry: Option<Duration>,
    /// Encrypt the private key with a password.
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// Replace existing files.
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(long, hide = true)]
    pub(crate) server: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `kes identity of`.
#[derive(Args, Debug)]
pub(crate) struct IdentityOfArgs {
    /// API keys, or files with a certificate; - for the standard input.
    #[arg(value_name = "KEY|FILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) subjects: Vec<String>,
    #[arg(long, hide = true, value_name = "ALGORITHM")]
    pub(crate) hash: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `kes status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show the endpoint only.
    #[arg(short, long)]
    pub(crate) short: bool,
    /// Show the APIs too.
    #[arg(long)]
    pub(crate) api: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only ask whether the server is ready, at the address of the section `health` of its configuration, without a certificate.
    #[arg(long, value_name = "IP:PORT", value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["short", "api", "json"])]
    pub(crate) health: Option<String>,
    #[command(flatten)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) connection: ConnectionWithoutShortServer,
}

/// Options that `kes update` had.
#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    #[arg(hide = true)]
    pub(crate) version: Option<String>,
    #[arg(short = 'k', long, hide = true)]
    pub(crate) insecure: bool,
    #[arg(short, long, hide = true)]
    pub(crate) downgrade: bool,
    #[arg(short, long, hide = true)]
    pub(crate) output: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) os: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) arch: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) minisign_key: Option<String>,
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match kes_config::duration::parse(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
