//! The section `keystore`: which of the key stores is meant, and its settings.

use crate::keystore::{
    Aws, AwsCredentials, Azure, AzureLogin, Entrust, Fortanix, Fs, Gcp, GcpCredentials, Gemalto,
    KeyStoreSettings,
};
use crate::legacy;
use crate::reader::{Checked, Context, Reported, Section, Text};
use crate::schema::{embedded, endpoint, vault};

/// A key store and where it stands.
struct Backend {
    vendor: &'static str,
    /// The section in that of the vendor; for some there is only the vendor's.
    product: Option<&'static str>,
    /// The keys of which one must say something for the key store to be chosen. Samples list them all, empty.
    selectors: &'static [&'static str],
    read: fn(&Context<'_>, &mut Section<'_>) -> Checked<KeyStoreSettings>,
}

const BACKENDS: [Backend; 9] = [
    Backend {
        vendor: "embedded",
        product: None,
        selectors: &["seal", "path"],
        read: embedded::read,
    },
    Backend {
        vendor: "fs",
        product: None,
        selectors: &["path"],
        read: fs,
    },
    Backend {
        vendor: "vault",
        product: None,
        selectors: &["endpoint"],
        read: vault::read,
    },
    Backend {
        vendor: "fortanix",
        product: Some("sdkms"),
        selectors: &["endpoint"],
        read: fortanix,
    },
    Backend {
        vendor: "gemalto",
        product: Some("keysecure"),
        selectors: &["endpoint"],
        read: gemalto,
    },
    Backend {
        vendor: "gcp",
        product: Some("secretmanager"),
        selectors: &["project_id"],
        read: gcp,
    },
    Backend {
        vendor: "aws",
        product: Some("secretsmanager"),
        selectors: &["endpoint", "region"],
        read: aws,
    },
    Backend {
        vendor: "azure",
        product: Some("keyvault"),
        selectors: &["endpoint"],
        read: azure,
    },
    Backend {
        vendor: "entrust",
        product: Some("keycontrol"),
        selectors: &["endpoint"],
        read: entrust,
    },
];

/// The default of `keystore.gcp.secretmanager.endpoint`.
const GCP_ENDPOINT: &str = "secretmanager.googleapis.com";

/// Said of the key of an endpoint that is missing.
pub(crate) const ENDPOINT: &str = "set it to the address of the service";

pub(crate) fn read(cx: &Context<'_>, mut keystore: Section<'_>) -> Checked<KeyStoreSettings> {
    let at = keystore.at();
    let mut present = Vec::new();
    let mut failed = None;
    for backend in &BACKENDS {
        match backend.find(cx, &mut keystore) {
            Ok(Some(section)) => present.push((backend, section)),
            Ok(None) => {}
            Err(reported) => failed = Some(reported),
        }
    }
    for (removed, after) in legacy::REMOVED {
        match keystore.section(cx, removed) {
            Ok(section) => failed = legacy::check_removed(cx, &section, after).or(failed),
            Err(reported) => failed = Some(reported),
        }
    }
    keystore.finish(cx);
    if let Some(reported) = failed {
        return Err(reported);
    }

    let (mut selected, mut blank): (Vec<_>, Vec<_>) = present
        .into_iter()
        .partition(|(backend, section)| backend.is_selected(cx, section));
    if selected.len() > 1 {
        let names: Vec<_> = selected
            .iter()
            .map(|(_, section)| format!("`{}`", section.path()))
            .collect();
        let message = format!(
            "only one key store can be configured, and there are {}",
            names.join(", ")
        );
        return Err(cx.error(at, "keystore", message));
    }
    if let Some((backend, mut section)) = selected.pop() {
        let settings = (backend.read)(cx, &mut section);
        section.finish(cx);
        return settings;
    }
    Err(match blank.as_mut_slice() {
        [(backend, section)] => backend.not_selected(cx, section),
        _ => {
            let message = "no key store is configured: `keystore.embedded` keeps keys in one encrypted file, which \
                           `kes init DIR` sets up, and `--dev` starts a server without a configuration that keeps \
                           them in memory";
            cx.error(at, "keystore", message)
        }
    })
}

/// Reports key stores that exist no more, if they are asked for.
pub(crate) fn check_removed(cx: &Context<'_>, mut keystore: Section<'_>) -> Checked<()> {
    for (removed, after) in legacy::REMOVED {
        let section = keystore.section(cx, removed)?;
        if let Some(reported) = legacy::check_removed(cx, &section, after) {
            return Err(reported);
        }
    }
    Ok(())
}

