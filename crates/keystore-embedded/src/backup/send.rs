//! The backup of a running store: a thread that reads a snapshot, a few pieces on their way, and whoever takes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kes_keystore::{Backup, BoxError, StoreError};
use kes_seal::{HeaderRecord, StoreKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::encode::Encoder;
use crate::snapshot::{Snapshot, StoredEntry};

/// How long a piece waits to be taken. After that the backup ends: it would keep the space of everything that is deleted
/// or replaced meanwhile from being used again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pieces between the thread that reads and the task that hands out. With the one in its hand and [`HANDED_OUT`], four are
/// on their way at most.
const READ_AHEAD: usize = 1;
/// Pieces that wait to be taken.
const HANDED_OUT: usize = 2;

/// One point in time of a store.
pub(crate) trait Source: Send + 'static {
    /// The header as of then.
    fn header(&self) -> Result<HeaderRecord, StoreError>;
    /// Every entry, in the order of their names.
    fn entries(&self) -> Result<impl Iterator<Item = Result<StoredEntry, StoreError>>, StoreError>;
}

impl Source for Snapshot {
    fn header(&self) -> Result<HeaderRecord, StoreError> {
        Self::header(self)?.ok_or_else(|| StoreError::Corrupt {
            reason: "the store has no header".to_owned(),
        })
    }

    fn entries(&self) -> Result<impl Iterator<Item = Result<StoredEntry, StoreError>>, StoreError> {
        Self::entries(self)
    }
}

/// The backups of a store: one at a time.
#[derive(Debug)]
pub(crate) struct Backups {
    turn: Arc<Semaphore>,
}

impl Backups {
    pub(crate) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Begins a backup of what `snapshot` gives. `completed` runs when the last piece was taken, and before whoever took it
    /// learns that it was the last.
    pub(crate) async fn begin(
        &self,
        store: String,
        key: Arc<StoreKey>,
        snapshot: impl Future<Output = Result<impl Source, StoreError>>,
        completed: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Backup, StoreError> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(StoreError::Throttled {
                store: format!("{store}, of which another backup is being made,"),
                retry_after: None,
            });
        };
        let turn = Arc::new(turn);
        let source = snapshot.await?;
        let (pieces, taking) = mpsc::channel(HANDED_OUT + 1);
        let end = End::reserve(store.clone(), pieces.clone())?;

        let (read, reading) = mpsc::channel(READ_AHEAD);
        let producer = spawn_blocking({
            let turn = Arc::clone(&turn);
            move || {
                let last = match produce(&store, &source, &key, &read) {
                    Ok(()) => Message::Complete,
                    Err(Stop::Unwanted) => return,
                    Err(Stop::Failed(error)) => Message::Failed(error),
                };
                drop(source);
                drop(turn);
                // Whoever asked may have gone away, which is no concern of this thread's.
                drop(read.blocking_send(last));
            }
        });
        // Ends when the pieces are not taken any more, after some patience.
        tokio::spawn(hand_out(producer, reading, pieces, end, turn, completed));
        Ok(Backup::new(taking))
    }

    /// Whether a backup could begin now.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.turn.available_permits() == 1
    }
}

/// What comes from the thread that reads.
#[derive(Debug)]
enum Message {
    Piece(Bytes),
    Complete,
    Failed(StoreError),
}

/// Why the thread that reads does not go on.
enum Stop {
    /// Nobody takes the pieces.
    Unwanted,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

fn produce(
    store: &str,
    source: &impl Source,
    key: &StoreKey,
    out: &mpsc::Sender<Message>,
) -> Result<(), Stop> {
    let failed = |error: BoxError| {
        Stop::Failed(StoreError::Backend {
            store: store.to_owned(),
            source: error,
        })
    };
    let send = |piece| {
        out.blocking_send(Message::Piece(piece))
            .map_err(|_| Stop::Unwanted)
    };
    let mut encoder = Encoder::new(key.store_id(), &source.header()?).map_err(failed)?;
    for entry in source.entries()? {
        encoder.entry(&entry?).map_err(failed)?;
        while let Some(piece) = encoder.piece() {
            send(piece)?;
        }
    }
    let pieces = encoder
        .finish(|digest| key.authenticate_backup(digest))
        .map_err(failed)?;
    pieces.into_iter().try_for_each(send)
}

/// Passes the pieces on as they are taken.
async fn hand_out(
    producer: JoinHandle<()>,
    mut reading: mpsc::Receiver<Message>,
    pieces: mpsc::Sender<Result<Bytes, StoreError>>,
    end: End,
    turn: Arc<OwnedSemaphorePermit>,
    completed: impl Future<Output = ()> + Send,
) {
    let outcome = pass_on(&mut reading, &pieces, &end.store).await;
    // The snapshot is gone, and the next backup may begin, before anybody learns that this one has ended.
    drop(reading);
    if producer.await.is_err() {
        tracing::error!(store = %end.store, "a backup ended with a panic");
    }
    if outcome.is_ok() {
        completed.await;
    }
    drop(turn);
    end.with(outcome);
}

async fn pass_on(
    reading: &mut mpsc::Receiver<Message>,
    pieces: &mpsc::Sender<Result<Bytes, StoreError>>,
    store: &str,
) -> Result<(), StoreError> {
    let stalled = || {
        tracing::warn!(
            store,
            "a backup ended before its end, because nobody took the next piece for {} s",
            PATIENCE.as_secs()
        );
        failed(store, "nobody took the next piece of the backup for too long")
    };
    let unwanted = || failed(store, "nobody wants the backup any more");
    loop {
        let message = tokio::select! {
            message = reading.recv() => message,
            () = pieces.closed() => return Err(unwanted()),
        };
        match message {
            Some(Message::Piece(piece)) => match timeout(PATIENCE, pieces.reserve()).await {
                Ok(Ok(place)) => place.send(Ok(piece)),
                Ok(Err(_)) => return Err(unwanted()),
                Err(_) => return Err(stalled()),
            },
            Some(Message::Complete) => {
                // Every place is free when every piece was taken.
                return match timeout(PATIENCE, pieces.reserve_many(HANDED_OUT)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(_)) => Err(unwanted()),
                    Err(_) => Err(stalled()),
                };
            }
            Some(Message::Failed(error)) => {
                tracing::error!(store, error = &error as &dyn std::error::Error, "a backup failed");
                return Err(error);
            }
            None => return Err(failed(store, "the backup ended too early")),
        }
    }
}

/// A place that is kept free for the end: pieces that just stop coming would look like a complete backup.
struct End {
    store: String,
    place: Option<mpsc::OwnedPermit<Result<Bytes, StoreError>>>,
}

impl End {
    fn reserve(store: String, pieces: mpsc::Sender<Result<Bytes, StoreError>>) -> Result<Self, StoreError> {
        let place = pieces
            .try_reserve_owned()
            .map_err(|_| failed(&store, "the backup could not be begun"))?;
        Ok(Self {
            store,
            place: Some(place),
        })
    }

    fn with(mut self, outcome: Result<(), StoreError>) {
        let Some(place) = self.place.take() else { return };
        if let Err(error) = outcome {
            place.send(Err(error));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Err(failed(&self.store, "the backup was stopped")));
        }
    }
}

fn failed(store: &str, why: &'static str) -> StoreError {
    StoreError::Backend {
        store: store.to_owned(),
        source: why.into(),
    }
}
