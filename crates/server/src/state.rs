//! What requests share: an immutable snapshot of the configuration behind an atomic swap, and what outlives reloads.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use kes_keyring::{Background, CacheSettings, Keyring, KeyringError, Scope};
use kes_keystore::{Connected, Limited, Measured};
use kes_types::{Clock, EnclaveName, KeyName, Monotonic, Timestamp};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::body::BodyMemory;
use crate::certificate::Reminder;
use crate::events::{Console, Events, Overflow};
use crate::log::ErrorLog;
use crate::metrics::Metrics;
use crate::policy::{Access, DenialLog, DuplicateIdentity};
use crate::route::Routes;
use crate::settings::{Build, Limits, LogSettings, ProxySettings, Settings, TlsSettings};
use crate::tls::{self, Tls, TlsError};
use crate::watch::Watch;

/// What a server stands on, whatever its settings.
#[derive(Clone, Debug)]
pub struct Environment {
    clock: Arc<dyn Clock>,
    error_log: Arc<ErrorLog>,
    audit_console: Arc<Console>,
    metrics: Arc<Metrics>,
}

impl Environment {
    /// Tells the time by `clock`, prints errors to `error_log` and audit events to `audit_console`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, error_log: Arc<ErrorLog>, audit_console: Arc<Console>) -> Self {
        Self {
            clock,
            error_log,
            audit_console,
            metrics: Arc::default(),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn error_log(&self) -> &Arc<ErrorLog> {
        &self.error_log
    }

    /// A key ring over `store`, bounded and measured.
    #[must_use]
    pub fn keyring(&self, store: impl Into<Connected>, cache: CacheSettings) -> Arc<Keyring> {
        let Connected { store, maintenance } = store.into();
        let measured = Measured::new(store, Arc::clone(&self.metrics) as _, Arc::clone(&self.clock));
        let limited = Limited::new(Arc::new(measured), kes_keystore::Limits::default());
        let store = Connected {
            store: Arc::new(limited),
            maintenance,
        };
        Arc::new(Keyring::new(store, cache, Arc::clone(&self.clock)))
    }
}

/// Creates the keys that the configuration declares and that do not exist yet.
///
/// # Errors
/// Names the first key that cannot be created.
pub async fn create_declared_keys(
    keyring: &Keyring,
    names: &[KeyName],
    created_by: &str,
) -> Result<(), DeclaredKeyError> {
    for name in names {
        match keyring.create(&Scope::default(), name, created_by).await {
            Ok(_) | Err(KeyringError::Exists) => {}
            Err(source) => {
                return Err(DeclaredKeyError {
                    name: name.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// A key that the configuration declares could not be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the declared key '{name}'")]
pub struct DeclaredKeyError {
    name: KeyName,
    source: KeyringError,
}

/// Why new settings cannot be taken on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An identity is listed where it must not be.
    #[error(transparent)]
    Policy(#[from] DuplicateIdentity),
}

/// Keeps a key ring running, and closes it when the last request that uses it has ended.
#[derive(Debug)]
pub(crate) struct Lease {
    keyring: Arc<Keyring>,
    background: Option<Background>,
    runtime: Handle,
    closing: TaskTracker,
}

impl Lease {
    pub(crate) fn new(keyring: Arc<Keyring>, closing: TaskTracker) -> Arc<Self> {
        let background = Some(keyring.start());
        Arc::new(Self {
            keyring,
            background,
            runtime: Handle::current(),
            closing,
        })
    }

    pub(crate) const fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.background.take());
        let keyring = Arc::clone(&self.keyring);
        self.closing
            .spawn_on(async move { keyring.close().await }, &self.runtime);
    }
}

/// One configuration, as requests see it from their start to their end.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) access: Access,
    pub(crate) routes: Routes,
    pub(crate) tls: Arc<Tls>,
    pub(crate) proxy: Option<ProxySettings>,
    pub(crate) log: LogSettings,
    pub(crate) limits: Limits,
    pub(crate) build: Build,
    pub(crate) loaded_at: Timestamp,
    pub(crate) lease: Arc<Lease>,
    tls_settings: Arc<TlsSettings>,
}

impl Snapshot {
    pub(crate) fn new(settings: Settings, lease: Arc<Lease>, now: Timestamp) -> Result<Self, ReloadError> {
        let Settings {
            admin,
            policies,
            tls: tls_settings,
            proxy,
            routes,
            log,
            limits,
            build,
        } = settings;
        let access = Access::new(admin, &policies)?;
        let routes = Routes::new(&routes, lease.keyring().upkeep().is_some());
        let tls = Arc::new(tls::load(&tls_settings, routes.any_opened())?);
        Ok(Self {
            access,
            routes,
            tls,
            proxy,
            log,
            limits,
            build,
            loaded_at: now,
            lease,
            tls_settings: Arc::new(tls_settings),
        })
    }

    /// The same configuration with another certificate or other CAs.
    fn with_tls(&self, tls: Tls) -> Self {
        Self {
            access: self.access.clone(),
            routes: self.routes.clone(),
            tls: Arc::new(tls),
            proxy: self.proxy.clone(),
            log: self.log,
            limits: self.limits,
            build: self.build.clone(),
            loaded_at: self.loaded_at,
            lease: Arc::clone(&self.lease),
            tls_settings: Arc::clone(&self.tls_settings),
        }
    }

    /// Where its certificate and CAs come from.
    pub(crate) const fn tls_settings(&self) -> &Arc<TlsSettings> {
        &self.tls_settings
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        self.lease.keyring()
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Monotonic,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Events,
    pub(crate) error_log: Arc<ErrorLog>,
    pub(crate) body_memory: BodyMemory,
    pub(crate) denials: DenialLog,
    /// Of requests refused for overload, and of those whose audit event found no room.
    pub(crate) overloads: DenialLog,
    pub(crate) unrecorded: DenialLog,
    /// Requests that run to their end when their client goes away, backups, and key rings that are being closed.
    pub(crate) tasks: TaskTracker,
    /// Log and audit streams and backups, which would otherwise hold up the end for ever.
    pub(crate) streams: Streams,
    /// What is known of the TLS files. Held while somebody looks at them.
    pub(crate) watch: tokio::sync::Mutex<Watch>,
    reminder: Reminder,
    /// Held by whoever makes a new snapshot out of the old one.
    changing: Mutex<()>,
    enclaves: Mutex<HashSet<EnclaveName>>,
}

/// Log and audit streams that are open, and the end of all streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Arc<()>,
    ended: CancellationToken,
}

impl Streams {
    /// A place among at most `limit` streams, given back when dropped.
    pub(crate) fn open(&self, limit: usize) -> Option<Arc<()>> {
        let place = Arc::clone(&self.open);
        (Arc::strong_count(&self.open) - 1 <= limit).then_some(place)
    }

    /// Tells streams to end.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// Is cancelled when streams have to end.
    pub(crate) const fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Shared {
    pub(crate) fn new(environment: Environment, snapshot: Snapshot, tasks: TaskTracker) -> Self {
        let Environment {
            clock,
            error_log,
            audit_console,
            metrics,
        } = environment;
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            started: clock.monotonic(),
            clock,
            metrics,
            audit: Events::new(audit_console, Overflow::Close),
            error_log,
            body_memory: BodyMemory::new(),
            denials: DenialLog::default(),
            overloads: DenialLog::default(),
            unrecorded: DenialLog::default(),
            tasks,
            streams: Streams::default(),
            watch: tokio::sync::Mutex::default(),
            reminder: Reminder::default(),
            changing: Mutex::default(),
            enclaves: Mutex::default(),
        }
    }

    /// The configuration of now. A request takes it once, at its start.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Takes on what `make` makes, one change at a time. `make` is given the configuration that it will replace.
    pub(crate) fn change<E>(&self, make: impl FnOnce(&Snapshot) -> Result<Snapshot, E>) -> Result<(), E> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = make(&self.snapshot())?;
        self.error_log.set_level(snapshot.log.error);
        self.snapshot.store(Arc::new(snapshot));
        self.remind_of_expiry();
        Ok(())
    }

    /// Reads certificate, key and CA files anew.
    pub(crate) fn reload_tls(&self) -> Result<(), TlsError> {
        self.change(|snapshot| {
            let tls = tls::load(&snapshot.tls_settings, snapshot.routes.any_opened())?;
            Ok(snapshot.with_tls(tls))
        })
    }

    /// Takes on `tls` in place of `current`, unless something else has taken that place meanwhile.
    pub(crate) fn change_tls(&self, current: &Arc<Tls>, tls: Tls) -> bool {
        let changed = self.change(|snapshot| {
            if Arc::ptr_eq(&snapshot.tls, current) {
                Ok(snapshot.with_tls(tls))
            } else {
                Err(())
            }
        });
        changed.is_ok()
    }

    /// Logs that the server's certificate ends, if it is time to say so.
    pub(crate) fn remind_of_expiry(&self) {
        let snapshot = self.snapshot();
        self.reminder
            .remind(&snapshot.tls.leaf, self.clock.now(), self.clock.monotonic());
    }

    /// Says once for each name that enclaves do not exist.
    pub(crate) fn warn_of_enclave(&self, name: &EnclaveName) {
        const REMEMBERED: usize = 256;
        let mut enclaves = self.enclaves.lock().unwrap_or_else(PoisonError::into_inner);
        if enclaves.len() < REMEMBERED && enclaves.insert(name.clone()) {
            drop(enclaves);
            warn!(
                enclave = name.as_str(),
                "a client names an enclave: this server has none and ignores the name"
            );
        }
    }
}

/// Tells connections to finish.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// Take no further request.
    pub(crate) drain: CancellationToken,
    /// Close now.
    pub(crate) cut: CancellationToken,
}
