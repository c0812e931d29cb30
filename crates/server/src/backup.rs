//! A backup on its way to a client: piece by piece, and never with an end that only looks like one.
//!
//! A task takes the pieces from the key store and hands them to the body of the answer, one at a time. It is there so that
//! somebody watches the clock while the client takes nothing, since a body is then not asked for anything. The body ends well
//! only when the task says so; whatever else ends the task breaks the answer off, and clients see that.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use kes_keystore::{Backup, BoxError};
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::connection::{Activity, InProgress};
use crate::log::chain;
use crate::state::Lease;

/// How long a client may take to take a piece, and the key store to give one. The key store keeps a point in time alive
/// meanwhile, which costs it room.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest piece that is handed over at once, so that a slow client is not taken for one that stalls.
const LARGEST: usize = 64 << 10;

/// A backup that has begun, and what its transfer needs.
#[derive(Debug)]
pub(crate) struct Transfer {
    backup: Backup,
    /// The key store is not closed before this is gone.
    lease: Arc<Lease>,
    ended: CancellationToken,
    tasks: TaskTracker,
}

/// `None` is the end.
type Piece = Result<Option<Bytes>, BoxError>;

/// The body of the answer.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    /// Bytes that the client's connection has taken.
    taken: u64,
    is_complete: bool,
    _in_progress: InProgress,
}

