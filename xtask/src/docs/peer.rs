//! What a document needs running, and the variables that tell its blocks where that is: the ones that readers fill in with what
//! they have.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{self, PATIENCE};

/// A service that a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Vault over TLS, its certificate issued by a CA of its own. `VAULT_ADDR`, `VAULT_TOKEN`, `VAULT_CACERT`.
    Vault,
    /// AWS Secrets Manager, KMS and IAM, and the command `aws`. `AWS_DEFAULT_REGION` and credentials of an administrator.
    Moto,
    /// The API server of a cluster, and the command `kubectl`, which finds it by `KUBECONFIG`.
    Kubernetes,
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "vault" => Some(Self::Vault),
            "moto" => Some(Self::Moto),
            "kubernetes" => Some(Self::Kubernetes),
            _ => None,
        }
    }
}

/// The peers of one document, stopped on drop.
#[derive(Debug, Default)]
pub(super) struct Peers {
    vault: Option<kes_peers::Vault>,
    moto: Option<kes_peers::Moto>,
    kubernetes: Option<kes_peers::Kubernetes>,
    programs: Vec<PathBuf>,
    variables: Vec<(&'static str, OsString)>,
    /// Variables that no document prints: they tell a command where its service is, which elsewhere it knows.
    hidden: Vec<(&'static str, OsString)>,
}

impl Peers {
    /// Starts them. What they need goes into `folder`.
    pub(super) fn start(kinds: &[Kind], folder: &Path) -> Result<Self> {
        let mut peers = Self::default();
        for kind in kinds {
            match kind {
                Kind::Vault => peers.start_vault(folder),
                Kind::Moto => peers.start_moto(),
                Kind::Kubernetes => peers.start_kubernetes(folder),
            }
            .with_context(|| format!("starting the peer {kind:?}"))?;
        }
        Ok(peers)
    }

    /// The commands that come with them.
    pub(super) fn programs(&self) -> Vec<&Path> {
        self.programs.iter().map(PathBuf::as_path).collect()
    }

    /// The environment of the document's blocks.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &OsString)> {
        let all = self.variables.iter().chain(&self.hidden);
        all.map(|(name, value)| (*name, value))
    }

    /// Fails unless a block for readers to fill in sets what the peers have set, and nothing else.
    pub(super) fn must_give(&self, text: &str) -> Result<()> {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let name = line.strip_prefix("export ").and_then(|rest| rest.split_once('='));
            let (name, _) = name.with_context(|| format!("'{line}' does not say export NAME=…"))?;
            ensure!(
                self.variables.iter().any(|(given, _)| *given == name),
                "no peer of the document gives {name}"
            );
        }
        Ok(())
    }

    fn start_vault(&mut self, folder: &Path) -> Result<()> {
        let ca = Authority::new(folder.join("vault-ca"))?;
        let (cert, key) = ca.issue("localhost")?;
        let vault = kes_peers::Vault::start_tls(&cert, &key)?;
        let port = vault.endpoint().rsplit(':').next().unwrap_or_default().to_owned();
        self.variables.extend([
            ("VAULT_ADDR", format!("https://localhost:{port}").into()),
            ("VAULT_TOKEN", "root".into()),
            ("VAULT_CACERT", ca.certificate().into()),
        ]);
        self.hidden.push(("VAULT_UNSEAL_KEY", vault.unseal_key().into()));
        self.vault = Some(vault);
        Ok(())
    }

    fn start_moto(&mut self) -> Result<()> {
        let moto = kes_peers::Moto::start()?;
        self.programs.push(kes_peers::aws_cli()?);
        self.variables.extend([
            ("AWS_DEFAULT_REGION", "eu-central-1".into()),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".into()),
            ("AWS_SECRET_ACCESS_KEY", "of-an-administrator".into()),
        ]);
        self.hidden.extend([
            ("AWS_ENDPOINT_URL", moto.endpoint().to_owned().into()),
            ("AWS_PAGER", "".into()),
        ]);
        self.moto = Some(moto);
        Ok(())
    }

    fn start_kubernetes(&mut self, folder: &Path) -> Result<()> {
        let kubernetes = kes_peers::Kubernetes::start()?;
        let ca = kubernetes.ca().display();
        let (endpoint, token) = (kubernetes.endpoint(), kubernetes.admin_token());
        let config = folder.join("kubeconfig");
        fs::write(
            &config,
            format!(
                "apiVersion: v1
kind: Config
clusters: [{{ name: c, cluster: {{ server: \"{endpoint}\", certificate-authority: \"{ca}\" }} }}]
users: [{{ name: u, user: {{ token: \"{token}\" }} }}]
contexts: [{{ name: x, context: {{ cluster: c, user: u }} }}]
current-context: x
"
            ),
        )?;
        self.programs.push(kes_peers::kubectl()?);
        self.hidden.push(("KUBECONFIG", config.into()));
        self.kubernetes = Some(kubernetes);
        Ok(())
    }
}

/// A CA in a folder.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let authority = Self { folder };
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem",
        )?;
        Ok(authority)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `name` and 127.0.0.1, and its key.
    fn issue(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let extensions = format!(
            "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:{name},IP:127.0.0.1\n"
        );
        fs::write(self.folder.join("leaf.ext"), extensions)?;
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout leaf.key -out leaf.csr"
        ))?;
        self.openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem",
        )?;
        Ok((self.folder.join("leaf.pem"), self.folder.join("leaf.key")))
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(&self.folder);
        process::run(&mut command, PATIENCE)?.expect_success().map(drop)
    }
}
