//! The programs that the tests talk to: built once from their pinned releases, kept outside the repository.

use std::path::PathBuf;

use anyhow::Result;
use kes_peers::install::go_program;

/// MinIO Server and its client. Both are AGPL: they are run as programs, never read or linked.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) minio: PathBuf,
    pub(crate) mc: PathBuf,
}

impl Peers {
    /// Finds the peers in the user's cache, building what is missing.
    pub(crate) fn install() -> Result<Self> {
        Ok(Self {
            minio: go_program("github.com/minio/minio", MINIO)?,
            mc: go_program("github.com/minio/mc", MC)?,
        })
    }
}

/// The last releases that the Go module proxy serves.
const MINIO: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";
const MC: &str = "v0.0.0-20250313080218-cf909e1063a9";
