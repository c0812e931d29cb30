//! Making a store out of a backup.

use std::path::Path;
use std::sync::Arc;

use kes_keystore::KeyStore as _;
use kes_seal::HeaderStore as _;
use kes_types::Clock;

use crate::blocking::blocking;
use crate::engine::{Engine, Settings};
use crate::file::NewFile;
use crate::snapshot::StoredEntry;
use crate::verify::{FOR_EVER, OpenedBackup, Progress, Report, failed, read_through, report_progress};
use crate::{Config, ConnectError};

/// Makes a store out of a backup, where there is none. It is the store that the backup was made of: it has its id, its
/// seals, its keys and its deleted keys with their times.
///
/// The store is written under another name beside `config.path`, read again, and gets its name when that is done: every value
/// has been opened and the whole backup has been checked before it appears. `progress` gets the number of entries so far.
///
/// # Errors
/// When there is something at `config.path`, the backup is not whole and genuine, no seal opens it, or the store cannot be
/// written. Nothing is left behind then.
pub async fn restore(
    backup: &Path,
    config: Config,
    clock: Arc<dyn Clock>,
    progress: Progress,
) -> Result<Report, ConnectError> {
    // For how long deleted keys are kept matters when the store is opened.
    let Config {
        path,
        seals,
        undelete: _,
    } = config;
    if path.symlink_metadata().is_ok() {
        return Err(ConnectError::Exists { path });
    }
    let mut backup = OpenedBackup::open(backup.to_owned(), &seals).await?;
    let new = blocking({
        let path = path.clone();
        move || NewFile::create(&path)
    })
    .await?;
    let settings = Settings {
        path: path.clone(),
        undelete: FOR_EVER,
    };
    let engine = Engine::create_on(new.medium(), settings, clock).await?;
    let written = async {
        engine
            .replace_header(None, backup.record())
            .await
            .map_err(|source| failed(&path, source))?;
        loop {
            let (batch, read_on) = {
                let progress = Arc::clone(&progress);
                blocking(move || read_batch(backup, &progress)).await?
            };
            backup = read_on;
            if batch.is_empty() {
                break;
            }
            engine.load(batch).await.map_err(|source| failed(&path, source))?;
        }
        // What the disk has kept is what counts.
        let snapshot = engine.snapshot().await.map_err(|source| failed(&path, source))?;
        let path = path.clone();
        blocking(move || {
            let quiet: Progress = Arc::new(|_| ());
            let written = read_through(&snapshot, backup.key(), &path, &quiet)?;
            let report = backup.report()?;
            if written.digest != report.digest {
                let reason = "what was written is not what is read from it".to_owned();
                return Err(ConnectError::Corrupt { path, reason });
            }
            Ok(report)
        })
        .await
    }
    .await;
    engine.close().await;
    let report = written?;
    blocking(move || new.publish()).await?;
    Ok(report)
}

/// As many entries as are worth a commit; none at the end of the backup.
fn read_batch(
    mut backup: OpenedBackup,
    progress: &Progress,
) -> Result<(Vec<StoredEntry>, OpenedBackup), ConnectError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
        let Some(entry) = backup.next()? else {
            report_progress(progress, backup.entries(), true);
            break;
        };
        report_progress(progress, backup.entries(), false);
        bytes += entry.sealed.len();
        batch.push(entry);
    }
    Ok((batch, backup))
}

/// A commit takes some fsyncs, which this many entries share; they are kept in memory meanwhile.
const BATCH_ENTRIES: usize = 16 * 1024;
/// As [`BATCH_ENTRIES`], for large values. One more value than this is kept at most.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
