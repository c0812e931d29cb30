//! One configuration, in the terms of the server and its key ring.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::HeaderName;
use kes_config::{AuthMode, Health, KeyStoreSettings, ListenAddress};
use kes_crypto::ApiKey;
use kes_keyring::CacheSettings;
use kes_keystore::{Connected, MemoryStore};
use kes_server::log::Level;
use kes_server::tls::Tls;
use kes_server::{
    Build, CertificateSource, ClientAuth, Limits, LogSettings, PolicySettings, ProxySettings, RouteSettings,
    Settings, TlsSettings,
};
use kes_types::{Clock, Identity, KeyName, Timestamp};
use rcgen::ExtendedKeyUsagePurpose;
use zeroize::Zeroizing;

use super::{descriptors, interfaces};
use crate::certificate::{self, Subject};
use crate::connect::{self, Change, Opened};
use crate::version;

/// How long the certificate of a development server is valid.
const DEV_VALIDITY: Duration = Duration::from_hours(90 * 24);

/// One configuration, in the terms of the server and its key ring.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) address: ListenAddress,
    /// Where probes are answered without TLS.
    pub(super) health: Option<Health>,
    pub(super) server: Settings,
    pub(super) store: Store,
    pub(super) cache: CacheSettings,
    /// Keys to create unless they exist.
    pub(super) keys: Vec<KeyName>,
    /// Of a development server.
    pub(super) api_key: Option<ApiKey>,
}

/// Where keys are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Store {
    Memory,
    Configured {
        settings: KeyStoreSettings,
        files: Vec<Fingerprint>,
    },
}

impl Store {
    pub(super) async fn connect(&self, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
        match self {
            Self::Memory => Ok(Connected::from(Arc::new(MemoryStore::new())).into()),
            Self::Configured { settings, files: _ } => connect::open(settings, clock).await,
        }
    }

    /// How `opened` takes on these settings, if it need not be connected anew for that.
    pub(super) fn change(&self, opened: &Opened) -> anyhow::Result<Option<Change>> {
        match self {
            Self::Memory => Ok(None),
            Self::Configured { settings, files: _ } => opened.change(settings),
        }
    }
}

/// Tells whether a file, or one in a folder, has been changed or replaced, without keeping what is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    path: PathBuf,
    /// `None` when there is no such file.
    state: Option<State>,
    /// What is in a folder, in the order of the names.
    entries: Vec<(OsString, Option<State>)>,
}

/// Device, inode, length and time of the last change.
type State = [u64; 5];

impl Fingerprint {
    fn of(path: &Path) -> Self {
        let state = |path: &Path| {
            let metadata = path.metadata().ok()?;
            let (seconds, nanos) = (
                metadata.ctime().cast_unsigned(),
                metadata.ctime_nsec().cast_unsigned(),
            );
            Some([metadata.dev(), metadata.ino(), metadata.len(), seconds, nanos])
        };
        // That something in it was written to does not change a folder itself.
        let entries = path.read_dir().into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries
            .take(MOST_ENTRIES)
            .map(|entry| (entry.file_name(), state(&entry.path())))
            .collect();
        entries.sort_unstable();
        Self {
            path: path.to_owned(),
            state: state(path),
            entries,
        }
    }
}

/// How many files of a folder are looked at: many more than any folder of CA certificates has.
const MOST_ENTRIES: usize = 10_000;

/// What used to be enough to start a server.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) address: ListenAddress,
    pub(super) root: String,
    pub(super) key: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) auth: Option<AuthMode>,
}

impl Plan {
    /// What a configuration file says.
    pub(super) fn of_file(settings: kes_config::Settings) -> anyhow::Result<Self> {
        let kes_config::Settings {
            address,
            admin,
            tls,
            api,
            policies,
            keys,
            cache,
            log,
            health,
            limits,
            keystore,
        } = settings;
        let routes = api
            .into_iter()
            .map(|(verb, kes_config::ApiOverride { skip_auth, timeout })| {
                (verb, RouteSettings { skip_auth, timeout })
            });
        let policies = policies.into_iter().map(
            |kes_config::PolicyAssignment {
                 name,
                 policy,
                 identities,
             }| {
                PolicySettings {
                    name,
                    policy,
                    identities,
                }
            },
        );
        let most_connections = descriptors::raise();
        let server = Settings {
            admin: admin.identity,
            policies: policies.collect(),
            tls: tls_settings(&tls),
            proxy: tls.proxy.map(proxy_settings).transpose()?,
            routes: routes.collect(),
            log: LogSettings {
                error: Level(log.error.as_i32()),
                audit: Level(log.audit.as_i32()),
            },
            limits: Limits {
                connections: limits.connections.unwrap_or(most_connections),
                body_memory: usize::try_from(limits.body_memory).unwrap_or(usize::MAX),
                log_streams: limits.log_streams,
                ..Limits::default()
            },
            build: build(),
        };
        let kes_config::Cache {
            any,
            unused,
            offline,
            entries,
        } = cache;
        let files = keystore.files().into_iter().map(Fingerprint::of).collect();
        Ok(Self {
            address,
            health,
            server,
            store: Store::Configured {
                settings: keystore,
                files,
            },
            cache: CacheSettings {
                any,
                unused,
                offline,
                entries,
            },
            keys,
            api_key: None,
        })
    }

