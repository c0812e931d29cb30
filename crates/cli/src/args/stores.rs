//! The commands about key stores, and their options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::definition::{Color, Connection};

/// Options of `kes init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The folder. It is made, unless there is an empty one.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Let the server listen on this address: IP:PORT, or :PORT for all interfaces; 127.0.0.1:7373 if not given.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) addr: Option<String>,
    /// IP address that the certificate is valid for, besides those of this machine for itself; may be repeated.
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Vec<String>,
    /// DNS name that the certificate is valid for, besides those of this machine for itself; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) dns: Vec<String>,
    /// Replace the configuration, the API key and the certificate, but never a key store or a seal.
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(long, hide = true)]
    pub(crate) config: Option<PathBuf>,
}

/// Sub-commands of `kes store`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Describe the key store of a server.
    Info {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        color: Color,
        #[command(flatten)]
        connection: Connection,
    },
    /// Back up the key store of a server, which goes on meanwhile.
    Backup(StoreBackupArgs),
    /// Check a backup, or the file of a key store that no server has open, by opening every value.
    Verify {
        /// The backup or the key store.
        file: PathBuf,
        /// The configuration that names the seal.
        #[arg(long, value_name = "FILE", conflicts_with = "seal")]
        config: Option<PathBuf>,
        /// The file of the seal; may be repeated.
        #[arg(long, value_name = "FILE")]
        seal: Vec<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key store out of a backup, where there is none.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The configuration that names the key store and its seal.
        #[arg(long, value_name = "FILE", required = true)]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seal the key store as its configuration says, while no server has it open.
    Reseal {
        /// The configuration that names the key store and its seals.
        #[arg(long, value_name = "FILE", required = true)]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Options of `kes store backup`.
#[derive(Args, Debug)]
pub(crate) struct StoreBackupArgs {
    /// The file to write.
    pub(crate) out: PathBuf,
    /// Replace an existing file.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Options of `kes migrate`.
#[derive(Args, Debug, Default)]
pub(crate) struct MigrateArgs {
    /// Which keys: a name with *, ? and [...]; all if not given.
    pub(crate) pattern: Option<String>,
    /// The configuration of the key store to copy from.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) from: PathBuf,
    /// The configuration of the key store to copy to.
    #[arg(long, alias = "target", value_name = "FILE", conflicts_with_all = ["server", "enclave", "api_key", "insecure"])]
    pub(crate) to: Option<PathBuf>,
    /// Replace keys that the target has already.
    #[arg(short, long, conflicts_with = "merge")]
    pub(crate) force: bool,
    /// Leave keys that the target has already, if they are the same.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Say what would be copied, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(short, long, hide = true)]
    pub(crate) server: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) enclave: Option<String>,
    #[arg(short = 'a', long, hide = true)]
    pub(crate) api_key: Option<String>,
    #[arg(short = 'k', long, hide = true)]
    pub(crate) insecure: bool,
}
