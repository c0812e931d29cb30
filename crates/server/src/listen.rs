//! Accepts connections, up to a bound, and drains them at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kes_keyring::Keyring;
use kes_types::{Clock, Monotonic};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::health::{self, Health};
use crate::settings::Settings;
use crate::state::{Environment, Lease, ReloadError, Shared, Shutdown, Snapshot};
use crate::{connection, watch};

/// Pauses after a failed accept, such as for want of file descriptors: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// How often the log says that the limit of connections is reached.
const LIMIT_LOG_PERIOD: Duration = Duration::from_secs(60);

/// A server that listens. Dropping it closes everything at once; [`Server::shutdown`] is the polite way.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    shutdown: Shutdown,
    connections: TaskTracker,
    acceptor: JoinHandle<()>,
    health: Option<HealthListener>,
    /// Looks at the TLS files.
    watcher: Option<JoinHandle<()>>,
    /// The bound that the listener was started with; it takes a restart to change it.
    max_connections: usize,
}

impl Server {
    /// Starts to serve on `listener`.
    ///
    /// # Errors
    /// When the settings cannot be taken on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        listener: TcpListener,
        settings: Settings,
        keyring: Arc<Keyring>,
        environment: Environment,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        let max_connections = settings.limits.connections;
        let tasks = TaskTracker::new();
        let now = environment.clock().now();
        let snapshot = Snapshot::new(settings, Lease::new(keyring, tasks.clone()), now)?;
        environment.error_log().set_level(snapshot.log.error);
        snapshot.tls.leaf.log_names();
        let shared = Arc::new(Shared::new(environment, snapshot, tasks));
        shared.remind_of_expiry();
        let (shutdown, connections) = (Shutdown::default(), TaskTracker::new());
        let door = Door {
            listener,
            limit: max_connections,
            limit_reached: "the limit of connections is reached: accepting pauses",
            close: shutdown.drain.clone(),
            connections: connections.clone(),
        };
        let acceptor = tokio::spawn({
            let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
            async move {
                let serve =
                    |stream, remote| connection::serve(Arc::clone(&shared), stream, remote, shutdown.clone());
                let limit_reached = || shared.metrics.connection_limit_reached();
                door.accept(&*shared.clock, limit_reached, serve).await;
            }
        });
        Ok(Self {
            shared,
            address,
            shutdown,
            connections,
            acceptor,
            health: None,
            watcher: None,
            max_connections,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The key ring in use.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(self.shared.snapshot().lease.keyring())
    }

    /// Takes on new settings, all at once. Requests that run finish on the old ones. Without a `keyring`, the key ring and
    /// its cache stay; an old one is closed after the last request that uses it. One that is
    /// not taken on is closed too.
    ///
    /// # Errors
    /// When the settings cannot be taken on; the old ones then stay.
    pub fn reload(&self, settings: Settings, keyring: Option<Arc<Keyring>>) -> Result<(), ReloadError> {
        if settings.limits.connections != self.max_connections {
            warn!("limits.connections takes a restart to change");
        }
        let lease = match keyring {
            Some(keyring) => Lease::new(keyring, self.shared.tasks.clone()),
            None => Arc::clone(&self.shared.snapshot().lease),
        };
        // Files are read before anybody is kept from another change: their disk may hang.
        let snapshot = Snapshot::new(settings, lease, self.shared.clock.now())?;
        self.shared.change(|_| Ok::<_, ReloadError>(snapshot))?;
        self.shared.snapshot().tls.leaf.log_names();
        Ok(())
    }

    /// Reads certificate, key and CA files anew.
    ///
    /// # Errors
    /// When they are not usable; the old ones then stay.
    pub fn reload_tls(&self) -> Result<(), ReloadError> {
        Ok(self.shared.reload_tls()?)
    }

    /// Answers probes on `listener` from now on: over plain HTTP, whether the server is ready, its metrics and its version, and
    /// nothing else. Until the end of [`Server::shutdown`]; while that waits for requests, the server says that it is not ready.
    pub fn serve_health(&mut self, listener: TcpListener) {
        let (end, connections) = (CancellationToken::new(), TaskTracker::new());
        let health = Health::new(Arc::clone(&self.shared), self.shutdown.drain.clone(), end.clone());
        let door = Door {
            listener,
            limit: health::MAX_CONNECTIONS,
            limit_reached: "the limit of connections of the health listener is reached: accepting pauses there",
            close: end.clone(),
            connections: connections.clone(),
        };
        let clock = Arc::clone(&self.shared.clock);
        let acceptor = tokio::spawn(async move {
            let health = Arc::new(health);
            let serve = |stream, remote| Arc::clone(&health).serve(stream, remote);
            door.accept(&*clock, || (), serve).await;
        });
        self.health = Some(HealthListener {
            acceptor,
            connections,
            end,
        });
    }

    /// Looks at the certificate, key and CA files every `period` from now on, and takes on what they say now.
    pub fn watch_tls(&mut self, period: Duration) {
        let watcher = watch::start(Arc::clone(&self.shared), period);
        if let Some(former) = self.watcher.replace(watcher) {
            former.abort();
        }
    }

    /// Looks at the certificate, key and CA files once. What has changed is taken on when two looks have seen the same, if it can
    /// be used; if not, the old files go on being used, and the error log says what is wrong.
    pub async fn look_at_tls_files(&self) {
        watch::look(&self.shared).await;
    }

    /// When the server's certificate ends, or begins, if that needs somebody's attention.
    #[must_use]
    pub fn certificate_dates(&self) -> Option<String> {
        self.shared.snapshot().tls.leaf.dates(self.shared.clock.now())
    }

    /// Stops accepting, lets requests finish for at most `grace`, then closes everything, the key ring last.
    pub async fn shutdown(mut self, grace: Duration) {
        self.shutdown.drain.cancel();
        self.shared.streams.end();
        self.shared.audit.close();
        self.shared.error_log.events().close();
        self.connections.close();
        if timeout(grace, self.connections.wait()).await.is_err() {
            warn!(
                connections = self.connections.len(),
                "requests did not finish in time and are cut off"
            );
            self.shutdown.cut.cancel();
            self.connections.wait().await;
        }
        // Whoever shares the state has gone after this, and the key ring's lease ends with the server.
        _ = (&mut self.acceptor).await;
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
            _ = watcher.await;
        }
        if let Some(mut health) = self.health.take() {
            health.end.cancel();
            _ = (&mut health.acceptor).await;
            health.connections.close();
            health.connections.wait().await;
        }
        let tasks = self.shared.tasks.clone();
        drop(self);
        tasks.close();
        if timeout(grace, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "the key store did not finish in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor.abort();
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        self.shutdown.cut.cancel();
    }
}

/// Where probes are answered. Dropping it closes it at once.
#[derive(Debug)]
struct HealthListener {
    acceptor: JoinHandle<()>,
    connections: TaskTracker,
    end: CancellationToken,
}

impl Drop for HealthListener {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.end.cancel();
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener is not usable.
    #[error("cannot listen")]
    Listen(#[from] io::Error),
    /// The settings cannot be taken on.
    #[error(transparent)]
    Settings(#[from] ReloadError),
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    /// Connections at a time.
    limit: usize,
    /// What the log says of it.
    limit_reached: &'static str,
    /// Told when nobody is let in any more.
    close: CancellationToken,
    connections: TaskTracker,
}

impl Door {
    /// Lets connections in until it is closed.
    async fn accept<S>(
        self,
        clock: &dyn Clock,
        at_limit: impl Fn(),
        serve: impl Fn(TcpStream, SocketAddr) -> S,
    ) where
        S: Future<Output = ()> + Send + 'static,
    {
        let Self {
            listener,
            limit,
            limit_reached,
            close,
            connections,
        } = self;
        let places = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        let mut backoff = BACKOFF.0;
        let mut last_logged: Option<Monotonic> = None;
        loop {
            if places.available_permits() == 0 {
                at_limit();
                let now = clock.monotonic();
                if last_logged.is_none_or(|last| now.since(last) >= LIMIT_LOG_PERIOD) {
                    last_logged = Some(now);
                    warn!(limit, "{limit_reached}");
                }
            }
            let next = async {
                // The semaphore is never closed.
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            };
            let accepted = tokio::select! {
                () = close.cancelled() => return,
                accepted = next => accepted,
            };
            match accepted {
                None => return,
                Some((place, Ok((stream, remote)))) => {
                    backoff = BACKOFF.0;
                    let served = serve(stream, remote);
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // The client has gone already.
                Some((_, Err(error))) if is_per_connection(&error) => {
                    info!(error = &error as &dyn std::error::Error, "accept")
                }
                Some((_, Err(error))) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept connections: trying again"
                    );
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }
}

fn is_per_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
