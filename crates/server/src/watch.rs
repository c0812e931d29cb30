//! Watches the files of the server's certificate, key and CAs, and takes on what they say now.
//!
//! By looking at them every few seconds: what is in a file tells what inotify and times of change do not, such as that a link
//! somewhere above it leads elsewhere now, or what another machine wrote to a network file system. A change is used only once two
//! looks have seen the same, so that nothing is used that is still being written, and only if it is a pair that fits.

use std::sync::Arc;
use std::time::Duration;

use kes_types::{Monotonic, Timestamp};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{error, info};

use crate::log::chain;
use crate::settings::ClientAuth;
use crate::state::Shared;
use crate::tls::{self, Digest, Material, Tls, TlsError};

/// How often the CA certificates of the system are read anew, which nobody looks at in between.
const SYSTEM_PERIOD: Duration = Duration::from_mins(15);
/// Said of files that cannot be used.
const KEPT: &str = "the TLS files have changed, but cannot be used: the server goes on with what it has";

/// What the looks so far have found out.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What the last look saw, unless it is in use.
    last: Option<Sight>,
    /// What has been said to be wrong, until it is no more.
    complaint: Option<String>,
    /// What was seen and is not used, and from when on it may be.
    refused: Option<(Digest, Option<Timestamp>)>,
    /// When the CA certificates of the system were last read, roughly.
    system: Option<Monotonic>,
}

/// What a look sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    Content(Digest),
    Unreadable(String),
}

/// Looks every `period`, until it is aborted.
pub(crate) fn start(shared: Arc<Shared>, period: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut pace = interval_at(Instant::now() + period, period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            look(&shared).await;
        }
    })
}

/// Looks once. A look that hangs, since a file system does, holds up later looks and nothing else.
pub(crate) async fn look(shared: &Shared) {
    let mut watch = shared.watch.lock().await;
    watch.look(shared).await;
    drop(watch);
    shared.remind_of_expiry();
}

impl Watch {
    async fn look(&mut self, shared: &Shared) {
        let snapshot = shared.snapshot();
        let settings = Arc::clone(snapshot.tls_settings());
        let (tls, optional) = (Arc::clone(&snapshot.tls), snapshot.routes.any_opened());
        drop(snapshot);

        let read = {
            let settings = Arc::clone(&settings);
            let read = move || Material::read(&settings).map(|material| (material.digest(), material));
            let Ok(read) = spawn_blocking(read).await else {
                return;
            };
            read
        };
        let sight = match &read {
            Ok((digest, _)) => Sight::Content(*digest),
            Err(error) => Sight::Unreadable(chain(error)),
        };
        let now = shared.clock.monotonic();
        let is_in_use = sight == Sight::Content(tls.digest);
        let is_stale = settings.client_auth == ClientAuth::Verified
            && now.since(*self.system.get_or_insert(now)) >= SYSTEM_PERIOD;
        if is_in_use && !is_stale {
            self.last = None;
            self.refused = None;
            if self.complaint.take().is_some() {
                info!(
                    certificate = tls.leaf.name(),
                    "the TLS files are those in use again"
                );
            }
            return;
        }
        if !is_in_use && self.last.as_ref() != Some(&sight) {
            self.last = Some(sight);
            return;
        }

        match read {
            Err(error) => self.complain(&error),
            Ok((digest, material)) => {
                if is_stale {
                    self.system = Some(now);
                }
                let is_refused = |(refused, until): &(Digest, Option<Timestamp>)| {
                    *refused == digest && until.is_none_or(|until| shared.clock.now() < until)
                };
                if self.refused.as_ref().is_some_and(is_refused) {
                    return;
                }
                let build = move || tls::build(&settings, material, optional);
                let Ok(built) = spawn_blocking(build).await else {
                    return;
                };
                match built.and_then(|fresh| is_no_worse(fresh, &tls, shared.clock.now())) {
                    Ok(fresh) => self.take_on(shared, &tls, fresh, is_in_use),
                    Err(error) => {
                        self.refused = Some((digest, error.usable_from()));
                        self.complain(&error);
                    }
                }
            }
        }
    }