impl Backend {
    /// Its section, if there is one.
    fn find<'a>(&self, cx: &Context<'_>, keystore: &mut Section<'a>) -> Checked<Option<Section<'a>>> {
        let mut section = keystore.section(cx, self.vendor)?;
        if let Some(product) = self.product {
            let inner = section.section(cx, product);
            section.finish(cx);
            section = inner?;
        }
        Ok(Some(section).filter(Section::is_present))
    }

    /// Reports what is missing for it to be chosen.
    fn not_selected(&self, cx: &Context<'_>, section: &mut Section<'_>) -> Reported {
        let key = self.selectors.last().copied().unwrap_or_default();
        match section.required(
            cx,
            key,
            "without it this key store is not chosen, and there is no other",
        ) {
            Err(reported) => reported,
            // Unless blanks are all there is, which counts as missing here only.
            Ok(text) => cx.error(Some(text.at), &text.key, "is empty"),
        }
    }

    fn is_selected(&self, cx: &Context<'_>, section: &Section<'_>) -> bool {
        section
            .entries()
            .any(|entry| self.selectors.contains(&entry.key.as_str()) && !cx.is_blank(&entry.value))
    }
}

/// An optional text that is no secret.
pub(crate) fn public(text: Checked<Option<Text>>) -> Checked<Option<String>> {
    Ok(text?.map(|text| text.to_public()))
}

