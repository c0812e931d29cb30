//! What is examined.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kes_config::{Diagnostic, KeyStoreSettings, Lines, Overrides, Settings};
use kes_types::{Clock, Timestamp};
use tokio::sync::watch;
use tokio::time::timeout;

use super::LIMIT;
use crate::args::DoctorArgs;
use crate::commands::init::configuration_at;
use crate::environment::Environment;

/// A service that keeps keys, as far as the checks look at the way there.
pub(super) struct Service<'a> {
    /// Empty when it is that of the region.
    pub(super) endpoint: &'a str,
    /// The authorities that it is believed by, in place of the system's.
    pub(super) ca: Option<&'a Path>,
}

/// What is examined: a configuration, and what was said about its world. Without `Debug`, since it has API keys.
pub(super) struct Subject {
    pub(super) path: PathBuf,
    /// What the configuration says, if it is right.
    pub(super) settings: Option<Settings>,
    pub(super) lines: Lines,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    /// Where clients reach the server.
    pub(super) addresses: Vec<String>,
    /// Certificates and API keys of clients.
    pub(super) clients: Vec<String>,
    pub(super) write: bool,
    pub(super) offline: bool,
    pub(super) environment: Environment,
    pub(super) clock: Arc<dyn Clock>,
    /// Becomes true when the user has had enough.
    pub(super) given_up: watch::Receiver<bool>,
}

impl Subject {
    /// Reads the configuration.
    pub(super) async fn read(
        args: DoctorArgs,
        environment: Environment,
        clock: Arc<dyn Clock>,
        given_up: watch::Receiver<bool>,
    ) -> Self {
        let DoctorArgs {
            directory,
            config,
            address,
            client_cert,
            write,
            offline,
            strict: _,
            quiet: _,
            json: _,
            color: _,
        } = args;
        let path = config.or(directory).unwrap_or_default();
        let variables = environment.clone();
        let named = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let variable = |name: &str| variables.raw(name).map(str::to_owned);
            let path = configuration_at(&named);
            let loaded = kes_config::load(&path, &Overrides::default(), &variable);
            let lines = match &loaded {
                Ok(_) => Lines::of_file(&path, &variable),
                Err(_) => Lines::default(),
            };
            (path, loaded, lines)
        });
        let mut subject = Self {
            path,
            settings: None,
            lines: Lines::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            addresses: address,
            clients: client_cert,
            write,
            offline,
            environment,
            clock,
            given_up,
        };
        match timeout(LIMIT, read).await {
            Ok(Ok((path, Ok(loaded), lines))) => {
                subject.path = path;
                subject.settings = Some(loaded.settings);
                subject.warnings = loaded.warnings;
                subject.lines = lines;
            }
            Ok(Ok((path, Err(error), _))) => {
                subject.path = path;
                subject.errors = error.errors;
                subject.warnings = error.warnings;
            }
            Ok(Err(_)) | Err(_) => {
                let message = "cannot be read: it does not come to an end";
                subject.errors.push(Diagnostic {
                    file: Some(subject.path.display().to_string().into()),
                    line: None,
                    column: None,
                    key: String::new(),
                    message: message.to_owned(),
                });
            }
        }
        subject
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The settings, for checks that only run when there are some.
    pub(super) fn keystore(&self) -> Option<&KeyStoreSettings> {
        self.settings.as_ref().map(|settings| &settings.keystore)
    }

    /// The service behind the key store, if there is one that a server can use.
    pub(super) fn service(&self) -> Option<Service<'_>> {
        match self.keystore()? {
            KeyStoreSettings::Vault(vault) => Some(Service {
                endpoint: &vault.endpoint,
                ca: vault.tls.ca.as_deref(),
            }),
            KeyStoreSettings::Aws(aws) => Some(Service {
                endpoint: aws.endpoint.as_deref().unwrap_or_default(),
                ca: aws.ca.as_deref(),
            }),
            KeyStoreSettings::Embedded(_)
            | KeyStoreSettings::Fs(_)
            | KeyStoreSettings::Fortanix(_)
            | KeyStoreSettings::Gemalto(_)
            | KeyStoreSettings::Gcp(_)
            | KeyStoreSettings::Azure(_)
            | KeyStoreSettings::Entrust(_) => None,
        }
    }

    /// The key of the key store's section, such as `keystore.vault`.
    pub(super) fn keystore_key(&self) -> String {
        self.keystore().map_or_else(
            || "keystore".to_owned(),
            |settings| format!("keystore.{}", settings.kind()),
        )
    }
}
