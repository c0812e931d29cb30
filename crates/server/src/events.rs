//! Ordered streams of lines: to the console, and to whoever follows them over HTTP.
//!
//! An event is serialised once and fanned out under one lock, so that everybody sees the same order. The console's queue is
//! bounded in bytes; who must not lose an event waits for room. The flusher is a task of the same runtime: it is woken by
//! the first event, yields once, and writes what has gathered by then, since waking a thread for each event costs several
//! times what the event does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, sleep};
use tracing::error;

/// Bytes that wait for a slow console.
const CONSOLE_CAPACITY: usize = 4 << 20;
/// Events that wait for a slow follower.
const FOLLOWER_CAPACITY: usize = 1024;
/// What a pipe that is writable takes without blocking (`PIPE_BUF` on Linux).
const CHUNK: usize = 4096;
/// Pause after a console failed to take a line, such as on a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// One failed write in so many is logged, that is, one a minute.
const RETRIES_LOGGED: u64 = 60;

/// Where a console writes.
#[derive(Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Some other file, pipe or socket.
    Fd(OwnedFd),
}

impl Target {
    fn open(self) -> io::Result<Output> {
        let fd = match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
            Self::Fd(fd) => fd,
        };
        // Regular files cannot be polled and do not need to be: they never block for long.
        if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_file() {
            return Ok(Output::File(fd));
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that lie about their descriptor; OwnedFd does not"
        )]
        let registered = AsyncFd::try_with_interest(fd, Interest::WRITABLE);
        Ok(match registered {
            Ok(pollable) => Output::Pollable(pollable),
            // Some devices, such as /dev/null, cannot be polled either.
            Err(error) => Output::File(error.into_parts().0),
        })
    }
}

enum Output {
    File(OwnedFd),
    Pollable(AsyncFd<OwnedFd>),
}

impl Output {
    /// Writes some of `bytes`. The descriptor is shared with other processes, so it is never made non-blocking: a pipe is
    /// asked first, and given no more than it takes.
    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(fd) => Ok(rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?),
            Self::Pollable(fd) => loop {
                let mut ready = fd.writable().await?;
                let mut asked = [PollFd::new(fd.get_ref(), PollFlags::OUT)];
                let now = rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                rustix::io::retry_on_intr(|| poll(&mut asked, Some(&now)))?;
                let [asked] = asked;
                if !asked
                    .revents()
                    .intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP)
                {
                    ready.clear_ready();
                    continue;
                }
                let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
                match rustix::io::retry_on_intr(|| rustix::io::write(fd.get_ref(), chunk)) {
                    Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                    written => return Ok(written?),
                }
            },
        }
    }
}

/// The console's end of a stream.
#[derive(Debug)]
pub struct Console {
    queue: Mutex<Vec<u8>>,
    in_flight: AtomicUsize,
    pending: Notify,
    room: Notify,
}

impl Console {
    /// An empty queue, which [`Console::run`] writes out.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Vec::new()),
            in_flight: AtomicUsize::new(0),
            pending: Notify::new(),
            room: Notify::new(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Vec<u8>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `line` if there is room.
    fn offer(&self, line: &[u8]) -> bool {
        let mut queue = self.queue();
        if queue.len() >= CONSOLE_CAPACITY {
            return false;
        }
        queue.extend_from_slice(line);
        drop(queue);
        self.pending.notify_one();
        true
    }

    /// Writes what is queued to `target`, for ever. A line that cannot be written is tried again: nothing is left out.
    ///
    /// # Errors
    /// When the target cannot be opened.
    pub async fn run(self: Arc<Self>, target: Target) -> io::Result<()> {
        let output = target.open()?;
        let mut batch = Vec::new();
        loop {
            self.pending.notified().await;
            tokio::task::yield_now().await;
            {
                let mut queue = self.queue();
                std::mem::swap(&mut *queue, &mut batch);
                self.in_flight.store(batch.len(), Ordering::SeqCst);
            }
            self.room.notify_waiters();
            let mut rest = batch.as_slice();
            let mut failures: u64 = 0;
            while !rest.is_empty() {
                match output.write(rest).await {
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(error) => {
                        if failures.is_multiple_of(RETRIES_LOGGED) {
                            error!(cause = %error, "an output cannot be written: trying again; if it is the audit log's, requests wait and then fail");
                        }
                        failures += 1;
                        sleep(RETRY).await;
                    }
                }
            }
            self.in_flight.store(0, Ordering::SeqCst);
            self.room.notify_waiters();
            batch.clear();
            if batch.capacity() > CONSOLE_CAPACITY / 4 {
                batch = Vec::new();
            }
        }
    }

    /// Waits until everything queued has been written.
    pub async fn drained(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.queue().is_empty() && self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            room.await;
        }
    }
}

/// What becomes of a follower that cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Its stream ends, since a gap must not go unnoticed and there is no way to tell.
    Close,
    /// It misses events and is told how many.
    Tell,
}

/// One stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    console: Arc<Console>,
    followers: Mutex<Vec<Follower>>,
    following: AtomicUsize,
    overflow: Overflow,
}

#[derive(Debug)]
struct Follower {
    sender: mpsc::Sender<Bytes>,
    missed: u64,
}

impl Events {
    pub(crate) fn new(console: Arc<Console>, overflow: Overflow) -> Self {
        Self {
            console,
            followers: Mutex::default(),
            following: AtomicUsize::new(0),
            overflow,
        }
    }

