//! Going through a whole backup or store: every value is opened, and the content gets a digest.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kes_keystore::{KeyStore as _, StoreError};
use kes_seal::{HeaderRecord, OpenedHeader, Seals, StoreKey, open_header};
use kes_types::SystemClock;

use crate::ConnectError;
use crate::backup::{BackupError, Content, Decoder, Event, MAGIC, PIECE, hex};
use crate::blocking::blocking;
use crate::disk;
use crate::engine::{Engine, Settings};
use crate::file::FileMedium;
use crate::snapshot::{Snapshot, StoredEntry};

/// What a backup or a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The store's id, in hexadecimal.
    pub store_id: String,
    /// The version of the file's format.
    pub format: u32,
    /// Number of keys.
    pub keys: u64,
    /// Number of deleted keys that can be brought back.
    pub deleted: u64,
    /// SHA-256 of the content (not of the file), in hexadecimal; the same for a backup and the store restored from it.
    pub digest: String,
}

/// Gets the number of entries so far.
pub(crate) type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Opens every value of a backup, or of a store that no server has open. Which of the two `file` is, its first bytes say.
/// Not a byte of it is changed, also when it is a store that was not closed in order. `progress` gets the number of
/// entries so far.
///
/// # Errors
/// When the file is damaged, no seal opens it, or a server has it open.
pub async fn verify(file: &Path, seals: &Seals, progress: Progress) -> Result<Report, ConnectError> {
    let path = file.to_owned();
    if is_backup(path.clone()).await? {
        let mut backup = OpenedBackup::open(path, seals).await?;
        blocking(move || {
            while backup.next()?.is_some() {
                report_progress(&progress, backup.entries(), false);
            }
            report_progress(&progress, backup.entries(), true);
            backup.report()
        })
        .await
    } else {
        verify_store(path, seals, progress).await
    }
}

async fn is_backup(path: PathBuf) -> Result<bool, ConnectError> {
    blocking(move || {
        let mut start = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start))
            .map_err(|source| unreadable(&path, "backup or key store", source))?;
        if start == MAGIC {
            return Ok(true);
        }
        if disk::MAGIC.starts_with(&start) && start.len() == MAGIC.len() {
            return Ok(false);
        }
        Err(ConnectError::Corrupt {
            path,
            reason: "it begins neither like a backup nor like a key store".to_owned(),
        })
    })
    .await
}

async fn verify_store(path: PathBuf, seals: &Seals, progress: Progress) -> Result<Report, ConnectError> {
    let medium = blocking({
        let path = path.clone();
        move || FileMedium::open(&path)
    })
    .await?;
    let settings = Settings {
        path: path.clone(),
        undelete: FOR_EVER,
    };
    let engine = Engine::examine(Arc::new(medium), settings, Arc::new(SystemClock)).await?;
    let result = async {
        let snapshot = engine.snapshot().await.map_err(|source| failed(&path, source))?;
        let (snapshot, record) = blocking({
            let path = path.clone();
            move || match snapshot.header() {
                Ok(record) => Ok((snapshot, record)),
                Err(source) => Err(failed(&path, source)),
            }
        })
        .await?;
        let record = record.ok_or_else(|| ConnectError::Corrupt {
            path: path.clone(),
            reason: "it has no header".to_owned(),
        })?;
        let place = format!("the key store {}", path.display());
        let OpenedHeader { key, .. } = open_header(&place, &record, seals).await?;
        let path = path.clone();
        blocking(move || read_through(&snapshot, &key, &path, &progress)).await
    }
    .await;
    engine.close().await;
    result
}

/// Opens every value of a store.
pub(crate) fn read_through(
    snapshot: &Snapshot,
    key: &StoreKey,
    path: &Path,
    progress: &Progress,
) -> Result<Report, ConnectError> {
    let mut content = Content::new(key.store_id());
    for entry in snapshot.entries().map_err(|source| failed(path, source))? {
        let entry = entry.map_err(|source| failed(path, source))?;
        let corrupt = |reason| ConnectError::Corrupt {
            path: path.to_owned(),
            reason,
        };
        if let Err(error) = key.open_value(entry.name.as_str(), &entry.sealed) {
            return Err(corrupt(format!("the value of key '{}' {error}", entry.name)));
        }
        if !content.entry(&entry) {
            let name = &entry.name;
            return Err(corrupt(format!(
                "key '{name}' is not where it should be in the order of names"
            )));
        }
        report_progress(progress, content.entries(), false);
    }
    report_progress(progress, content.entries(), true);
    Ok(content.finish(kes_seal::FORMAT))
}