/// The `ca` of a section's `tls`.
fn ca(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<Option<std::path::PathBuf>> {
    let mut tls = section.section(cx, "tls")?;
    let ca = tls.filled(cx, "ca");
    tls.finish(cx);
    Ok(ca?.map(|text| text.to_path()))
}

fn fs(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let path = section.required(cx, "path", "set it to the folder that keys are kept in")?;
    Ok(KeyStoreSettings::Fs(Fs { path: path.to_path() }))
}

fn fortanix(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section.required(cx, "endpoint", ENDPOINT);
    let group_id = section.filled(cx, "group_id");
    let key = section.section(cx, "credentials").and_then(|mut credentials| {
        let key = credentials.required(cx, "key", "set it to the API key of the application");
        credentials.finish(cx);
        key
    });
    let ca = ca(cx, section);
    Ok(KeyStoreSettings::Fortanix(Fortanix {
        endpoint: endpoint?.to_public(),
        group_id: public(group_id)?,
        key: key?.into_secret(),
        ca: ca?,
    }))
}

fn gemalto(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section.required(cx, "endpoint", ENDPOINT);
    let credentials = section.section(cx, "credentials").and_then(|mut credentials| {
        let token = credentials.required(cx, "token", "set it to a refresh token");
        let domain = credentials.filled(cx, "domain");
        credentials.finish(cx);
        Ok((token?, public(domain)?))
    });
    let ca = ca(cx, section);
    let endpoint = endpoint?.to_public();
    let (token, domain) = credentials?;
    Ok(KeyStoreSettings::Gemalto(Gemalto {
        endpoint,
        token: token.into_secret(),
        domain,
        ca: ca?,
    }))
}

fn gcp(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let project_id = section.required(cx, "project_id", "set it to the project of the secrets");
    let endpoint = section.filled(cx, "endpoint");
    let path = section.path_of("scopes");
    let scopes: Checked<Vec<String>> = section.list(cx, "scopes").and_then(|items| {
        let scopes: Vec<_> = items.iter().map(|item| cx.text(item, &path)).collect();
        let scopes = scopes.into_iter().collect::<Checked<Vec<_>>>()?;
        // The sample of the reference has an empty one.
        Ok(scopes
            .iter()
            .filter(|scope| !scope.is_empty())
            .map(Text::to_public)
            .collect())
    });
    let credentials = section
        .optional_section(cx, "credentials")
        .and_then(|credentials| {
            const ALL: &str = "of a service account all four credentials are needed";
            let Some(mut credentials) = credentials else {
                return Ok(None);
            };
            let client_email = credentials.required(cx, "client_email", ALL);
            let client_id = credentials.required(cx, "client_id", ALL);
            let private_key_id = credentials.required(cx, "private_key_id", ALL);
            let private_key = credentials.required(cx, "private_key", ALL);
            credentials.finish(cx);
            Ok(Some(GcpCredentials {
                client_email: client_email?.to_public(),
                client_id: client_id?.to_public(),
                private_key_id: private_key_id?.into_secret(),
                private_key: private_key?.into_secret(),
            }))
        });
    Ok(KeyStoreSettings::Gcp(Gcp {
        project_id: project_id?.to_public(),
        endpoint: public(endpoint)?.unwrap_or_else(|| GCP_ENDPOINT.to_owned()),
        scopes: scopes?,
        credentials: credentials?,
    }))
}

fn aws(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section
        .filled(cx, "endpoint")
        .and_then(|text| text.map(|text| endpoint::host_or_url(cx, &text)).transpose());
    let region = section.required(cx, "region", "set it to the AWS region, such as `us-east-2`");
    let kmskey = section.filled(cx, "kmskey");
    let credentials = section
        .optional_section(cx, "credentials")
        .and_then(|credentials| {
            const BOTH: &str =
                "an access key and its secret key are needed, or neither for the credentials of the machine";
            let Some(mut credentials) = credentials else {
                return Ok(None);
            };
            let accesskey = credentials.required(cx, "accesskey", BOTH);
            let secretkey = credentials.required(cx, "secretkey", BOTH);
            let token = credentials.filled(cx, "token");
            credentials.finish(cx);
            Ok(Some(AwsCredentials {
                accesskey: accesskey?.into_secret(),
                secretkey: secretkey?.into_secret(),
                token: token?.map(Text::into_secret),
            }))
        });
    let ca = ca(cx, section);
    Ok(KeyStoreSettings::Aws(Aws {
        endpoint: endpoint?,
        region: region?.to_public(),
        kmskey: public(kmskey)?,
        credentials: credentials?,
        ca: ca?,
    }))
}

fn azure(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section.required(cx, "endpoint", ENDPOINT);
    let credentials = section.optional_section(cx, "credentials");
    let managed = section.optional_section(cx, "managed_identity");
    let login = match (credentials?, managed?) {
        (None, None) => Ok(AzureLogin::Ambient),
        (Some(mut credentials), None) => {
            const ALL: &str = "the tenant, the client and its secret are needed";
            let tenant_id = credentials.required(cx, "tenant_id", ALL);
            let client_id = credentials.required(cx, "client_id", ALL);
            let client_secret = credentials.required(cx, "client_secret", ALL);
            credentials.finish(cx);
            client_secret_login(tenant_id, client_id, client_secret)
        }
        (None, Some(mut managed)) => {
            let client_id = managed.required(cx, "client_id", "set it to the id of the managed identity");
            managed.finish(cx);
            client_id.map(|text| AzureLogin::ManagedIdentity {
                client_id: text.to_public(),
            })
        }
        (Some(_), Some(managed)) => {
            let message = "stands beside `credentials`: only one of them can be used";
            Err(cx.error(managed.at(), managed.path(), message))
        }
    };
    Ok(KeyStoreSettings::Azure(Azure {
        endpoint: endpoint?.to_public(),
        login: login?,
    }))
}

fn client_secret_login(
    tenant_id: Checked<Text>,
    client_id: Checked<Text>,
    client_secret: Checked<Text>,
) -> Checked<AzureLogin> {
    Ok(AzureLogin::ClientSecret {
        tenant_id: tenant_id?.to_public(),
        client_id: client_id?.to_public(),
        client_secret: client_secret?.into_secret(),
    })
}

fn entrust(cx: &Context<'_>, section: &mut Section<'_>) -> Checked<KeyStoreSettings> {
    let endpoint = section.required(cx, "endpoint", ENDPOINT);
    let vault_id = section.required(cx, "vault_id", "set it to the id of the vault");
    let box_id = section.required(cx, "box_id", "set it to the id or the name of the box");
    let credentials = section.section(cx, "credentials").and_then(|mut credentials| {
        let username = credentials.required(cx, "username", "set it to the name to log in with");
        let password = credentials.required(cx, "password", "set it to the password to log in with");
        credentials.finish(cx);
        Ok((username?, password?))
    });
    let ca_at = section
        .entries()
        .find(|entry| entry.key == "tls")
        .map(|entry| entry.at);
    let ca = ca(cx, section);
    if let (Ok(Some(_)), Some(at)) = (&ca, ca_at) {
        let key = section.path_of("tls");
        cx.warn(
            at,
            &key,
            "these CA certificates now replace those of the system, which older releases kept besides",
        );
    }
    let (endpoint, vault_id, box_id) = (endpoint?.to_public(), vault_id?.to_public(), box_id?.to_public());
    let (username, password) = credentials?;
    Ok(KeyStoreSettings::Entrust(Entrust {
        endpoint,
        vault_id,
        box_id,
        username: username.to_public(),
        password: password.into_secret(),
        ca: ca?,
    }))
}
