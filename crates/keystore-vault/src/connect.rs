//! From settings to a store that is logged in.

use std::sync::Arc;
use std::time::Duration;

use kes_keystore_http::{BadHttp, Deadline, HeaderValue, Method};
use kes_tls::{BadIdentity, BadTrust};
use kes_types::Clock;
use serde::Deserialize;

use crate::api::{Api, BadEndpoint, Call, Endpoint, Problem};
use crate::client::{Client, Failed};
use crate::failure::Origin;
use crate::kv::Kv;
use crate::path::{BadPath, Path};
use crate::session::Session;
use crate::store::{Parts, VaultStore};
use crate::tls::Stamps;
use crate::transit::Transit;
use crate::{Config, KvVersion, Login, LoginNamespace, login, tls as files};

/// Why there is no connection to Vault.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is none.
    #[error("keystore.vault.endpoint {0}")]
    Endpoint(BadEndpoint),
    /// A mount path, a folder or a name cannot be part of a path.
    #[error("{setting} {problem}")]
    Path {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: BadPath,
    },
    /// A namespace cannot be sent.
    #[error("{0} contains characters that no namespace has")]
    Namespace(&'static str),
    /// The CA certificates are not usable.
    #[error("keystore.vault.tls.ca")]
    Trust(#[source] BadTrust),
    /// The client's certificate is not usable.
    #[error("keystore.vault.tls")]
    Identity(#[source] BadIdentity),
    /// The HTTP client cannot be set up.
    #[error("no connection can be made to {endpoint}")]
    Http {
        /// Where.
        endpoint: String,
        /// What is wrong.
        source: BadHttp,
    },
    /// Vault does not accept the login, or cannot be reached.
    #[error("cannot log in to Vault at {endpoint}: {problem}")]
    Login {
        /// Where.
        endpoint: String,
        /// What is wrong, in one line.
        problem: String,
    },
    /// The configured engine is not what it should be.
    #[error("{problem}")]
    Engine {
        /// What it is, and which setting says something else.
        problem: String,
    },
    /// The process is ending.
    #[error("Vault was not connected to, because the process is ending")]
    Stopped,
}

impl VaultStore {
    /// Logs in, and sees to it from then on that there is a token. Looks at the engines where that is permitted, so that a
    /// wrong version is told at once.
    ///
    /// # Errors
    /// When the settings are not usable, Vault cannot be reached or does not accept the login, or the engine is another.
    pub async fn connect(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let Config {
            endpoint,
            engine,
            version,
            namespace,
            prefix,
            transit,
            login,
            tls,
            ping,
            patience,
        } = config;
        let endpoint = Endpoint::parse(&endpoint).map_err(ConnectError::Endpoint)?;
        let engine = path("keystore.vault.engine", &engine)?;
        let prefix = match prefix.as_deref() {
            None | Some("") => None,
            Some(prefix) => Some(path("keystore.vault.prefix", prefix)?),
        };
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let header = namespace
            .as_deref()
            .map(|namespace| header("keystore.vault.namespace", namespace));
        let header = header.transpose()?;
        let transit = transit.map(|transit| {
            let engine = path("keystore.vault.transit.engine", &transit.engine)?;
            let key = Transit::new(&engine, &transit.key);
            let key = key.map_err(|problem| ConnectError::Path {
                setting: "keystore.vault.transit.key",
                problem,
            })?;
            Ok((engine, key))
        });
        let transit = transit.transpose()?;
        let login_namespace = login_namespace(&login, header.as_ref())?;

        // From before they are read, so that a change meanwhile shows later.
        let stamps = Stamps::of(&tls).await;
        let http = files::http(&endpoint, &tls).await?;
        let kv = Kv::new(engine, version, prefix.as_ref());
        let origin = origin(&endpoint, &kv, prefix.as_ref(), namespace);
        let api = Arc::new(Api::new(http, endpoint.clone()));
        let authority = login::authority(
            login,
            Arc::clone(&api),
            login_namespace.clone(),
            patience,
            Arc::clone(&clock),
        )?;
        // It ends by itself, and knows better why than who only sees that it has taken too long.
        let limit = patience.operation.saturating_add(GRACE);
        let session = Session::start(authority, clock, limit).await;
        let session = session.map_err(|error| ConnectError::Login {
            endpoint: endpoint.to_string(),
            problem: error.to_string(),
        })?;
        let client = Client {
            api,
            session: Arc::new(session),
            namespace: header,
            login_namespace,
            patience,
        };
        look_at_kv(&client, &kv).await?;
        if let Some((engine, _)) = &transit {
            look_at_transit(&client, engine).await?;
        }
        if version == KvVersion::V1 {
            tracing::warn!(
                vault = %origin.store,
                "a K/V version 1 engine cannot keep two servers from creating the same key at the same time, unless the policy gives \"create\" without \"update\"; a version 2 engine always can"
            );
        }
        Ok(Self::start(Parts {
            client,
            kv,
            transit: transit.map(|(_, key)| key),
            origin,
            ping,
            tls,
            stamps,
        }))
    }
}

fn path(setting: &'static str, text: &str) -> Result<Path, ConnectError> {
    Path::parse(text).map_err(|problem| ConnectError::Path { setting, problem })
}

fn header(setting: &'static str, namespace: &str) -> Result<HeaderValue, ConnectError> {
    HeaderValue::from_str(namespace).map_err(|_| ConnectError::Namespace(setting))
}

/// The namespace to log in, and to renew tokens in.
fn login_namespace(
    login: &Login,
    inherited: Option<&HeaderValue>,
) -> Result<Option<HeaderValue>, ConnectError> {
    let (setting, namespace) = match login {
        Login::AppRole { namespace, .. } => ("keystore.vault.approle.namespace", namespace),
        Login::Kubernetes { namespace, .. } => ("keystore.vault.kubernetes.namespace", namespace),
        Login::Cert { namespace, .. } => ("keystore.vault.cert.namespace", namespace),
        Login::Token { .. } => return Ok(inherited.cloned()),
    };
    match namespace {
        LoginNamespace::Inherit => Ok(inherited.cloned()),
        LoginNamespace::Root => Ok(None),
        LoginNamespace::Named(namespace) => header(setting, namespace).map(Some),
    }
}

fn origin(endpoint: &Endpoint, kv: &Kv, prefix: Option<&Path>, namespace: Option<String>) -> Origin {
    let folder = prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
    let (version, other) = match kv.version() {
        KvVersion::V1 => ("v1", "version 2"),
        KvVersion::V2 => ("v2", "version 1"),
    };
    Origin {
        store: format!("Vault: {endpoint}/{}{folder}", kv.engine()),
        namespace,
        engine: kv.engine().to_string(),
        version,
        other,
    }
}

/// A mount, as whoever may use it can see it.
#[derive(Debug, Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    options: Option<Options>,
}

#[derive(Debug, Deserialize)]
struct Options {
    version: Option<String>,
}

async fn look_at_kv(client: &Client, kv: &Kv) -> Result<(), ConnectError> {
    let Some(mount) = mount(client, kv.engine()).await else {
        return Ok(());
    };
    let Mount { kind, path, options } = mount;
    let (engine, path) = (kv.engine(), path.trim_matches('/'));
    let is_v2 = options.and_then(|options| options.version).as_deref() == Some("2");
    let problem = match (kind.as_str(), kv.version(), is_v2) {
        ("kv" | "generic", KvVersion::V1, false) => return Ok(()),
        ("kv", KvVersion::V2, true) if engine.to_string() == path => return Ok(()),
        ("kv", KvVersion::V2, true) => format!(
            "the K/V engine is mounted at {path}, but keystore.vault.engine is {engine}; folders below it belong in keystore.vault.prefix"
        ),
        ("kv", KvVersion::V1, true) => {
            format!("{path} is a K/V version 2 engine, but keystore.vault.version is v1")
        }
        ("kv" | "generic", KvVersion::V2, false) => {
            format!("{path} is a K/V version 1 engine, but keystore.vault.version is v2")
        }
        (kind, _, _) => {
            format!("{path}, which keystore.vault.engine names, is not a K/V engine but one of type {kind}")
        }
    };
    Err(ConnectError::Engine { problem })
}

async fn look_at_transit(client: &Client, engine: &Path) -> Result<(), ConnectError> {
    match mount(client, engine).await {
        Some(mount) if mount.kind != "transit" => Err(ConnectError::Engine {
            problem: format!(
                "{engine}, which keystore.vault.transit.engine names, is not a transit engine but one of type {}",
                mount.kind
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The mount at `engine`, if that can be seen: not every server and every proxy shows it.
async fn mount(client: &Client, engine: &Path) -> Option<Mount> {
    #[derive(Deserialize)]
    struct Answer {
        data: Mount,
    }
    let path = Path::fixed("sys/internal/ui/mounts").join(engine);
    let mut call = Call {
        namespace: client.namespace.as_ref(),
        ..Call::new(Method::GET, &path)
    };
    let deadline = Deadline::of(&client.patience);
    let reply = client.ask(&mut call, &deadline).await;
    match reply.and_then(|reply| reply.json::<Answer>().map_err(Failed::Api)) {
        Ok(answer) => Some(answer.data),
        Err(failed) => {
            if matches!(failed.problem(), Some(Problem::Denied { .. })) {
                tracing::warn!(
                    vault = %client.api.endpoint(), %engine,
                    "this login can see no engine at {engine}: nothing is mounted there, or its policies give it nothing there"
                );
            } else {
                tracing::debug!(?failed, %engine, "it is not known what kind of engine this is");
            }
            None
        }
    }
}

/// How much longer a login may take than it allows itself, before it is broken off.
const GRACE: Duration = Duration::from_millis(500);
