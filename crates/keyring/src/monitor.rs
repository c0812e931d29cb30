//! What goes on in the background: polling the store, finding it again, refreshing what an outage has kept, and removing
//! what nobody asks for any longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cache::{CacheKey, Cached};
use crate::fetch::Core;
use crate::reach::Outage;

/// How often the store is asked for a sign of life.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// The first wait before the store is looked for in an outage; it doubles up to [`POLL_INTERVAL`].
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// How many keys are refreshed at once after an outage.
const REFRESHES_AT_ONCE: usize = 4;
/// The least time from the start of one refresh to that of the next.
const REFRESH_SPACING: Duration = Duration::from_millis(10);
/// The least time between two lines in the log about a cache that is full.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Runs the background tasks of a key ring until it is dropped.
///
/// Without it a key ring still answers: expired keys are not used, but stay in memory, and every miss asks the store, in
/// an outage too.
#[derive(Debug)]
#[must_use = "the background tasks stop when this is dropped"]
pub struct Background {
    core: Arc<Core>,
    _tasks: JoinSet<()>,
}

impl Background {
    pub(crate) fn start(core: Arc<Core>) -> Self {
        core.reach.monitor_started();
        let mut tasks = JoinSet::new();
        tasks.spawn(monitor(Arc::clone(&core)));
        tasks.spawn(refresh_after_outages(Arc::clone(&core)));
        tasks.spawn(sweep(Arc::clone(&core)));
        Self { core, _tasks: tasks }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.core.reach.monitor_ended();
    }
}

/// Polls the store while it is within reach, and looks for it while it is not.
async fn monitor(core: Arc<Core>) {
    let mut outages = core.reach.subscribe();
    loop {
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            () = core.reach.suspected() => {}
            _ = outages.wait_for(Option::is_some) => {}
        }
        if core.reach.outage().is_none()
            && let Err(error) = core.ping().await
        {
            tracing::debug!(%error, "key store does not answer the poll");
        }
        let mut wait = FIRST_PROBE;
        while core.reach.outage().is_some() {
            sleep(wait).await;
            wait = POLL_INTERVAL.min(wait * 2);
            // Any other failure is an answer, so the store is within reach.
            let answer = core.ping().await;
            if answer.map_or_else(|error| !error.is_outage(), |_| true) {
                core.reach.found(core.now(), core.cache.times.offline());
            }
        }
    }
}

/// Fetches again what was in use and has outlived its time when an outage ends, a few at a time.
async fn refresh_after_outages(core: Arc<Core>) {
    let mut outages = core.reach.subscribe();
    loop {
        // Fails only when the sender is gone, which `core` holds.
        let recovered = outages.wait_for(|outage| outage.is_none() && core.reach.unrefreshed().is_some());
        drop(recovered.await);
        match refresh(&core, &outages).await {
            Refreshed::All => core.reach.refreshed(),
            Refreshed::UntilLost => {}
            // The store answers, but not for all of them: nothing that it keeps usable is given up yet.
            Refreshed::NotAll => sleep(POLL_INTERVAL).await,
        }
    }
}

/// How far a refresh came.
enum Refreshed {
    /// To its end, with an answer for each key.
    All,
    /// To its end, but some keys have to be asked for again.
    NotAll,
    /// Until the store was lost again.
    UntilLost,
}

async fn refresh(core: &Arc<Core>, outages: &watch::Receiver<Option<Arc<Outage>>>) -> Refreshed {
    // Also if it has been found again since.
    let was_lost = || outages.has_changed().unwrap_or(true);
    let outlived = look_over(core, |core, key, entry| {
        let (times, now) = (&core.cache.times, core.now());
        (!times.is_young(&entry, now) && times.is_in_use(&entry, now)).then_some(key)
    });
    let mut running: JoinSet<bool> = JoinSet::new();
    let mut all = true;
    for key in outlived.await {
        while running.len() >= REFRESHES_AT_ONCE {
            all &= matches!(running.join_next().await, None | Some(Ok(true)));
        }
        if was_lost() {
            return Refreshed::UntilLost;
        }
        let core = Arc::clone(core);
        running.spawn(async move { core.refresh(key).await });
        sleep(REFRESH_SPACING).await;
    }
    while let Some(settled) = running.join_next().await {
        all &= settled.unwrap_or(false);
    }
    match (was_lost(), all) {
        (true, _) => Refreshed::UntilLost,
        (false, true) => Refreshed::All,
        (false, false) => Refreshed::NotAll,
    }
}

/// Removes expired entries. Asking for one refuses it anyway; this bounds the memory of those that nobody asks for.
async fn sweep(core: Arc<Core>) {
    let (mut reported, mut next_report) = (0, Instant::now());
    loop {
        sleep(core.cache.times.sweep_interval()).await;
        let evicted = core.cache.evicted();
        if evicted > reported && Instant::now() >= next_report {
            tracing::warn!(
                keys = evicted - reported,
                "the cache was full: keys had to leave it early"
            );
            (reported, next_report) = (evicted, Instant::now() + REPORT_INTERVAL);
        }
        look_over(&core, |core, key, entry| {
            core.expire(&key, &entry);
            None::<()>
        })
        .await;
    }
}

/// Goes through the cache and collects what `look` returns. Where that takes long, a thread of its own does it.
async fn look_over<T: Send + 'static>(
    core: &Arc<Core>,
    look: impl Fn(&Core, CacheKey, Arc<Cached>) -> Option<T> + Send + 'static,
) -> Vec<T> {
    let owned = Arc::clone(core);
    let walk = move || {
        let entries = owned.cache.iter().take_while(|_| owned.reach.is_monitored());
        entries
            .filter_map(|(key, entry)| look(&owned, key, entry))
            .collect()
    };
    if !core.cache.is_large() {
        return walk();
    }
    tokio::task::spawn_blocking(walk).await.unwrap_or_default()
}
