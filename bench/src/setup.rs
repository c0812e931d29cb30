//! What both servers and their clients need: the programs, certificates, a key store, configuration files.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::check::Client;
use crate::process::{SERVER_CORE, Server, free_address, pinned};
use crate::scenario::KEY;

/// The programs that are measured, built as they are shipped.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) kes: PathBuf,
    pub(crate) null_server: PathBuf,
    /// The commit that they were built from.
    pub(crate) commit: String,
}

/// A temporary folder with everything in it.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    identity: String,
    client: Arc<ClientConfig>,
}

impl Binaries {
    pub(crate) fn build(no_build: bool) -> anyhow::Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // One after the other: together they would be built with each other's features.
        let packages: &[_] = if no_build { &[] } else { &["kes-bench", "kes-cli"] };
        for package in packages {
            let status = Command::new(&cargo)
                .args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--profile",
                    "dist",
                    "--bins",
                    "-p",
                    package,
                ])
                .status()
                .context("starting cargo")?;
            ensure!(status.success(), "cargo cannot build {package}");
        }
        let here = env::current_exe()?;
        let target = here
            .parent()
            .and_then(Path::parent)
            .context("the program is not in a target folder")?;
        let git = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output();
        let commit = git
            .ok()
            .filter(|output| output.status.success())
            .map(|output| output.stdout);
        let commit = String::from_utf8(commit.unwrap_or_default())?.trim().to_owned();
        Ok(Self {
            kes: target.join("dist/kes"),
            null_server: target.join("dist/null-server"),
            commit,
        })
    }
}

impl Site {
    /// Makes it in the folder `parent`.
    pub(crate) fn new(parent: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix_in("kes-bench-", parent)
            .with_context(|| format!("making a folder in {}", parent.display()))?;
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut ca = CertificateParams::new([])?;
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let server = server.signed_by(&server_key, &issuer)?;
        // As `kes identity new` makes them.
        let client_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let client = CertificateParams::new([])?.self_signed(&client_key)?;
        let identity = kes_crypto::identity_of_spki(&client_key.subject_public_key_info()).to_string();

        let files = [
            ("ca.pem", ca_certificate.pem()),
            ("server.pem", server.pem()),
            ("server.key", server_key.serialize_pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text)?;
        }

        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from(client.der().to_vec())],
                PrivatePkcs8KeyDer::from(client_key.serialize_der()).into(),
            )?;
        Ok(Self {
            folder,
            identity,
            client: Arc::new(client),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn client(&self, addr: SocketAddr) -> anyhow::Result<Client> {
        Client::connect(addr, &self.client)
            .await
            .with_context(|| format!("connecting to {addr}"))
    }

    /// How to start our server. Its keys are in the folder `keys`, and its policy is what MinIO Server gets.
    pub(crate) fn kes(
        &self,
        program: &Path,
        keys: &str,
        audit: bool,
    ) -> anyhow::Result<(Command, SocketAddr)> {
        self.kes_on(pinned(SERVER_CORE, program), keys, audit)
    }

    /// The same, with the command of the program, which lacks its arguments.
    pub(crate) fn kes_on(
        &self,
        program: Command,
        keys: &str,
        audit: bool,
    ) -> anyhow::Result<(Command, SocketAddr)> {
        let (identity, path) = (&self.identity, self.path(keys));
        let audit = if audit { "on" } else { "off" };
        self.configured(
            program,
            keys,
            &format!(
                "admin: {{ identity: disabled }}
policy:
  minio:
    allow:
    - /v1/key/create/*
    - /v1/key/generate/*
    - /v1/key/decrypt/*
    - /v1/key/bulk/decrypt
    - /v1/key/list/*
    - /v1/status
    - /v1/metrics
    - /v1/log/audit
    - /v1/log/error
    identities: [ \"{identity}\" ]
log: {{ error: on, audit: {audit} }}
keystore: {{ fs: {{ path: {path:?} }} }}
"
            ),
        )
    }

    /// How to start our server with the client as its administrator. `settings` says the rest.
    pub(crate) fn administered(
        &self,
        program: &Path,
        name: &str,
        settings: &str,
    ) -> anyhow::Result<(Command, SocketAddr)> {
        self.administered_by(pinned(SERVER_CORE, program), name, settings)
    }

    /// The same, with the command of the program, which lacks its arguments.
    pub(crate) fn administered_by(
        &self,
        program: Command,
        name: &str,
        settings: &str,
    ) -> anyhow::Result<(Command, SocketAddr)> {
        let identity = &self.identity;
        self.configured(
            program,
            name,
            &format!("admin: {{ identity: \"{identity}\" }}\n{settings}"),
        )
    }

    /// Writes a configuration file for our server on a free port.
    fn configured(
        &self,
        mut command: Command,
        name: &str,
        settings: &str,
    ) -> anyhow::Result<(Command, SocketAddr)> {
        let addr = free_address()?;
        let config = self.path(&format!("{name}-{}.yaml", addr.port()));
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        fs::write(
            &config,
            format!("version: v1\naddress: {addr}\ntls: {{ key: {key:?}, cert: {cert:?} }}\n{settings}"),
        )?;
        command.args(["server", "--config"]).arg(config);
        Ok((command, addr))
    }

    /// Starts our server with the one key that requests name.
    pub(crate) async fn start_kes(&self, program: &Path, audit: bool) -> anyhow::Result<Server> {
        let (command, addr) = self.kes(program, "keys", audit)?;
        let server = Server::start(command, addr, &self.path("kes.log")).await?;
        self.create_key(addr).await?;
        Ok(server)
    }

    pub(crate) async fn start_null(&self, program: &Path) -> anyhow::Result<Server> {
        let addr = free_address()?;
        let mut command = pinned(SERVER_CORE, program);
        command.arg("--addr").arg(addr.to_string());
        command
            .arg("--cert")
            .arg(self.path("server.pem"))
            .arg("--key")
            .arg(self.path("server.key"));
        Server::start(command, addr, &self.path("null.log")).await
    }

    /// Creates the key unless an earlier server did.
    pub(crate) async fn create_key(&self, addr: SocketAddr) -> anyhow::Result<()> {
        if self.path("keys").join(KEY).exists() {
            return Ok(());
        }
        self.client(addr)
            .await?
            .send(Method::POST, &format!("/v1/key/create/{KEY}"), String::new())
            .await?;
        Ok(())
    }
}
