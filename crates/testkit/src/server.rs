//! A real server in the test's own process, on a port of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kes_keyring::{CacheSettings, Keyring};
use kes_keystore::{Connected, KeyStore, Maintenance, MemoryStore};
use kes_server::log::{ErrorLog, Level};
use kes_server::{
    Build, CertificateSource, ClientAuth, Console, Environment, Limits, LogSettings, PolicySettings, Server,
    Settings, Target, TlsSettings,
};
use kes_types::{Clock, Policy, PolicyName, Rule, SystemClock};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::{Credentials, FakeOwnStore, TestClient};

/// The admin's credentials, the same in all tests of a process.
pub fn admin() -> &'static Credentials {
    static ADMIN: OnceLock<Credentials> = OnceLock::new();
    ADMIN.get_or_init(|| Credentials::self_signed("admin"))
}

/// The credentials of a client with the policy `app`, the same in all tests of a process.
pub fn app() -> &'static Credentials {
    static APP: OnceLock<Credentials> = OnceLock::new();
    APP.get_or_init(|| Credentials::self_signed("app"))
}

fn server_certificate() -> &'static Credentials {
    static SERVER: OnceLock<Credentials> = OnceLock::new();
    SERVER.get_or_init(|| Credentials::self_signed("server"))
}

/// A server that has not been started yet.
#[derive(Debug)]
pub struct TestServer {
    /// What the server is told. `tls.certificate` is in memory.
    pub settings: Settings,
    /// Where the keys are.
    pub store: Arc<dyn KeyStore>,
    /// What `store` can do beyond the contract.
    pub maintenance: Option<Arc<dyn Maintenance>>,
    /// How keys are cached.
    pub cache: CacheSettings,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The error log, by default the one of the process, which hears everything and which all its servers share. A server
    /// that is shut down ends its followers' streams, so it needs one of its own.
    pub error_log: Arc<ErrorLog>,
}

impl Default for TestServer {
    fn default() -> Self {
        let rules = |rules: &[&str]| {
            rules
                .iter()
                .map(|rule| Rule::parse(rule).expect("a rule"))
                .collect()
        };
        let settings = Settings {
            admin: Some(admin().identity()),
            policies: vec![PolicySettings {
                name: PolicyName::parse("app").expect("a name"),
                policy: Policy {
                    allow: rules(&["/v1/key/*", "/v1/status"]),
                    deny: rules(&["/v1/key/*/internal*"]),
                },
                identities: vec![app().identity()],
            }],
            tls: TlsSettings {
                certificate: CertificateSource::Memory {
                    cert: server_certificate().chain_pem(),
                    key: Zeroizing::new(server_certificate().key_pem()),
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
                version: "test".to_owned(),
                commit: "none".to_owned(),
            },
        };
        Self {
            settings,
            store: Arc::new(MemoryStore::new()),
            maintenance: None,
            cache: CacheSettings::default(),
            clock: Arc::new(SystemClock),
            error_log: error_log(),
        }
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// The server itself.
    pub server: Option<Server>,
    /// What it stands on, for reloads with another key ring.
    pub environment: Environment,
    audit: Option<File>,
    audit_console: Arc<Console>,
    flusher: tokio::task::JoinHandle<()>,
    address: std::net::SocketAddr,
}

impl TestServer {
    /// A server over this store.
    #[must_use]
    pub fn over(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }

    /// A server over a store that it keeps itself.
    #[must_use]
    pub fn keeping(store: &FakeOwnStore) -> Self {
        let Connected { store, maintenance } = store.connected();
        Self {
            store,
            maintenance,
            ..Self::default()
        }
    }

    /// The same with an error log of its own, which hears nothing of what happens.
    #[must_use]
    pub fn with_own_error_log(mut self) -> Self {
        self.error_log = ErrorLog::new(Console::new(), Arc::clone(&self.clock));
        self
    }

    /// The settings of [`TestServer::default`], which those given to a reload start from.
    #[must_use]
    pub fn default_settings() -> Settings {
        Self::default().settings
    }

    /// Starts it on a free port. The audit log goes to a file ([`Running::audit`]).
    pub async fn start(self) -> Running {
        let file = tempfile::tempfile().expect("a temporary file");
        let written = file.try_clone().expect("a second descriptor");
        self.start_with_audit(file.into(), Some(written)).await
    }

    /// Starts it with an audit log that nobody reads before the test does.
    pub async fn start_with_stalled_audit(self) -> (Running, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (self.start_with_audit(writer.into(), None).await, reader)
    }

    async fn start_with_audit(self, audit: OwnedFd, written: Option<File>) -> Running {
        let Self {
            settings,
            store,
            maintenance,
            cache,
            clock,
            error_log,
        } = self;
        let audit_console = Console::new();
        let flusher = tokio::spawn({
            let console = Arc::clone(&audit_console);
            async move {
                console.run(Target::Fd(audit)).await.expect("the pipe is open");
            }
        });
        let environment = Environment::new(clock, error_log, Arc::clone(&audit_console));
        let keyring = environment.keyring(Connected { store, maintenance }, cache);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server =
            Server::start(listener, settings, keyring, environment.clone()).expect("the settings are good");
        let address = server.local_addr();
        Running {
            server: Some(server),
            environment,
            audit: written,
            audit_console,
            flusher,
            address,
        }
    }
}

impl Running {
    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// The server itself.
    ///
    /// # Panics
    /// After [`Running::shutdown`].
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The server's key ring.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        self.server().keyring()
    }

    /// The admin.
    #[must_use]
    pub fn admin(&self) -> TestClient {
        TestClient::new(self.address, Some(admin()))
    }

    /// A client with the policy `app`: all of `/v1/key/`, but nothing internal.
    #[must_use]
    pub fn app(&self) -> TestClient {
        TestClient::new(self.address, Some(app()))
    }

    /// A client with these credentials.
    #[must_use]
    pub fn client(&self, credentials: &Credentials) -> TestClient {
        TestClient::new(self.address, Some(credentials))
    }

    /// A client without a certificate.
    #[must_use]
    pub fn anonymous(&self) -> TestClient {
        TestClient::new(self.address, None)
    }

    /// The audit events so far.
    ///
    /// # Panics
    /// When the audit log is stalled, or not one JSON object a line.
    pub async fn audit(&self) -> Vec<serde_json::Value> {
        self.audit_console.drained().await;
        let mut file = self.audit.as_ref().expect("the audit log goes to a file");
        let mut text = String::new();
        // The descriptors share their position, so it goes back to the end by reading all.
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .expect("the file can be read");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("an event is one line of JSON"))
            .collect()
    }

    /// Stops the server politely.
    ///
    /// # Panics
    /// When it was stopped before.
    pub async fn shutdown(&mut self, grace: Duration) {
        self.server.take().expect("the server runs").shutdown(grace).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.flusher.abort();
    }
}

/// The error log of the process, which all its servers write to.
pub(crate) fn error_log() -> Arc<ErrorLog> {
    static LOG: OnceLock<Arc<ErrorLog>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = ErrorLog::new(Console::new(), Arc::new(SystemClock));
        log.install().expect("there is no other log");
        log
    });
    Arc::clone(log)
}
