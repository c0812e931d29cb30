//! The one thread that writes: it takes what has gathered, commits it at once, and then answers everybody.
//!
//! It is also who replaces the database by another one when it has failed, so that there is one order of things.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kes_keystore::StoreError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::engine::Shared;
use crate::fault::{Fault, contain};
use crate::ops::{Op, Tables, Times, oldest_deletion};
use crate::snapshot::{self, store_error};
use crate::tables::{self, Entries};
use crate::view::View;

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Job {
    Write(Write),
    /// To replace the view of this number if it is still the current one, because it does not work any more.
    Replace {
        view: u64,
        done: oneshot::Sender<()>,
    },
    /// To remove what is over; some of it is gone when that is done, the rest follows.
    Purge {
        done: oneshot::Sender<()>,
    },
    /// To end.
    Close {
        done: oneshot::Sender<()>,
    },
}

/// A write, and who waits for its end.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) op: Op,
    pub(crate) answer: oneshot::Sender<Result<(), StoreError>>,
    /// Its place in the queue.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The state of the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    /// Why writes fail, as the log was told.
    trouble: Option<String>,
    /// Whether entries that were over could not be removed, as the log was told.
    purge_failed: bool,
}

impl Writer {
    pub(crate) const fn new(shared: Arc<Shared>, jobs: Receiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            trouble: None,
            purge_failed: false,
        }
    }

    /// Runs until it is told to end, or nobody is left who could ask for anything.
    pub(crate) fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut more = false;
        loop {
            let job = match waiting.pop_front() {
                Some(job) => job,
                None => match self.jobs.recv_timeout(if more { Duration::ZERO } else { TICK }) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        more = self.tick();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            match job {
                Job::Write(first) => {
                    let writes = self.gather(first, &mut waiting);
                    self.write(writes);
                }
                Job::Replace { view, done } => {
                    self.replace(view);
                    // Whoever asked may have gone away.
                    let _ = done.send(());
                }
                Job::Purge { done } => {
                    more = self.tick();
                    let _ = done.send(());
                }
                Job::Close { done } => {
                    self.close();
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.close();
    }

    /// The writes that have gathered behind `first`, up to the next other job, which goes to `waiting`.
    fn gather(&self, first: Write, waiting: &mut VecDeque<Job>) -> Vec<Write> {
        let mut writes = vec![first];
        while writes.len() < BATCH {
            match self.jobs.try_recv() {
                Ok(Job::Write(write)) => writes.push(write),
                Ok(job) => {
                    waiting.push_back(job);
                    break;
                }
                Err(_) => break,
            }
        }
        writes
    }

    /// Commits all of `writes` that can be done, and answers each.
    fn write(&mut self, mut writes: Vec<Write>) {
        if let Err(fault) = self.make_writable() {
            self.refuse(writes, fault);
            return;
        }
        self.refuse_damaged(&mut writes);
        let mut again = true;
        while !writes.is_empty() {
            match self.commit(&writes, self.shared.times()) {
                Ok(results) => {
                    for (write, result) in mem::take(&mut writes).into_iter().zip(results) {
                        let _ = write.answer.send(result);
                    }
                }
                Err((Stage::Purge, fault @ Fault::Damaged(_))) => {
                    self.purge_has_failed(&fault);
                    if let Err(fault) = self.reopen() {
                        self.refuse(mem::take(&mut writes), fault);
                    }
                }
                // It is this one entry that is damaged; the others are no worse for it.
                Err((Stage::Op(number), fault @ Fault::Damaged(_))) if number < writes.len() => {
                    let write = writes.remove(number);
                    let _ = write.answer.send(Err(self.told(&write.op, fault)));
                    if let Err(fault) = self.reopen() {
                        self.refuse(mem::take(&mut writes), fault);
                    }
                }
                // Nothing has been written. A read may have failed, which happens once, or often.
                Err((Stage::Begin | Stage::Op(_) | Stage::Purge, Fault::Io(_) | Fault::Stale)) if again => {
                    again = false;
                    if let Err(fault) = self.reopen() {
                        self.refuse(mem::take(&mut writes), fault);
                    }
                }
                Err((Stage::Begin | Stage::Op(_) | Stage::Purge | Stage::Commit, fault)) => {
                    let fault = self.degrade(fault);
                    self.refuse(mem::take(&mut writes), fault);
                }
            }
        }
    }

    /// Answers the writes to damaged entries. They are looked at in a read, whose failure harms nothing.
    fn refuse_damaged(&self, writes: &mut Vec<Write>) {
        let view = self.shared.view();
        let mut kept = Vec::with_capacity(writes.len());
        for write in writes.drain(..) {
            let found = match write.op.name() {
                None => Ok(()),
                Some(name) => view.read(|transaction| Entries::open(transaction)?.find(name).map(drop)),
            };
            match found {
                // A stale view will show when it is written to.
                Ok(()) | Err(Fault::Stale) => kept.push(write),
                Err(fault) => {
                    let _ = write.answer.send(Err(self.told(&write.op, fault)));
                }
            }
        }
        *writes = kept;
    }

    /// One transaction. An error says what it was about, and that nothing of it may be relied on.
    fn commit(
        &mut self,
        writes: &[Write],
        times: Times,
    ) -> Result<Vec<Result<(), StoreError>>, (Stage, Fault)> {
        let purge = !self.purge_failed;
        let stage = Cell::new(Stage::Begin);
        let view = self.shared.view();
        let committed = contain(|| {
            let transaction = view.begin_write()?;
            let mut results = Vec::with_capacity(writes.len());
            let counts;
            let mut changed = false;
            {
                let mut tables = Tables::open(&transaction)?;
                for (number, write) in writes.iter().enumerate() {
                    stage.set(Stage::Op(number));
                    let result = tables.apply(&write.op, times)?;
                    changed |= result.is_ok();
                    results.push(result);
                }
                if purge {
                    stage.set(Stage::Purge);
                    changed |= tables.purge(times, PURGE)? > 0;
                }
                stage.set(Stage::Commit);
                counts = tables.counts()?;
            }
            if changed {
                let began = self.shared.clock.monotonic();
                transaction.commit()?;
                self.shared
                    .count_commit(self.shared.clock.monotonic().since(began));
            } else {
                transaction.abort()?;
            }
            Ok((results, counts, changed))
        });
        match committed {
            Ok((results, counts, changed)) => {
                self.shared.set_counts(counts);
                if changed {
                    self.recovered();
                }
                for (write, result) in writes.iter().zip(&results) {
                    if let (Op::RecordBackup { at }, Ok(())) = (&write.op, result) {
                        self.shared.set_last_backup(*at);
                    }
                }
                Ok(results)
            }
            Err(fault) => Err((stage.get(), fault)),
        }
    }

    /// Removes what is over, when there is nothing else to do. Whether there may be more of it.
    fn tick(&mut self) -> bool {
        if self.trouble.is_some() {
            // Nothing but a write shows whether writes work again, but reads may need another view.
            let view = self.shared.view();
            if view.is_stale() {
                self.replace(view.number);
            }
            return false;
        }
        if self.purge_failed || self.shared.examines {
            return false;
        }
        let times = self.shared.times();
        let oldest = self
            .shared
            .view()
            .read(|transaction| oldest_deletion(&tables::read(transaction, tables::EXPIRY)?));
        match oldest {
            Ok(Some((at, _))) if times.is_over(at) => {}
            Ok(_) => return false,
            Err(fault) => {
                self.purge_has_failed(&fault);
                return false;
            }
        }
        if self.make_writable().is_err() {
            return false;
        }
        match self.commit(&[], times) {
            Ok(_) => return true,
            Err((_, fault @ Fault::Damaged(_))) => {
                self.purge_has_failed(&fault);
                // Its error is in the log.
                drop(self.reopen());
            }
            Err((_, fault)) => {
                self.degrade(fault);
            }
        }
        false
    }

    /// Opens the database to be written to, at the first write and after writes have failed.
    fn make_writable(&mut self) -> Result<(), Fault> {
        if self.shared.examines {
            return Err(Fault::Io(io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        if let Err(error) = self.shared.disk.medium().is_in_place() {
            return Err(self.degrade(Fault::of_io(error)));
        }
        let view = self.shared.view();
        if view.writable && !view.is_stale() {
            return Ok(());
        }
        self.reopen()
    }

    /// Replaces the view by a new one that can be written to, or, if there is none to be had, by one that can be read.
    fn reopen(&mut self) -> Result<(), Fault> {
        let view = self.shared.view();
        if view.writable {
            // What has gone wrong with it is not known: it must not touch the medium any more.
            view.give_up();
        }
        let disk = &self.shared.disk;
        let opened = disk
            .restore_head()
            .map_err(Fault::of_io)
            .and_then(|()| View::open(disk, view.number + 1));
        match opened {
            Ok(opened) => {
                self.shared.set_view(opened);
                // What others still read through the view before must have ended before anything is written.
                view.give_up();
                self.count();
                Ok(())
            }
            Err(fault) => Err(self.degrade(fault)),
        }
    }

    /// After a failure: from now on what is durable can be read, and nothing be written, until writing is tried again.
    fn degrade(&mut self, fault: Fault) -> Fault {
        let cause = fault.to_string();
        if self.trouble.as_ref() != Some(&cause) {
            tracing::error!(
                store = %self.shared,
                error = &fault as &dyn std::error::Error,
                "keys can be neither created nor deleted; reads go on, and writing is tried again with each request"
            );
            self.trouble = Some(cause);
        }
        let view = self.shared.view();
        if view.writable {
            view.give_up();
            self.take_back();
        }
        if view.writable || view.is_stale() {
            self.read_durable(&view);
        }
        fault
    }

    /// Takes back what a failed commit may have left in the file, which the next start would take for done. If this fails,
    /// too, it is for the next write, or for the end.
    fn take_back(&self) {
        if let Err(error) = self.shared.disk.restore_head() {
            tracing::debug!(store = %self.shared, %error, "what has failed is not taken back yet");
        }
    }

    /// Replaces `view` by one of what is durable, to read.
    fn read_durable(&self, view: &View) {
        view.give_up();
        let number = view.number + 1;
        let durable = View::open_durable(&self.shared.disk, number).unwrap_or_else(|fault| {
            tracing::error!(
                store = %self.shared,
                error = &fault as &dyn std::error::Error,
                "keys cannot be read any more"
            );
            View::nothing(number)
        });
        self.shared.set_view(durable);
        self.count();
    }

    fn count(&self) {
        if let Ok(counts) = self.shared.view().read(snapshot::counts) {
            self.shared.set_counts(counts);
        }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(store = %self.shared, "keys can be created and deleted again");
        }
    }

    /// For a reader that found the view of this number out of order.
    fn replace(&mut self, number: u64) {
        let view = self.shared.view();
        if view.number != number {
            return;
        }
        if view.writable {
            // Its error is in the log.
            drop(self.reopen());
        } else {
            self.read_durable(&view);
        }
    }

    fn purge_has_failed(&mut self, fault: &Fault) {
        if !mem::replace(&mut self.purge_failed, true) {
            tracing::error!(
                store = %self.shared,
                error = fault as &dyn std::error::Error,
                "deleted keys whose time is over could not be removed, and are kept until the next start"
            );
        }
    }

    fn refuse(&self, writes: Vec<Write>, fault: Fault) {
        let cause = Arc::new(fault);
        for write in writes {
            let error = match &*cause {
                Fault::Damaged(reason) => StoreError::Corrupt {
                    reason: reason.clone(),
                },
                Fault::Io(_) | Fault::Stale => StoreError::Backend {
                    store: self.shared.to_string(),
                    source: Box::new(NotWritten(Arc::clone(&cause))),
                },
            };
            let _ = write.answer.send(Err(error));
        }
    }

    fn told(&self, op: &Op, fault: Fault) -> StoreError {
        let fault = match op.name() {
            Some(name) => fault.about(name),
            None => fault,
        };
        store_error(fault, &self.shared.to_string())
    }

    fn close(&self) {
        let view = self.shared.view();
        self.shared.set_view(View::nothing(view.number + 1));
        if let Err(fault) = view.close() {
            tracing::error!(
                store = %self.shared,
                error = &fault as &dyn std::error::Error,
                "the key store was not closed in order, which the next start makes good"
            );
        }
        if self.trouble.is_some() {
            self.take_back();
        }
        self.shared.disk.medium().release();
    }
}

/// Whoever asks after a panic is told that the store is closed; this says why.
impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                store = %self.shared,
                "the thread that writes has panicked, which is a defect of this program: keys can be neither created nor deleted until the next start"
            );
        }
    }
}

/// How far a transaction had come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begin,
    Op(usize),
    Purge,
    Commit,
}

/// Nothing was written. Shared by all who waited for the same commit.
#[derive(Debug, thiserror::Error)]
#[error("nothing was written")]
struct NotWritten(#[source] Arc<Fault>);

/// Writes of one commit. More would only make those who came first wait for the others' pages.
const BATCH: usize = 1024;

/// Deleted entries that one commit removes on the side.
const PURGE: usize = 256;

/// How long deleted entries are kept beyond their time when there are no writes.
const TICK: Duration = Duration::from_secs(60);