    /// Whether anybody follows the stream over HTTP.
    pub(crate) fn is_followed(&self) -> bool {
        self.following.load(Ordering::Relaxed) > 0
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the stream from now on, until the receiver is dropped.
    pub(crate) fn follow(&self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(FOLLOWER_CAPACITY);
        let mut followers = self.followers();
        followers.retain(|follower| !follower.sender.is_closed());
        followers.push(Follower { sender, missed: 0 });
        self.following.store(followers.len(), Ordering::Relaxed);
        receiver
    }

    /// Ends all followers' streams.
    pub(crate) fn close(&self) {
        self.followers().clear();
        self.following.store(0, Ordering::Relaxed);
    }

    /// Sends `line` to the console, waiting for room, and then to the followers.
    pub(crate) async fn publish(&self, line: Vec<u8>, to_console: bool) {
        while to_console && !self.console.offer(&line) {
            let mut room = std::pin::pin!(self.console.room.notified());
            room.as_mut().enable();
            if self.console.queue().len() >= CONSOLE_CAPACITY {
                room.await;
            }
        }
        if self.is_followed() {
            self.fan_out(&Bytes::from(line));
        }
    }

    /// Sends `line` to the console unless its queue is full, which is then `false`.
    pub(crate) fn offer_to_console(&self, line: &[u8]) -> bool {
        self.console.offer(line)
    }

    /// Sends `line` to everybody who follows the stream over HTTP.
    pub(crate) fn fan_out(&self, line: &Bytes) {
        let mut followers = self.followers();
        followers.retain_mut(|follower| {
            if follower.missed > 0 {
                let told = format!(
                    "{{\"message\":\"{} events were dropped: this reader is too slow\"}}\n",
                    follower.missed
                );
                match follower.sender.try_send(told.into()) {
                    Ok(()) => follower.missed = 0,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        follower.missed += 1;
                        return true;
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return false,
                }
            }
            match follower.sender.try_send(line.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    follower.missed += 1;
                    self.overflow == Overflow::Tell
                }
            }
        });
        self.following.store(followers.len(), Ordering::Relaxed);
    }

    pub(crate) fn console(&self) -> &Arc<Console> {
        &self.console
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn pipe() -> (io::PipeReader, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, writer.into())
    }

    #[tokio::test]
    async fn lines_come_out_in_order_and_whole() {
        let (mut reader, writer) = pipe();
        let console = Console::new();
        let events = Events::new(Arc::clone(&console), Overflow::Close);
        let flusher = tokio::spawn(Arc::clone(&console).run(Target::Fd(writer)));
        let collected = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let mut expected = String::new();
        for n in 0..5000 {
            let line = format!("{n} {}\n", "x".repeat(n % 97));
            expected.push_str(&line);
            events.publish(line.into_bytes(), true).await;
        }
        console.drained().await;
        flusher.abort();
        assert!(flusher.await.unwrap_err().is_cancelled());
        assert_eq!(collected.join().unwrap().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_stalled_console_makes_writers_wait_and_loses_nothing() {
        let (mut reader, writer) = pipe();
        let console = Console::new();
        let events = Arc::new(Events::new(Arc::clone(&console), Overflow::Close));
        let flusher = tokio::spawn(Arc::clone(&console).run(Target::Fd(writer)));
        let line = vec![b'x'; 64 << 10];
        let count = 2 * CONSOLE_CAPACITY / line.len() + 40;
        let publisher = tokio::spawn({
            let (events, line) = (Arc::clone(&events), line.clone());
            async move {
                for _ in 0..count {
                    events.publish(line.clone(), true).await;
                }
            }
        });
        // The queue fills up, the pipe is full, and the publisher waits.
        while console.queue().len() < CONSOLE_CAPACITY {
            tokio::task::yield_now().await;
        }
        assert!(!publisher.is_finished());

        let collected = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        publisher.await.unwrap();
        console.drained().await;
        flusher.abort();
        assert!(flusher.await.unwrap_err().is_cancelled());
        assert_eq!(collected.join().unwrap().unwrap().len(), count * line.len());
    }

    #[tokio::test]
    async fn a_slow_follower_is_cut_off_or_told() {
        for overflow in [Overflow::Close, Overflow::Tell] {
            let events = Events::new(Console::new(), overflow);
            let mut slow = events.follow();
            for _ in 0..FOLLOWER_CAPACITY + 3 {
                events.publish(b"{}\n".to_vec(), false).await;
            }
            for _ in 0..FOLLOWER_CAPACITY {
                assert_eq!(slow.recv().await.unwrap(), "{}\n");
            }
            match overflow {
                Overflow::Close => {
                    assert_eq!(slow.recv().await, None);
                    assert!(!events.is_followed());
                }
                Overflow::Tell => {
                    events.publish(b"{}\n".to_vec(), false).await;
                    let told = slow.recv().await.unwrap();
                    assert!(
                        told.starts_with(b"{\"message\":\"3 events were dropped"),
                        "{told:?}"
                    );
                    assert_eq!(slow.recv().await.unwrap(), "{}\n");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_follower_that_went_away_is_forgotten() {
        let events = Events::new(Console::new(), Overflow::Close);
        drop(events.follow());
        assert!(events.is_followed());
        events.publish(b"{}\n".to_vec(), false).await;
        assert!(!events.is_followed());
    }
}
