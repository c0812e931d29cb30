//! Starts a server and does as signals, the service manager and the clock tell it, until it stops.

use std::collections::HashSet;
use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kes_config::ListenAddress;
use kes_keyring::Keyring;
use kes_server::log::{ErrorLog, chain};
use kes_server::{Console, Environment, Server, Target, create_declared_keys};
use kes_types::{Clock, KeyName};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Source;
use super::banner::Banner;
use super::interfaces;
use super::plan::{self, Plan, Store};
use crate::connect::Opened;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// How long requests may take to finish once the server is told to stop: as long as a write to a key store.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last lines of the logs may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often the files of certificates are looked at. A new one is in use after two looks.
const LOOK_PERIOD: Duration = Duration::from_secs(3);
/// Said of a key store whose settings cannot be changed.
const AS_IT_WAS: &str = "the key store goes on as it was";

/// What is to be started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) source: Source,
    pub(super) plan: Plan,
    pub(super) is_locked: bool,
    pub(super) is_quiet: bool,
}

impl Start {
    /// Starts it, and returns when it has stopped.
    pub(super) fn run(self, context: &mut Context<'_>) -> Outcome {
        // Before anything is connected, so that its errors come first.
        let addresses = plan::reachable(self.plan.address)?;
        self.plan.check_tls()?;

        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            let Signals { mut stop, mut reload } = Signals::new()?;
            let logs = Logs::start(Arc::clone(&context.clock))?;
            let running = tokio::select! {
                running = self.start(addresses, &logs, context) => running,
                () = stop.requested() => return Ok(()),
            };
            let outcome = match running {
                Ok(running) => running.serve(&mut stop, &mut reload, context).await,
                Err(error) => Err(error),
            };
            logs.finish().await;
            outcome
        });
        // What still runs now has been told to stop, and had its time.
        runtime.shutdown_background();
        outcome
    }

    async fn start(
        self,
        addresses: Vec<std::net::IpAddr>,
        logs: &Logs,
        context: &Context<'_>,
    ) -> Outcome<Running> {
        let Self {
            source,
            plan,
            is_locked,
            is_quiet,
        } = self;
        let Plan {
            address,
            health,
            server: settings,
            store,
            cache,
            keys,
            api_key,
        } = plan;
        let opened = store.connect(Arc::clone(&context.clock)).await?;
        let environment = Environment::new(
            Arc::clone(&context.clock),
            Arc::clone(&logs.errors),
            Arc::clone(&logs.audit),
        );
        let keyring = environment.keyring(opened.connected(), cache);
        let banner = Banner {
            store: opened.description(),
            addresses,
            port: 0,
            health: Vec::new(),
            certificate: None,
            api_key: api_key.map(|key| key.to_secret_text()),
            admin: settings.admin.clone(),
            client_auth: settings.tls.client_auth,
            log: settings.log,
            is_locked,
        };
        // First, so that nobody is let in if probes cannot be.
        let probes = match &health {
            Some(health) => Some(listen(health.address).await.context(health.place.clone())?),
            None => None,
        };
        let listener = listen(address).await?;
        let created_by = settings
            .admin
            .as_ref()
            .map_or("", |admin| admin.as_str())
            .to_owned();
        create_declared_keys(&keyring, &keys, &created_by).await?;
        let mut server = Server::start(listener, settings, keyring, environment.clone())?;
        server.watch_tls(LOOK_PERIOD);
        let mut banner = Banner {
            port: server.local_addr().port(),
            certificate: server.certificate_dates(),
            ..banner
        };
        if let Some(probes) = probes {
            let bound = probes.local_addr()?;
            let reached = interfaces::of(bound.ip())?.into_iter();
            banner.health = reached.map(|ip| SocketAddr::new(ip, bound.port())).collect();
            server.serve_health(probes);
        }
        Ok(Running {
            server,
            environment,
            source,
            store,
            opened,
            declared: keys.into_iter().collect(),
            address,
            health: health.map(|health| health.address),
            banner,
            is_quiet,
        })
    }
}

/// Listens on the first address that the system has.
async fn listen(address: ListenAddress) -> anyhow::Result<TcpListener> {
    let mut last = anyhow!("there is no address");
    for candidate in address.candidates() {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error.into(),
        }
    }
    Err(last.context(format!("cannot listen on {address}")))
}

/// A server that runs.
struct Running {
    server: Server,
    environment: Environment,
    source: Source,
    store: Store,
    /// What `store` led to.
    opened: Opened,
    /// The declared keys that `store` had or was given. Only other ones need it when the settings are read again, so that
    /// a policy can be changed while the store is away.
    declared: HashSet<KeyName>,
    address: ListenAddress,
    health: Option<ListenAddress>,
    banner: Banner,
    is_quiet: bool,
}

impl Running {
    /// Serves until told to stop.
    async fn serve(mut self, stop: &mut Stop, reload: &mut Signal, context: &Context<'_>) -> Outcome {
        if !self.is_quiet {
            say(self.banner.render("Server is up and running", context.output)).await;
        }
        self.banner.api_key = None;
        tell_manager(&[NotifyState::Ready]);
        let _watchdog = Watchdog::start();
        loop {
            tokio::select! {
                () = stop.requested() => break,
                _ = reload.recv() => tokio::select! {
                    () = self.reload(context) => {}
                    () = stop.requested() => break,
                },
            }
        }

        tell_manager(&[NotifyState::Stopping]);
        tokio::select! {
            () = self.server.shutdown(GRACE) => {}
            // Whoever asks twice does not want to wait.
            () = stop.requested() => return Err(Failure::Interrupted),
        }
        say("=> Server has stopped\n".to_owned()).await;
        Ok(())
    }

