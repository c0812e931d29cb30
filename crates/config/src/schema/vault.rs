//! The section `keystore.vault`.

use std::time::Duration;

use crate::keystore::{
    ClientCertificate, ClientTls, Jwt, KeyStoreSettings, KvVersion, LoginNamespace, Transit, Vault,
    VaultLogin,
};
use crate::reader::{Checked, Context, Section, Text};
use crate::schema::endpoint;
use crate::schema::keystore::{ENDPOINT, public};
use crate::tree::{Kind, Position};

/// Where Vault's documentation mounts its engines.
const KV_ENGINE: &str = "kv";
const TRANSIT_ENGINE: &str = "transit";
const APPROLE_ENGINE: &str = "approle";
const KUBERNETES_ENGINE: &str = "kubernetes";
const CERT_ENGINE: &str = "cert";

/// How often Vault's health is asked for: what the reference does, though its documentation says 10 seconds.
const PING: Duration = Duration::from_secs(15);

pub(crate) fn read(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section
        .required(cx, "endpoint", ENDPOINT)
        .and_then(|text| endpoint::url(cx, &text));
    let engine = section.filled(cx, "engine");
    let version = section.filled(cx, "version").and_then(|text| {
        text.map_or(Ok(KvVersion::V1), |text| {
            text.parse(cx, |text| match text {
                "v1" => Ok(KvVersion::V1),
                "v2" => Ok(KvVersion::V2),
                _ => Err("must be `v1` or `v2`, the version of the K/V engine"),
            })
        })
    });
    let (namespace, prefix) = (section.filled(cx, "namespace"), section.filled(cx, "prefix"));
    let transit = section
        .optional_section(cx, "transit")
        .and_then(|section| transit(cx, section));
    let tls = section
        .optional_section(cx, "tls")
        .and_then(|section| tls(cx, section));
    let login = login(cx, section);
    let ping = section.section(cx, "status").and_then(|mut status| {
        let ping = status.duration(cx, "ping");
        status.finish(cx);
        ping
    });

    let (login, tls) = (login?, tls?);
    if let (VaultLogin::Cert { .. }, cert_at, None) = (&login.0, login.1, &tls.client) {
        let message = "logs in with the client certificate, so `tls.key` and `tls.cert` are needed";
        return Err(cx.error(cert_at, &section.path_of("cert"), message));
    }
    Ok(KeyStoreSettings::Vault(Box::new(Vault {
        endpoint: endpoint?,
        engine: public(engine)?.unwrap_or_else(|| KV_ENGINE.to_owned()),
        version: version?,
        namespace: public(namespace)?,
        prefix: public(prefix)?,
        transit: transit?,
        login: login.0,
        tls,
        ping: ping?.filter(|ping| !ping.is_zero()).unwrap_or(PING),
    })))
}

fn transit(cx: &Context<'_>, section: Option<Section<'_>>) -> Checked<Option<Transit>> {
    let Some(mut section) = section else {
        return Ok(None);
    };
    let engine = engine(cx, &mut section, TRANSIT_ENGINE);
    let key = section.required(cx, "key", "set it to the name of the transit key");
    section.finish(cx);
    Ok(Some(Transit {
        engine: engine?,
        key: key?.to_public(),
    }))
}

fn tls(cx: &Context<'_>, section: Option<Section<'_>>) -> Checked<ClientTls> {
    let Some(mut section) = section else {
        return Ok(ClientTls {
            client: None,
            ca: None,
        });
    };
    let (key, cert) = (section.filled(cx, "key"), section.filled(cx, "cert"));
    let ca = section.filled(cx, "ca");
    let lone = |text: &Text, missing: &str| {
        cx.error(
            Some(text.at),
            &text.key,
            format!("needs `{missing}` beside it: a certificate comes with its key"),
        )
    };
    let client = match (key?, cert?) {
        (Some(key), Some(cert)) => Some(ClientCertificate {
            key: key.to_path(),
            cert: cert.to_path(),
        }),
        (None, None) => None,
        (Some(key), None) => return Err(lone(&key, "cert")),
        (None, Some(cert)) => return Err(lone(&cert, "key")),
    };
    section.finish(cx);
    Ok(ClientTls {
        client,
        ca: ca?.map(|text| text.to_path()),
    })
}

