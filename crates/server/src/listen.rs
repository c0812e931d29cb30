//! Accepts connections, up to a bound, and drains them at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kes_keyring::Keyring;
use kes_types::Monotonic;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::connection;
use crate::settings::Settings;
use crate::state::{Environment, Lease, ReloadError, Shared, Shutdown, Snapshot};

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
        let shared = Arc::new(Shared::new(environment, snapshot, tasks));
        let (shutdown, connections) = (Shutdown::default(), TaskTracker::new());
        let acceptor = tokio::spawn(accept(
            listener,
            Arc::clone(&shared),
            shutdown.clone(),
            connections.clone(),
            max_connections,
        ));
        Ok(Self {
            shared,
            address,
            shutdown,
            connections,
            acceptor,
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
        self.shared
            .swap(Snapshot::new(settings, lease, self.shared.clock.now())?);
        Ok(())
    }

    /// Reads certificate, key and CA files anew.
    ///
    /// # Errors
    /// When they are not usable; the old ones then stay.
    pub fn reload_tls(&self) -> Result<(), ReloadError> {
        let snapshot = self.shared.snapshot().with_fresh_tls(self.shared.clock.now())?;
        self.shared.swap(snapshot);
        Ok(())
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
        self.shutdown.cut.cancel();
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

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    connections: TaskTracker,
    max_connections: usize,
) {
    let places = Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut backoff = BACKOFF.0;
    let mut last_logged: Option<Monotonic> = None;
    loop {
        if places.available_permits() == 0 {
            shared.metrics.connection_limit_reached();
            let now = shared.clock.monotonic();
            if last_logged.is_none_or(|last| now.since(last) >= LIMIT_LOG_PERIOD) {
                last_logged = Some(now);
                warn!(
                    limit = max_connections,
                    "the limit of connections is reached: accepting pauses"
                );
            }
        }
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let accepted = tokio::select! {
            () = shutdown.drain.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            None => return,
            Some((place, Ok((stream, remote)))) => {
                backoff = BACKOFF.0;
                let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
                connections.spawn(async move {
                    connection::serve(shared, stream, remote, shutdown).await;
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

fn is_per_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