    /// A server to try out: nothing outlives it.
    pub(super) fn for_development(address: ListenAddress, now: Timestamp) -> anyhow::Result<Self> {
        let api_key = ApiKey::generate()?;
        let ip = reachable(address)?;
        let (cert, key) = certificate::for_any_client(Subject {
            common_name: "localhost",
            dns: &["localhost".to_owned()],
            ip: &ip,
            from: now,
            validity: DEV_VALIDITY,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        })?;
        let certificate = CertificateSource::Memory { cert, key };
        let mut plan = Self::in_memory(
            address,
            Some(api_key.identity().clone()),
            certificate,
            AuthMode::Off,
        );
        plan.server.log.audit = Level::INFO;
        plan.api_key = Some(api_key);
        Ok(plan)
    }

    /// A server without a configuration file.
    pub(super) fn of_options(bare: &Bare) -> anyhow::Result<Self> {
        let Bare {
            address,
            root,
            key,
            cert,
            auth,
        } = bare;
        let admin = Identity::parse(root.trim()).ok().filter(Identity::is_digest);
        let certificate = CertificateSource::Files {
            cert: cert.clone(),
            key: key.clone(),
            password: None,
        };
        Ok(Self::in_memory(
            *address,
            admin,
            certificate,
            auth.unwrap_or(AuthMode::Off),
        ))
    }

    fn in_memory(
        address: ListenAddress,
        admin: Option<Identity>,
        certificate: CertificateSource,
        auth: AuthMode,
    ) -> Self {
        let server = Settings {
            admin,
            policies: Vec::new(),
            tls: TlsSettings {
                certificate,
                client_auth: client_auth(auth),
                ca: None,
            },
            proxy: None,
            routes: BTreeMap::new(),
            log: LogSettings::default(),
            limits: Limits {
                connections: descriptors::raise(),
                ..Limits::default()
            },
            build: build(),
        };
        let cache = CacheSettings::default();
        Self {
            address,
            health: None,
            server,
            store: Store::Memory,
            cache,
            keys: Vec::new(),
            api_key: None,
        }
    }

    /// Reads every file that the configuration names. What clients will not like about the certificate is returned.
    pub(super) fn check_files(&self, now: Timestamp) -> anyhow::Result<Vec<String>> {
        let concerns = self.check_tls()?.concerns(now);
        if let Store::Configured { settings, files: _ } = &self.store {
            connect::check(settings)?;
        }
        Ok(concerns)
    }

    /// Reads certificate, key and CA files.
    pub(super) fn check_tls(&self) -> anyhow::Result<Tls> {
        Ok(kes_server::tls::load(&self.server.tls, false)?)
    }
}

/// The addresses under which a server that listens on `address` can be reached.
pub(crate) fn reachable(address: ListenAddress) -> anyhow::Result<Vec<IpAddr>> {
    let first = address.candidates().first().map(std::net::SocketAddr::ip);
    interfaces::of(first.context("there is no address to listen on")?)
}

/// What a configuration says about TLS, in terms of the server. Proxies are a matter of their own.
pub(crate) fn tls_settings(tls: &kes_config::Tls) -> TlsSettings {
    let kes_config::Tls {
        key,
        cert,
        password,
        auth,
        ca,
        proxy: _,
    } = tls;
    let password = password.as_ref();
    TlsSettings {
        certificate: CertificateSource::Files {
            cert: cert.clone(),
            key: key.clone(),
            password: password.map(|password| Zeroizing::new(password.expose_secret().to_owned())),
        },
        client_auth: client_auth(*auth),
        ca: ca.clone(),
    }
}

const fn client_auth(auth: AuthMode) -> ClientAuth {
    match auth {
        AuthMode::Off => ClientAuth::AnyCertificate,
        AuthMode::On => ClientAuth::Verified,
    }
}

fn proxy_settings(proxy: kes_config::Proxy) -> anyhow::Result<ProxySettings> {
    let kes_config::Proxy { identities, header } = proxy;
    let header = HeaderName::from_bytes(header.as_bytes())
        .map_err(|_| anyhow!("tls.proxy.header.cert: must be the name of an HTTP header"))?;
    Ok(ProxySettings {
        identities: identities.into_iter().collect(),
        header,
    })
}

fn build() -> Build {
    Build {
        version: version::VERSION.to_owned(),
        commit: version::COMMIT.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_replaced_or_written_to_is_noticed_also_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("ca"), dir.path().join("ca/1.pem"));
        let look = || (Fingerprint::of(&folder), Fingerprint::of(&file));
        let mut seen = vec![look()];
        fs::create_dir(&folder).unwrap();
        seen.push(look());
        fs::write(&file, "a").unwrap();
        seen.push(look());
        assert_eq!(seen.last(), Some(&look()), "looking changes nothing");
        fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .unwrap()
            .set_len(2)
            .unwrap();
        seen.push(look());
        fs::write(folder.join("new"), "ab").unwrap();
        fs::rename(folder.join("new"), &file).unwrap();
        seen.push(look());
        for (i, (folder, file)) in seen.iter().enumerate() {
            for (j, (other_folder, other_file)) in seen.iter().enumerate() {
                assert_eq!(folder == other_folder, i == j, "folder {i} {j}");
                // Before there is a folder there is no file either.
                assert_eq!(file == other_file, i == j || i + j == 1, "file {i} {j}");
            }
        }
    }
}
