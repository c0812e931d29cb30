//! All keys: several at once, in their order, until they are done or something speaks against going on.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use kes_keystore::{EntryName, StoreError};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::copy::{Copier, Done, Problem};
use super::names::Names;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::{self, Progress};

/// What became of all keys.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) copied: u64,
    pub(super) replaced: u64,
    pub(super) present: u64,
    pub(super) gone: u64,
    /// The keys that were not copied, in their order, as far as they are worth a line each.
    pub(super) problems: Vec<(EntryName, Problem)>,
    /// How many more were not copied.
    pub(super) more_problems: u64,
    /// Why the rest was left, if it was.
    pub(super) end: Option<End>,
}

/// Why the rest was left.
#[derive(Debug)]
pub(super) enum End {
    /// A problem that is in the list.
    Problem,
    /// The source does not list its keys any further.
    Listing(StoreError),
    /// The user gave up.
    Interrupted,
    /// What is to be said cannot be written.
    Output(Failure),
}

impl Tally {
    /// How many keys have been looked at.
    pub(super) fn seen(&self) -> u64 {
        let Self {
            copied,
            replaced,
            present,
            gone,
            problems,
            more_problems,
            end: _,
        } = self;
        copied + replaced + present + gone + problems.len() as u64 + more_problems
    }

    fn count(&mut self, name: EntryName, outcome: Result<Done, Problem>, is_dry_run: bool) {
        match outcome {
            Ok(Done::Copied) => self.copied += 1,
            Ok(Done::Replaced) => self.replaced += 1,
            Ok(Done::Present) => self.present += 1,
            Ok(Done::Gone) => self.gone += 1,
            Err(problem) => {
                let stops = problem.stops(is_dry_run);
                if stops {
                    self.end.get_or_insert(End::Problem);
                }
                if stops || self.problems.len() < MOST_PROBLEMS {
                    self.problems.push((name, problem));
                } else {
                    self.more_problems += 1;
                }
            }
        }
    }
}

/// A copy under way.
type Running = (EntryName, JoinHandle<Result<Done, Problem>>);

/// Copies the keys of `names`, until all are done, one fails in a way that speaks against going on, or `interrupt` happens.
/// A copy that has begun is always brought to its end.
pub(super) async fn drive(
    copier: Arc<Copier>,
    mut names: Names,
    interrupt: impl Future<Output = ()>,
    progress: &mut Progress,
    output: &mut Output,
) -> Tally {
    let mut tally = Tally::default();
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut are_all_listed = false;
    let mut interrupt = std::pin::pin!(interrupt);
    let mut ticks = interval(progress::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    ticks.tick().await;

    while tally.end.is_none() && !(are_all_listed && running.is_empty()) {
        let has_room = !are_all_listed && running.len() < AT_ONCE;
        tokio::select! {
            biased;
            () = &mut interrupt => tally.end = Some(End::Interrupted),
            _ = ticks.tick() => {
                if let Err(failure) = progress.tick(output) {
                    tally.end = Some(End::Output(failure));
                }
            }
            next = names.next(), if has_room => match next {
                Ok(Some(name)) => running.push_back(begin(&copier, name)),
                Ok(None) => are_all_listed = true,
                Err(error) => tally.end = Some(End::Listing(error)),
            },
            Some((name, outcome)) = first(&mut running), if !running.is_empty() => {
                let said = say(copier.is_dry_run, &name, &outcome, output);
                tally.count(name, outcome, copier.is_dry_run);
                progress.set(tally.seen());
                if let Err(failure) = said {
                    tally.end = Some(End::Output(failure));
                }
            }
        }
    }
    while let Some((name, outcome)) = first(&mut running).await {
        tally.count(name, outcome, copier.is_dry_run);
    }
    tally
}

fn begin(copier: &Arc<Copier>, name: EntryName) -> Running {
    let (copier, key) = (Arc::clone(copier), name.clone());
    (name, tokio::spawn(async move { copier.copy(&key).await }))
}

/// The end of the copy that began first; `None` if there is none under way. Can be given up and asked again.
async fn first(running: &mut VecDeque<Running>) -> Option<(EntryName, Result<Done, Problem>)> {
    let (_, copy) = running.front_mut()?;
    let outcome = copy.await.unwrap_or_else(|died| Err(Problem::Died(died)));
    let (name, _) = running.pop_front()?;
    Some((name, outcome))
}

/// In a dry run each key is worth a line.
fn say(is_dry_run: bool, name: &EntryName, outcome: &Result<Done, Problem>, output: &mut Output) -> Outcome {
    if !is_dry_run {
        return Ok(());
    }
    match outcome {
        Ok(Done::Copied) => output.line(&format!("copy {name}")),
        Ok(Done::Replaced) => output.line(&format!("replace {name}")),
        Ok(Done::Present | Done::Gone) | Err(_) => Ok(()),
    }
}

/// How many copies run at once. Key stores put the writes of several callers into one flush.
const AT_ONCE: usize = 32;

/// How many keys that were not copied are named. More would not be read, but take memory.
const MOST_PROBLEMS: usize = 10_000;
