//! The servers of one scenario and everything they write, in a folder that goes away with them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use kes_peers::process::{PATIENCE, Server, file_tail, free_port, http_status, wait_until};
use tempfile::TempDir;

use super::kes::{AuditEvent, Credentials, KesCli, KesServer, KesSettings, Policy, local};
use super::mc::Mc;
use super::store::{Place, Store};
use crate::pasted::Pasted;

/// The executables.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) kes: PathBuf,
    pub(super) minio: PathBuf,
    pub(super) mc: PathBuf,
}

/// What MinIO may do on KES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Admin,
    /// What the policy in MinIO's public documentation allows.
    DocumentedPolicy,
}

impl Access {
    /// The rules as the documentation prints them; `/v1/key/list` without a prefix among them.
    const RULES: &[&str] = &[
        "/v1/key/create/*",
        "/v1/key/generate/*",
        "/v1/key/decrypt/*",
        "/v1/key/bulk/decrypt",
        "/v1/key/list",
        "/v1/status",
        "/v1/metrics",
        "/v1/log/audit",
        "/v1/log/error",
    ];

    const fn policy(identity: &str) -> Policy<'_> {
        Policy {
            rules: Self::RULES,
            identity,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::DocumentedPolicy => "policy",
        })
    }
}

/// Which servers run, and how MinIO is told about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// For each KES server its name and how long keys stay in its cache, at most and unused.
    servers: &'static [(&'static str, (&'static str, &'static str))],
    auto_encryption: bool,
    api_key: bool,
}

impl Layout {
    const DEFAULT_EXPIRY: (&'static str, &'static str) = ("5m", "30s");
    pub(super) const ONE_SERVER: Self = Self {
        servers: &[("kes", Self::DEFAULT_EXPIRY)],
        auto_encryption: false,
        api_key: false,
    };
    /// The second server forgets keys soon, so that a step can wait for it.
    pub(super) const TWO_SERVERS: Self = Self {
        servers: &[("kes-1", Self::DEFAULT_EXPIRY), ("kes-2", ("2s", "1s"))],
        ..Self::ONE_SERVER
    };
    pub(super) const AUTO_ENCRYPTION: Self = Self {
        auto_encryption: true,
        ..Self::ONE_SERVER
    };
    pub(super) const API_KEY: Self = Self {
        api_key: true,
        ..Self::ONE_SERVER
    };
}

/// The key that MinIO uses where none is named.
pub(super) const DEFAULT_KEY: &str = "minio-default-key";

const ROOT_USER: &str = "minio";
const ROOT_PASSWORD: &str = "minio-root-password";

/// One MinIO Server, its KES servers and the clients of both.
#[derive(Debug)]
pub(super) struct World {
    tools: Rc<Tools>,
    layout: Layout,
    pub(super) store: Store,
    pub(super) keys: Place,
    pub(super) kes: Vec<KesServer>,
    /// The command line with MinIO's identity.
    pub(super) as_minio: KesCli,
    pub(super) minio_identity: String,
    /// The command line with the administrator's identity: MinIO's own, or another.
    pub(super) as_admin: KesCli,
    /// What KES printed for MinIO, if MinIO is told just that.
    pasted: Option<Pasted>,
    minio: Option<Server>,
    minio_port: u16,
    pub(super) mc: Mc,
    // Last, so that it outlives the processes that write to it.
    folder: TempDir,
}

/// The servers of KES, and who is who for them.
struct Parties {
    kes: Vec<KesServer>,
    minio: Party,
    admin: Credentials,
    pasted: Option<Pasted>,
}

/// Somebody known to KES.
struct Party {
    credentials: Credentials,
    identity: String,
}