impl Transfer {
    /// The transfer of `backup`, which gives up once `ended` is cancelled and runs among `tasks`.
    pub(crate) fn new(
        backup: Backup,
        lease: Arc<Lease>,
        ended: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        Self {
            backup,
            lease,
            ended: ended.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Starts to send. It ends at the latest when the body is dropped.
    pub(crate) fn start(self, in_progress: InProgress) -> Pieces {
        let Self {
            mut backup,
            lease,
            ended,
            tasks,
        } = self;
        let (sender, pieces) = mpsc::channel(1);
        let activity = in_progress.activity();
        tasks.spawn(async move {
            let outcome = send(&mut backup, &sender, &ended).await;
            // The key store is free again from here on.
            drop((backup, lease));
            finish(outcome, &sender, &activity).await;
        });
        Pieces {
            pieces,
            taken: 0,
            is_complete: false,
            _in_progress: in_progress,
        }
    }
}

/// How a transfer ends.
#[derive(Debug)]
enum Outcome {
    /// With all pieces.
    Complete,
    /// The client has gone.
    Gone,
    /// The client is there but takes nothing.
    Stalled,
    /// The key store or the server breaks it off.
    Failed(BoxError),
}

async fn send(backup: &mut Backup, pieces: &mpsc::Sender<Piece>, ended: &CancellationToken) -> Outcome {
    let all = async {
        loop {
            let mut rest = match timeout(PATIENCE, backup.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return Outcome::Failed(error.into()),
                Ok(None) => return Outcome::Complete,
                Err(_) => return Outcome::Failed("the key store takes too long".into()),
            };
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(LARGEST));
                match pieces.send_timeout(Ok(Some(piece)), PATIENCE).await {
                    Ok(()) => {}
                    Err(SendTimeoutError::Closed(_)) => return Outcome::Gone,
                    Err(SendTimeoutError::Timeout(_)) => return Outcome::Stalled,
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = pieces.closed() => Outcome::Gone,
        () = ended.cancelled() => Outcome::Failed("the server stops".into()),
        outcome = all => outcome,
    }
}

/// Lets the client know how it ended, and closes its connection if it does not take even that.
async fn finish(outcome: Outcome, pieces: &mpsc::Sender<Piece>, activity: &Activity) {
    let last = match outcome {
        Outcome::Complete => Ok(None),
        Outcome::Gone => return,
        Outcome::Stalled => return give_up(activity),
        Outcome::Failed(cause) => {
            error!(cause = chain(&*cause), "a backup is broken off");
            Err(cause)
        }
    };
    let is_taken = match pieces.send_timeout(last, PATIENCE).await {
        Ok(()) => timeout(PATIENCE, pieces.closed()).await.is_ok(),
        // A body that is gone needs to be told nothing.
        Err(SendTimeoutError::Closed(_)) => true,
        Err(SendTimeoutError::Timeout(_)) => false,
    };
    if !is_taken {
        give_up(activity);
    }
}

fn give_up(activity: &Activity) {
    warn!(
        seconds = PATIENCE.as_secs(),
        "a client does not take its backup: its connection is closed"
    );
    activity.given_up.notify_one();
}

impl Pieces {
    /// The next piece; `None` at the end, and only there.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if self.is_complete {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Ok(Some(piece))) => {
                self.taken += piece.len() as u64;
                Some(Ok(piece))
            }
            Some(Ok(None)) => {
                self.is_complete = true;
                None
            }
            Some(Err(cause)) => Some(Err(cause)),
            // The task has gone without a word.
            None => Some(Err("the backup was broken off".into())),
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.is_complete {
            info!(bytes = self.taken, "a backup has been sent");
        } else {
            warn!(
                bytes = self.taken,
                "a backup has not been sent to its end: what the client has is of no use"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use kes_keystore::StoreError;
    use tokio::time::{Instant, sleep};

    use super::*;

    const A_MOMENT: Duration = Duration::from_secs(1);

    type Source = mpsc::Sender<Result<Bytes, StoreError>>;

    /// A transfer under way: the store's end, the connection, and the body.
    fn transfer() -> (Source, Arc<Activity>, CancellationToken, Pieces) {
        let (source, backup) = mpsc::channel(1);
        let (sender, pieces) = mpsc::channel(1);
        let (activity, ended) = (Arc::new(Activity::new()), CancellationToken::new());
        let body = Pieces {
            pieces,
            taken: 0,
            is_complete: false,
            _in_progress: activity.begin(),
        };
        tokio::spawn({
            let (activity, ended) = (Arc::clone(&activity), ended.clone());
            async move {
                let mut backup = Backup::new(backup);
                let outcome = send(&mut backup, &sender, &ended).await;
                drop(backup);
                finish(outcome, &sender, &activity).await;
            }
        });
        (source, activity, ended, body)
    }

    async fn next(body: &mut Pieces) -> Option<Result<Bytes, String>> {
        let piece = poll_fn(|cx| body.poll_next(cx)).await;
        piece.map(|piece| piece.map_err(|error| error.to_string()))
    }

    /// How many seconds pass before the connection is given up.
    async fn given_up_after(activity: &Activity) -> u64 {
        let start = Instant::now();
        activity.given_up.notified().await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_well_only_when_the_store_has_said_all() {
        let (source, _, _, mut body) = transfer();
        source.send(Ok("one".into())).await.unwrap();
        assert_eq!(next(&mut body).await, Some(Ok("one".into())));
        drop(source);
        assert_eq!(next(&mut body).await, None);
        assert_eq!(next(&mut body).await, None);

        let (source, _, _, mut body) = transfer();
        source
            .send(Err(StoreError::Corrupt {
                reason: "a page".to_owned(),
            }))
            .await
            .unwrap();
        let broken = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(broken, "the stored value is corrupt: a page");

        let (_source, _, ended, mut body) = transfer();
        ended.cancel();
        assert_eq!(next(&mut body).await, Some(Err("the server stops".to_owned())));

        // Nor when the task ends without a word.
        let (sender, pieces) = mpsc::channel(1);
        body.pieces = pieces;
        drop(sender);
        assert_eq!(
            next(&mut body).await,
            Some(Err("the backup was broken off".to_owned()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_for_a_minute_ends_the_connection() {
        // A piece, the end, and an error.
        let (source, activity, _, _body) = transfer();
        for _ in 0..3 {
            source.send(Ok("one".into())).await.unwrap();
        }
        assert_eq!(given_up_after(&activity).await, 60);
        source.closed().await;

        let (source, activity, _, _body) = transfer();
        drop(source);
        assert_eq!(given_up_after(&activity).await, 60);

        let (source, activity, _, _body) = transfer();
        source
            .send(Err(StoreError::Sealed {
                store: "Here".to_owned(),
            }))
            .await
            .unwrap();
        assert_eq!(given_up_after(&activity).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_piece_a_minute_gets_all_of_them() {
        let (source, activity, _, mut body) = transfer();
        let large = Bytes::from(vec![7; 5 * LARGEST + 1]);
        source.send(Ok(large)).await.unwrap();
        drop(source);
        for number in 0..6 {
            sleep(PATIENCE - A_MOMENT).await;
            let length = next(&mut body).await.unwrap().unwrap().len();
            assert_eq!(length, if number == 5 { 1 } else { LARGEST });
        }
        sleep(PATIENCE - A_MOMENT).await;
        assert_eq!(next(&mut body).await, None);
        drop(body);
        assert!(timeout(2 * PATIENCE, activity.given_up.notified()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_not_waited_for_for_ever_and_let_go_when_the_client_goes() {
        let (source, _, _, mut body) = transfer();
        let start = Instant::now();
        assert_eq!(
            next(&mut body).await,
            Some(Err("the key store takes too long".to_owned()))
        );
        assert_eq!(start.elapsed().as_secs(), 60);
        source.closed().await;

        let (source, _, _, body) = transfer();
        drop(body);
        let start = Instant::now();
        source.closed().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