    /// Takes on what the configuration file says now. If it cannot, everything stays as it is.
    async fn reload(&mut self, context: &Context<'_>) {
        if !self.source.can_reload() {
            tracing::info!("there is no configuration file to read again");
            return;
        }
        // The time tells a service manager which of its requests this answers.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell_manager(&[NotifyState::Reloading, now]),
            Err(_) => tell_manager(&[NotifyState::Reloading]),
        }
        match self.try_reload(context).await {
            Ok(()) => {
                tracing::info!("the configuration has been reloaded");
                if !self.is_quiet {
                    say(self
                        .banner
                        .render("Server has reloaded its configuration", context.output))
                    .await;
                }
            }
            Err(error) => tracing::error!(
                error = chain(&*error),
                "cannot reload the configuration: the server goes on with the one it has"
            ),
        }
        tell_manager(&[NotifyState::Ready]);
    }

    async fn try_reload(&mut self, context: &Context<'_>) -> anyhow::Result<()> {
        let plan = self.source.load_again(&context.environment)?;
        // Before the key store changes, so that nothing does if this is wrong.
        plan.check_tls()?;
        let Plan {
            address,
            health,
            server: settings,
            store,
            cache,
            keys,
            api_key: _,
        } = plan;
        if address != self.address {
            tracing::warn!("a new address takes a restart");
        }
        if health.map(|health| health.address) != self.health {
            tracing::warn!("a new health.address takes a restart");
        }
        let change = store.change(&self.opened).context(AS_IT_WAS)?;
        let opened = if change.is_some() || store == self.store {
            None
        } else {
            let clock = Arc::clone(&context.clock);
            Some(store.connect(clock).await.context("the key store")?)
        };
        let fresh = opened
            .as_ref()
            .map(|opened| self.environment.keyring(opened.connected(), cache));
        let keyring = fresh.clone().unwrap_or_else(|| self.server.keyring());
        let (admin, client_auth, log) = (settings.admin.clone(), settings.tls.client_auth, settings.log);

        let mut missing = keys.clone();
        if fresh.is_none() {
            missing.retain(|key| !self.declared.contains(key));
        }
        let created_by = admin.as_ref().map_or("", |admin| admin.as_str());
        if let Err(error) = create_declared_keys(&keyring, &missing, created_by).await {
            close(fresh).await;
            return Err(error.into());
        }
        // As late as can be, since it cannot be undone: whoever goes back to the old configuration after a failure may need
        // the old seal.
        if let Some(change) = change {
            change.make().await.context(AS_IT_WAS)?;
        }
        // From here on the server closes a key ring that it does not take on.
        self.server.reload(settings, fresh.clone())?;
        if fresh.is_none() {
            keyring.reconfigure(cache);
        }
        self.declared = keys.into_iter().collect();
        self.store = store;
        self.opened = opened.unwrap_or_else(|| self.opened.clone());
        self.banner.store = self.opened.description();
        (self.banner.admin, self.banner.client_auth, self.banner.log) = (admin, client_auth, log);
        self.banner.certificate = self.server.certificate_dates();
        Ok(())
    }
}

/// Closes a key ring that was connected for nothing.
async fn close(keyring: Option<Arc<Keyring>>) {
    if let Some(keyring) = keyring {
        keyring.close().await;
    }
}

/// Prints `text`. Nobody may be reading it, and that must not hold up the server.
async fn say(text: String) {
    let write = tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    });
    let _ = timeout(LAST_LINES, write).await;
}

/// What other processes want. Heard from the first moment on, since the system ends a process that does not listen.
struct Signals {
    stop: Stop,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let stop = Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        Ok(Self {
            stop,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// The wish to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The two logs, and the tasks that write them.
struct Logs {
    errors: Arc<ErrorLog>,
    audit: Arc<Console>,
    writers: [AbortHandle; 2],
}

impl Logs {
    fn start(clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let errors = ErrorLog::new(Console::new(), clock);
        let audit = Console::new();
        errors.install().context("cannot set up the error log")?;
        let write = |console: &Arc<Console>, target| {
            let console = Arc::clone(console);
            let writer = tokio::spawn(async move {
                // Without a console, the logs can still be followed over HTTP.
                let _ = console.run(target).await;
                pending::<()>().await;
            });
            writer.abort_handle()
        };
        let writers = [
            write(errors.console(), Target::Stderr),
            write(&audit, Target::Stdout),
        ];
        Ok(Self {
            errors,
            audit,
            writers,
        })
    }

    /// Waits a little for the last lines.
    async fn finish(self) {
        let _ = timeout(LAST_LINES, async {
            self.audit.drained().await;
            self.errors.console().drained().await;
        })
        .await;
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.writers.iter().for_each(AbortHandle::abort);
    }
}

/// Tells the service manager that the server is alive, as often as it wants to hear it.
struct Watchdog(Option<AbortHandle>);

impl Watchdog {
    fn start() -> Self {
        let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else {
            return Self(None);
        };
        let task = tokio::spawn(async move {
            // Twice as often as it takes, so that one late turn does no harm.
            let mut interval = tokio::time::interval(period / 2);
            loop {
                interval.tick().await;
                tell_manager(&[NotifyState::Watchdog]);
            }
        });
        Self(Some(task.abort_handle()))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Tells the service manager about `states`, if there is one.
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = chain(&error), "the service manager cannot be told");
    }
}