impl World {
    /// Makes keys, certificates and configurations. Of the servers only those are started that make these themselves.
    pub(super) fn new(tools: &Rc<Tools>, access: Access, store: Store, layout: Layout) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kes-minio-")
            .tempdir()
            .context("making a temporary folder")?;
        let path = folder.path();
        let keys = match store {
            Store::Fs => Place::folder(path),
            Store::Embedded => Place::chosen_by_kes(),
            Store::Aws => Place::aws()?,
            Store::Vault => Place::vault()?,
        };
        let Parties {
            kes,
            minio,
            admin,
            pasted,
        } = match store {
            Store::Embedded => Parties::from_nothing(tools, path, access, layout)?,
            Store::Fs | Store::Aws | Store::Vault => {
                Parties::by_hand(tools, path, access, layout, &keys.yaml)?
            }
        };
        let cli = |credentials| KesCli {
            executable: tools.kes.clone(),
            folder: path.to_owned(),
            credentials,
        };
        let minio_port = free_port()?;
        Ok(Self {
            tools: Rc::clone(tools),
            layout,
            store,
            keys,
            kes,
            as_minio: cli(minio.credentials),
            minio_identity: minio.identity,
            as_admin: cli(admin),
            pasted,
            minio: None,
            minio_port,
            mc: Mc {
                executable: tools.mc.clone(),
                home: path.to_owned(),
                port: minio_port,
                user: ROOT_USER.to_owned(),
                password: ROOT_PASSWORD.to_owned(),
            },
            folder,
        })
    }

    /// Starts every server that does not run.
    pub(super) fn start(&mut self) -> Result<()> {
        for index in 0..self.kes.len() {
            if !self.server_mut(index)?.runs() {
                self.start_kes(index)?;
            }
        }
        let minio = self.minio.as_mut();
        if minio.is_some_and(|minio| minio.check_alive().is_ok()) {
            return Ok(());
        }
        self.start_minio()
    }

    pub(super) fn start_kes(&mut self, index: usize) -> Result<()> {
        let executable = self.tools.kes.clone();
        self.server_mut(index)?.start(&executable)
    }

    pub(super) fn server(&self, index: usize) -> Result<&KesServer> {
        self.kes
            .get(index)
            .with_context(|| format!("this scenario has no KES server {index}"))
    }

    pub(super) fn server_mut(&mut self, index: usize) -> Result<&mut KesServer> {
        self.kes
            .get_mut(index)
            .with_context(|| format!("this scenario has no KES server {index}"))
    }

    /// Starts MinIO and waits until it serves.
    pub(super) fn start_minio(&mut self) -> Result<()> {
        let endpoints: Vec<String> = self.kes.iter().map(KesServer::endpoint).collect();
        let mut command = Command::new(&self.tools.minio);
        command
            .args(["server", "--address", &format!("127.0.0.1:{}", self.minio_port)])
            .args(["--console-address", &format!("127.0.0.1:{}", free_port()?)])
            .arg(self.data())
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("MINIO_ROOT_USER", ROOT_USER)
            .env("MINIO_ROOT_PASSWORD", ROOT_PASSWORD)
            .env("MINIO_UPDATE", "off");
        if let Some(pasted) = &self.pasted {
            command.envs(pasted.for_minio());
        } else {
            command
                .env("MINIO_KMS_KES_ENDPOINT", endpoints.join(","))
                .env("MINIO_KMS_KES_CAPATH", self.server(0)?.certificate())
                .env("MINIO_KMS_KES_KEY_NAME", DEFAULT_KEY);
            match &self.as_minio.credentials {
                Credentials::Certificate(name) => {
                    command.env("MINIO_KMS_KES_KEY_FILE", self.path().join(format!("{name}.key")));
                    command.env("MINIO_KMS_KES_CERT_FILE", self.path().join(format!("{name}.crt")));
                }
                Credentials::ApiKey(key) => {
                    command.env("MINIO_KMS_KES_API_KEY", key);
                }
            }
        }
        if self.layout.auto_encryption {
            command.env("MINIO_KMS_AUTO_ENCRYPTION", "on");
        }
        let mut minio = Server::start("MinIO", &mut command, &self.minio_log(), &self.minio_log())?;
        wait_until("MinIO to be healthy", PATIENCE, || {
            minio.check_alive()?;
            Ok(http_status(self.minio_port, "/minio/health/cluster").filter(|status| *status == 200))
        })?;
        // Healthy means that the drives are there; users and configuration are loaded a moment later.
        wait_until("MinIO to answer its administrator", PATIENCE, || {
            minio.check_alive()?;
            Ok(self.mc.run(&["admin", "info", "m"])?.expect_success().ok())
        })?;
        self.minio = Some(minio);
        Ok(())
    }

    pub(super) fn stop_minio(&mut self) -> Result<()> {
        self.minio.take().context("MinIO does not run")?.stop()?;
        Ok(())
    }

    /// What all KES servers have audited, server by server.
    pub(super) fn audit(&self) -> Result<Vec<AuditEvent>> {
        let events = self
            .kes
            .iter()
            .map(KesServer::audit)
            .collect::<Result<Vec<_>>>()?;
        Ok(events.into_iter().flatten().collect())
    }

    /// How many requests for `path` have succeeded, by the audit.
    pub(super) fn audited(&self, path: &str) -> Result<usize> {
        Ok(self
            .audit()?
            .iter()
            .filter(|event| event.path == path && event.status == 200)
            .count())
    }

    /// Waits until so many requests for `path` have been audited, whatever their answers: a server writes an event a moment after
    /// it has answered. Gives their statuses.
    pub(super) fn statuses(&self, path: &str, requests: usize) -> Result<Vec<u64>> {
        wait_until(&format!("{requests} audit events of {path}"), PATIENCE, || {
            let events = self.audit()?;
            let of_path = events.iter().filter(|event| event.path == path);
            let statuses: Vec<_> = of_path.map(|event| event.status).collect();
            Ok(Some(statuses).filter(|statuses| statuses.len() >= requests))
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file or folder of this scenario.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The drive of MinIO.
    pub(super) fn data(&self) -> PathBuf {
        self.file("drive")
    }

    fn minio_log(&self) -> PathBuf {
        self.file("minio.log")
    }

    /// The ends of all logs.
    pub(super) fn evidence(&self) -> String {
        let servers: String = self.kes.iter().map(KesServer::evidence).collect();
        format!("{}{servers}", file_tail(&self.minio_log(), 25))
    }
}

impl Parties {
    /// Servers that share a store, with configurations that somebody has written. `keystore` is that section of them.
    fn by_hand(tools: &Tools, path: &Path, access: Access, layout: Layout, keystore: &str) -> Result<Self> {
        let certificate = |arguments: &[&str]| {
            local(
                &tools.kes,
                path,
                &[&["identity", "new", "--key"], arguments].concat(),
            )
            .map(drop)
        };
        certificate(&[
            "server.key",
            "--cert",
            "server.crt",
            "--ip",
            "127.0.0.1",
            "localhost",
        ])?;
        let minio = Party::minio(tools, path, layout)?;
        let operator = Party::certificate(tools, path, "operator")?;
        let (admin, policy) = match access {
            Access::Admin => (&minio, None),
            Access::DocumentedPolicy => (&operator, Some(Access::policy(&minio.identity))),
        };
        let servers = layout.servers.iter().map(|(name, expiry)| {
            let settings = KesSettings {
                admin: &admin.identity,
                policy,
                expiry: *expiry,
                keystore,
            };
            KesServer::by_hand(name, path, &settings)
        });
        Ok(Self {
            kes: servers.collect::<Result<_>>()?,
            admin: admin.credentials.clone(),
            minio,
            pasted: None,
        })
    }

    /// A server that makes everything itself, and whose administrator has the API key that it prints.
    fn from_nothing(tools: &Tools, path: &Path, access: Access, layout: Layout) -> Result<Self> {
        let [(name, Layout::DEFAULT_EXPIRY)] = layout.servers else {
            bail!("`kes server --init` makes one server, with the usual settings of the cache");
        };
        let mut server = KesServer::from_nothing(name, path)?;
        let started = server.start(&tools.kes).and_then(|()| server.pasted());
        let pasted = started.with_context(|| server.evidence())?;
        let admin = pasted.get("KES_API_KEY")?.to_owned();
        let (minio, pasted) = match access {
            Access::Admin => {
                server.edit(None)?;
                (Party::api_key(tools, path, admin.clone())?, Some(pasted))
            }
            Access::DocumentedPolicy => {
                let minio = Party::minio(tools, path, layout)?;
                server.edit(Some(Access::policy(&minio.identity)))?;
                (minio, None)
            }
        };
        Ok(Self {
            kes: vec![server],
            minio,
            admin: Credentials::ApiKey(admin),
            pasted,
        })
    }
}

impl Party {
    /// MinIO with credentials of its own.
    fn minio(tools: &Tools, path: &Path, layout: Layout) -> Result<Self> {
        if layout.api_key {
            let key = local(&tools.kes, path, &["identity"])?;
            Self::api_key(tools, path, key)
        } else {
            Self::certificate(tools, path, "minio")
        }
    }

    fn api_key(tools: &Tools, path: &Path, key: String) -> Result<Self> {
        Ok(Self {
            identity: local(&tools.kes, path, &["identity", "of", &key])?,
            credentials: Credentials::ApiKey(key),
        })
    }

    fn certificate(tools: &Tools, path: &Path, name: &'static str) -> Result<Self> {
        let (key, cert) = (format!("{name}.key"), format!("{name}.crt"));
        local(
            &tools.kes,
            path,
            &["identity", "new", "--key", &key, "--cert", &cert, name],
        )?;
        Ok(Self {
            identity: local(&tools.kes, path, &["identity", "of", &cert])?,
            credentials: Credentials::Certificate(name),
        })
    }
}
