//! MinIO Server and its client. Both are AGPL: they are run as programs, never read or linked.

use std::path::PathBuf;

use anyhow::Result;

use crate::install::go_program;

/// The program `minio`, which is MinIO Server.
///
/// # Errors
///
/// If it cannot be built.
pub fn minio() -> Result<PathBuf> {
    go_program("github.com/minio/minio", MINIO)
}

/// The command `mc`, its client.
///
/// # Errors
///
/// If it cannot be built.
pub fn mc() -> Result<PathBuf> {
    go_program("github.com/minio/mc", MC)
}

/// The last releases that the Go module proxy serves.
const MINIO: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";
const MC: &str = "v0.0.0-20250313080218-cf909e1063a9";