    fn take_on(&mut self, shared: &Shared, current: &Arc<Tls>, fresh: Tls, is_in_use: bool) {
        self.last = None;
        let leaf = fresh.leaf.clone();
        // Configuration or files may have been read anew meanwhile: then the next look sees what there is to see.
        if !shared.change_tls(current, fresh) {
            return;
        }
        self.refused = None;
        let was_wrong = self.complaint.take().is_some();
        if was_wrong || !is_in_use {
            let message = if was_wrong {
                "the TLS files can be used again: new connections get what they say now"
            } else {
                "the TLS files have changed: new connections get what they say now"
            };
            info!(certificate = leaf.name(), expires = %leaf.expires().date(), "{message}");
            leaf.log_names();
        }
    }

    /// Says what is wrong, unless that was said last.
    fn complain(&mut self, error: &TlsError) {
        let wrong = chain(error);
        if self.complaint.as_ref() != Some(&wrong) {
            error!(error = wrong, remedy = error.remedy(), "{KEPT}");
            self.complaint = Some(wrong);
        }
    }
}

/// Not to be used is a certificate that clients refuse in place of one that they do not.
fn is_no_worse(fresh: Tls, current: &Tls, now: Timestamp) -> Result<Tls, TlsError> {
    if current.leaf.age(now).is_valid() && !fresh.leaf.age(now).is_valid() {
        return Err(TlsError::NotValidNow {
            cert: fresh.leaf.name().to_owned(),
            dates: fresh.leaf.dates(now).unwrap_or_default(),
            from: Some(fresh.leaf.begins()).filter(|from| now < *from),
        });
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kes_keyring::CacheSettings;
    use kes_keystore::MemoryStore;
    use kes_testkit::Credentials;
    use kes_types::{Clock, SystemClock};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::log::{ErrorLog, Level};
    use crate::settings::{Build, CertificateSource, Limits, LogSettings, Settings, TlsSettings};
    use crate::state::{Environment, Lease, Snapshot};
    use crate::{Console, tls};

    fn settings(credentials: &Credentials) -> Settings {
        Settings {
            admin: None,
            policies: Vec::new(),
            tls: TlsSettings {
                certificate: CertificateSource::Memory {
                    cert: credentials.chain_pem(),
                    key: credentials.key_pem().into(),
                },
                client_auth: ClientAuth::AnyCertificate,
                ca: None,
            },
            proxy: None,
            routes: BTreeMap::new(),
            log: LogSettings {
                error: Level::INFO,
                audit: Level::INFO,
            },
            limits: Limits::default(),
            build: Build {
                version: String::new(),
                commit: String::new(),
            },
        }
    }

    fn shared(settings: Settings) -> Shared {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let error_log = ErrorLog::new(Console::new(), Arc::clone(&clock));
        let environment = Environment::new(clock, error_log, Console::new());
        let keyring = environment.keyring(Arc::new(MemoryStore::new()), CacheSettings::default());
        let tasks = TaskTracker::new();
        let now = environment.clock().now();
        let snapshot = Snapshot::new(settings, Lease::new(keyring, tasks.clone()), now).unwrap();
        Shared::new(environment, snapshot, tasks)
    }

    #[tokio::test]
    async fn what_was_read_before_a_reload_does_not_take_its_place() {
        let [first, stale, reloaded] = ["first", "stale", "reloaded"].map(Credentials::self_signed);
        let shared = shared(settings(&first));
        let fresh = |credentials| tls::load(&settings(credentials).tls, false).unwrap();
        // A look has read the files, and then somebody has them read anew, with the same configuration.
        let current = Arc::clone(&shared.snapshot().tls);
        assert!(shared.change_tls(&current, fresh(&reloaded)));
        let in_use = Arc::clone(&shared.snapshot().tls);
        let mut watch = Watch::default();
        let before = Arc::clone(shared.snapshot().tls_settings());
        watch.take_on(&shared, &current, fresh(&stale), false);
        assert!(Arc::ptr_eq(&shared.snapshot().tls, &in_use));
        assert!(Arc::ptr_eq(shared.snapshot().tls_settings(), &before));
        // A look that has seen what is in use replaces it.
        watch.take_on(&shared, &in_use, fresh(&stale), false);
        assert_eq!(shared.snapshot().tls.digest, fresh(&stale).digest);
    }
}