/// A backup in a file, with the root key that its values are sealed with.
pub(crate) struct OpenedBackup {
    file: BackupFile,
    record: HeaderRecord,
    key: StoreKey,
    entries: u64,
    report: Option<Report>,
}

impl OpenedBackup {
    /// Reads the beginning, and unwraps the root key in it.
    pub(crate) async fn open(path: PathBuf, seals: &Seals) -> Result<Self, ConnectError> {
        let (file, store_id, record) = blocking(move || {
            let mut file = BackupFile::open(path)?;
            match file.next()? {
                Some(Event::Start { store_id, record }) => Ok((file, store_id, record)),
                _ => Err(file.refused(BackupError::NotABackup)),
            }
        })
        .await?;
        let place = format!("the backup {}", file.path.display());
        let OpenedHeader { key, .. } = open_header(&place, &record, seals).await?;
        if key.store_id() != store_id {
            return Err(file.refused(BackupError::OtherStore {
                said: hex(&store_id),
                found: hex(&key.store_id()),
            }));
        }
        Ok(Self {
            file,
            record,
            key,
            entries: 0,
            report: None,
        })
    }

    pub(crate) const fn record(&self) -> &HeaderRecord {
        &self.record
    }

    pub(crate) const fn key(&self) -> &StoreKey {
        &self.key
    }

    /// How many entries there were so far.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry, whose value opens. `None` means that the backup is whole and genuine; what came before could not be
    /// relied on until then.
    pub(crate) fn next(&mut self) -> Result<Option<StoredEntry>, ConnectError> {
        loop {
            match self.file.next()? {
                Some(Event::Start { .. }) => return Err(self.file.refused(BackupError::NotABackup)),
                Some(Event::Entry(entry)) => {
                    if let Err(source) = self.key.open_value(entry.name.as_str(), &entry.sealed) {
                        let name = entry.name;
                        return Err(self.file.refused(BackupError::Value { name, source }));
                    }
                    self.entries += 1;
                    return Ok(Some(entry));
                }
                Some(Event::End { digest, tag, report }) => {
                    self.key.verify_backup(&digest, &tag).map_err(|source| {
                        self.file.refused(BackupError::Forged {
                            store: report.store_id.clone(),
                            source,
                        })
                    })?;
                    self.report = Some(report);
                }
                None => return Ok(None),
            }
        }
    }

    /// What the backup holds, once it has been read to its end.
    pub(crate) fn report(self) -> Result<Report, ConnectError> {
        self.report.ok_or_else(|| self.file.refused(BackupError::Refused))
    }
}

struct BackupFile {
    path: PathBuf,
    file: File,
    decoder: Decoder,
    chunk: Box<[u8]>,
}

impl BackupFile {
    fn open(path: PathBuf) -> Result<Self, ConnectError> {
        let file = File::open(&path).map_err(|source| unreadable(&path, BACKUP, source))?;
        Ok(Self {
            path,
            file,
            decoder: Decoder::new(),
            chunk: vec![0; PIECE].into_boxed_slice(),
        })
    }

    /// The next part; `None` at the end of the file, if that is the backup's.
    fn next(&mut self) -> Result<Option<Event>, ConnectError> {
        loop {
            if let Some(event) = self.decoder.next().map_err(|error| self.refused(error))? {
                return Ok(Some(event));
            }
            let length = match self.file.read(&mut self.chunk) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.path, BACKUP, error)),
            };
            if length == 0 {
                self.decoder.finish().map_err(|error| self.refused(error))?;
                return Ok(None);
            }
            self.decoder.feed(self.chunk.get(..length).unwrap_or_default());
        }
    }

    fn refused(&self, source: BackupError) -> ConnectError {
        ConnectError::Backup {
            path: self.path.clone(),
            source,
        }
    }
}

/// Now and then, and at the end.
pub(crate) fn report_progress(progress: &Progress, entries: u64, is_end: bool) {
    if is_end || entries.is_multiple_of(256) {
        progress(entries);
    }
}

/// Why `what` cannot be read.
fn unreadable(path: &Path, what: &'static str, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ConnectError::Missing { what, path },
        _ => ConnectError::Io {
            doing: "read",
            path,
            source,
        },
    }
}

pub(crate) fn failed(path: &Path, source: StoreError) -> ConnectError {
    let path = path.to_owned();
    match source {
        StoreError::Corrupt { reason } => ConnectError::Corrupt { path, reason },
        source => ConnectError::Store { path, source },
    }
}

/// For how long deleted keys are kept while nobody should remove any.
pub(crate) const FOR_EVER: Duration = Duration::MAX;

/// What a backup is called where there is none.
const BACKUP: &str = "backup";
