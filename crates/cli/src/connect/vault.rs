//! Vault and `OpenBao`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use kes_config::keystore::{self as settings, Vault, VaultLogin};
use kes_keystore::Patience;
use kes_keystore_vault::{ClientCertificate, Config, Jwt, KvVersion, Login, LoginNamespace, Tls, Transit};
use kes_tls::{ClientIdentity, ServerTrust};

use super::secret;

/// The settings in the terms of the key store.
pub(super) fn config(settings: &Vault) -> Config {
    let Vault {
        endpoint,
        engine,
        version,
        namespace,
        prefix,
        transit,
        login,
        tls,
        ping,
    } = settings;
    Config {
        endpoint: endpoint.clone(),
        engine: engine.clone(),
        version: match version {
            settings::KvVersion::V1 => KvVersion::V1,
            settings::KvVersion::V2 => KvVersion::V2,
        },
        namespace: namespace.clone(),
        prefix: prefix.clone(),
        transit: transit.as_ref().map(|settings::Transit { engine, key }| Transit {
            engine: engine.clone(),
            key: key.clone(),
        }),
        login: self::login(login),
        tls: self::tls(tls),
        ping: *ping,
        patience: Patience::default(),
    }
}

fn login(settings: &VaultLogin) -> Login {
    match settings {
        VaultLogin::AppRole {
            engine,
            namespace,
            id,
            secret,
        } => Login::AppRole {
            engine: engine.clone(),
            namespace: self::namespace(namespace),
            id: super::secret(id),
            secret: super::secret(secret),
        },
        VaultLogin::Kubernetes {
            engine,
            namespace,
            role,
            jwt,
        } => Login::Kubernetes {
            engine: engine.clone(),
            namespace: self::namespace(namespace),
            role: role.clone(),
            jwt: match jwt {
                settings::Jwt::File(file) => Jwt::File(file.clone()),
                settings::Jwt::Token(token) => Jwt::Token(secret(token)),
            },
        },
        VaultLogin::Token { file } => Login::Token { file: file.clone() },
        VaultLogin::Cert {
            engine,
            namespace,
            role,
        } => Login::Cert {
            engine: engine.clone(),
            namespace: self::namespace(namespace),
            role: role.clone(),
        },
    }
}

fn namespace(settings: &settings::LoginNamespace) -> LoginNamespace {
    match settings {
        settings::LoginNamespace::Inherit => LoginNamespace::Inherit,
        settings::LoginNamespace::Root => LoginNamespace::Root,
        settings::LoginNamespace::Named(name) => LoginNamespace::Named(name.clone()),
    }
}

fn tls(settings: &settings::ClientTls) -> Tls {
    let settings::ClientTls { client, ca } = settings;
    Tls {
        ca: ca.clone(),
        client: client
            .as_ref()
            .map(|settings::ClientCertificate { key, cert }| ClientCertificate {
                key: key.clone(),
                cert: cert.clone(),
            }),
    }
}

/// Reads the files that a connection is made from.
pub(super) fn check(settings: &Vault) -> anyhow::Result<()> {
    let settings::ClientTls { client, ca } = &settings.tls;
    ServerTrust::of_key_store(ca.as_deref())?;
    if let Some(settings::ClientCertificate { key, cert }) = client {
        ClientIdentity::from_files(key, cert)?;
    }
    match &settings.login {
        VaultLogin::Kubernetes {
            jwt: settings::Jwt::File(file),
            ..
        }
        | VaultLogin::Token { file } => has_token(file),
        VaultLogin::Kubernetes { .. } | VaultLogin::AppRole { .. } | VaultLogin::Cert { .. } => Ok(()),
    }
}

fn has_token(file: &Path) -> anyhow::Result<()> {
    // What is not a file may have nobody who writes into it.
    if !file.is_file() {
        return Ok(());
    }
    let text = kes_tls::read_file(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        !text.trim_ascii().is_empty(),
        "{} is empty: it must have a token in it",
        file.display()
    );
    Ok(())
}