/// How to log in and where that stands.
fn login(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<(VaultLogin, Option<Position>)> {
    let mut methods = Vec::new();
    let mut failed = None;
    for (key, read) in [
        (
            "approle",
            approle as fn(&Context<'_>, &mut Section<'_>) -> Checked<VaultLogin>,
        ),
        ("kubernetes", kubernetes),
        ("token", token),
        ("cert", cert),
    ] {
        match section.optional_section(cx, key) {
            Ok(Some(method)) => methods.push((method, read)),
            Ok(None) => {}
            Err(reported) => failed = Some(reported),
        }
    }
    if let Some(reported) = failed {
        return Err(reported);
    }
    let count = methods.len();
    let Some((mut method, read)) = methods.pop().filter(|_| count == 1) else {
        let found = if count == 0 { "none is" } else { "more than one is" };
        let mut message =
            format!("{found} configured of `approle`, `kubernetes`, `token` and `cert`: one is needed");
        let listed = section.entries().find(|entry| {
            ["approle", "kubernetes", "token", "cert"].contains(&entry.key.as_str())
                && matches!(entry.value.kind, Kind::Map(_))
        });
        if let (0, Some(listed)) = (count, listed) {
            message = format!("{message}; `{}` is there, but has no values", listed.key);
        }
        return Err(cx.error(section.at(), section.path(), message));
    };
    let login = read(cx, &mut method);
    let at = method.at();
    method.finish(cx);
    Ok((login?, at))
}

fn approle(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<VaultLogin> {
    let engine = engine(cx, section, APPROLE_ENGINE);
    let namespace = namespace(cx, section);
    let id = section.required(cx, "id", "set it to the role id");
    let secret = section.required(cx, "secret", "set it to the secret id");
    Ok(VaultLogin::AppRole {
        engine: engine?,
        namespace: namespace?,
        id: id?.into_secret(),
        secret: secret?.into_secret(),
    })
}

fn kubernetes(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<VaultLogin> {
    let engine = engine(cx, section, KUBERNETES_ENGINE);
    let namespace = namespace(cx, section);
    let role = section.required(cx, "role", "set it to the role to log in as");
    let jwt = section.required(cx, "jwt", "set it to the file with the service account's token");
    let jwt = jwt.map(|text| {
        // A token is three parts in base64url, which has no slash.
        let is_path = text.as_str().contains(['/', std::path::MAIN_SEPARATOR]);
        if is_path {
            Jwt::File(text.to_path())
        } else {
            Jwt::Token(text.into_secret())
        }
    });
    Ok(VaultLogin::Kubernetes {
        engine: engine?,
        namespace: namespace?,
        role: role?.to_public(),
        jwt: jwt?,
    })
}

fn token(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<VaultLogin> {
    let file = section.required(cx, "file", "set it to the file with the token")?;
    Ok(VaultLogin::Token { file: file.to_path() })
}

fn cert(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<VaultLogin> {
    let engine = engine(cx, section, CERT_ENGINE);
    let namespace = namespace(cx, section);
    let role = section.filled(cx, "role");
    Ok(VaultLogin::Cert {
        engine: engine?,
        namespace: namespace?,
        role: public(role)?,
    })
}

fn engine(cx: &Context<'_>, section: &mut Section<'_>, default: &str) -> Checked<String> {
    Ok(public(section.filled(cx, "engine"))?.unwrap_or_else(|| default.to_owned()))
}

fn namespace(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<LoginNamespace> {
    Ok(match public(section.filled(cx, "namespace"))? {
        None => LoginNamespace::Inherit,
        Some(root) if root == "/" => LoginNamespace::Root,
        Some(name) => LoginNamespace::Named(name),
    })
}
