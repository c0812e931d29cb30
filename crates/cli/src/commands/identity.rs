//! `kes identity`: who one is.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use aws_lc_rs::digest;
use kes_client::{IdentityInfo, PolicyInfo};
use kes_crypto::ApiKey;
use kes_crypto::pem::PrivateKeyDer;
use kes_types::Identity;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::timestamp;
use crate::args::{self, IdentityOfArgs, KeyOptions};
use crate::certificate;
use crate::connection::{block_on, client, private_key};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, harmless};

const API_KEY_PREFIX: &str = "kes:v1:";

/// `kes identity`: a new API key.
pub(crate) fn generate(context: &mut Context<'_>) -> Outcome {
    let key = ApiKey::generate()?;
    print_new(&key, context.output)
}

fn print_new(key: &ApiKey, output: &mut Output) -> Outcome {
    let text = key.to_secret_text();
    if !output.is_terminal() {
        return output.text(&text);
    }
    output.text(&format!(
        "\n  API key:   {}\n  Identity:  {}\n\n",
        *text,
        key.identity()
    ))?;
    output.line("Keep the API key secret. It is shown only once and cannot be recovered.")
}

/// `kes identity X`: the identity of an API key or certificate, or the API key of a private key.
pub(crate) fn show(subject: &str, context: &mut Context<'_>) -> Outcome {
    if let Ok(key) = ApiKey::parse(subject) {
        return print_identity(key.identity().as_str(), context.output);
    }
    if subject.starts_with(API_KEY_PREFIX) {
        ApiKey::parse(subject)?;
    }
    let path = Path::new(subject);
    if !path.exists() {
        return Err(anyhow!("'{subject}' is neither an API key nor a file").into());
    }
    let pem = read(path)?;
    match first_block(&pem) {
        Some(Block::Certificate) => {
            let public_key = public_key_in(&pem).context(subject.to_owned())?;
            print_identity(Hash::Sha256.of(&public_key).as_str(), context.output)
        }
        Some(Block::PrivateKey) => {
            let key = match private_key(&pem, path, &context.environment)? {
                PrivateKeyDer::Pkcs8(der) => ApiKey::from_pkcs8(&der),
                PrivateKeyDer::Pkcs1(_) | PrivateKeyDer::Sec1(_) => Err(kes_crypto::BadApiKey::NotEd25519),
            };
            print_api_key(&key.context(subject.to_owned())?, context.output)
        }
        None => Err(anyhow!("{subject} holds neither a certificate nor a private key").into()),
    }
}

fn print_api_key(key: &ApiKey, output: &mut Output) -> Outcome {
    let text = key.to_secret_text();
    if !output.is_terminal() {
        return output.text(&text);
    }
    output.text(&format!("\n  API key:  {}\n\n", *text))?;
    output.line("Keep the API key secret.")
}

fn print_identity(identity: &str, output: &mut Output) -> Outcome {
    if output.is_terminal() {
        output.text(&format!("\n  Identity:  {identity}\n"))
    } else {
        output.text(identity)
    }
}

/// The kinds of PEM blocks that matter.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Certificate,
    PrivateKey,
}

/// The kind of the first block that matters.
fn first_block(pem: &[u8]) -> Option<Block> {
    pem.split(|byte| *byte == b'\n').find_map(|line| {
        let label = line
            .trim_ascii()
            .strip_prefix(b"-----BEGIN ")?
            .strip_suffix(b"-----")?;
        if label == b"CERTIFICATE" {
            return Some(Block::Certificate);
        }
        (label == b"PRIVATE KEY" || label.ends_with(b" PRIVATE KEY")).then_some(Block::PrivateKey)
    })
}

/// The public key of the first certificate in `pem`, in DER; whatever else is in it does not matter.
fn public_key_in(pem: &[u8]) -> anyhow::Result<Vec<u8>> {
    let der = CertificateDer::pem_slice_iter(pem)
        .next()
        .context("there is no certificate")?;
    let der = der.map_err(|_| anyhow!("the certificate is malformed"))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|_| anyhow!("the certificate is malformed"))?;
    Ok(certificate.public_key().raw.to_vec())
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    kes_tls::read_file(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `kes identity of`: the identities of certificates and API keys.
pub(crate) fn of(args: &IdentityOfArgs, context: &mut Context<'_>) -> Outcome {
    let IdentityOfArgs { subjects, hash, json } = args;
    let hash = hash.as_deref().map_or(Ok(Hash::Sha256), Hash::parse)?;
    let subjects = if subjects.is_empty() {
        if io::stdin().is_terminal() {
            let message = format!(
                "missing argument KEY|FILE; see '{} identity of --help'",
                args::program()
            );
            return Err(Failure::Usage(message));
        }
        &["-".to_owned()]
    } else {
        subjects.as_slice()
    };
    let identities = subjects
        .iter()
        .map(|subject| Ok((subject.as_str(), hash.of(&public_key_of(subject)?))));
    let identities = identities.collect::<anyhow::Result<Vec<_>>>()?;
    print_identities(&identities, *json, context.output)
}

/// The identity of an API key, of the certificate in a file, or an identity as it is.
pub(super) fn identity_of(subject: &str) -> anyhow::Result<Identity> {
    if !subject.starts_with(API_KEY_PREFIX) && !Path::new(subject).exists() {
        return Identity::parse(subject).map_err(|_| {
            anyhow!(
                "'{}' is neither an identity, an API key nor a file",
                harmless(subject)
            )
        });
    }
    Ok(kes_crypto::identity_of_spki(&public_key_of(subject)?))
}

/// The public key of an API key, of the certificate in a file or on the standard input: its `SubjectPublicKeyInfo` in DER.
fn public_key_of(subject: &str) -> anyhow::Result<Vec<u8>> {
    if subject.starts_with(API_KEY_PREFIX) {
        return certificate::public_key_of(&ApiKey::parse(subject)?);
    }
    if subject == "-" {
        let mut pem = Vec::new();
        io::stdin()
            .take(kes_tls::MAX_FILE)
            .read_to_end(&mut pem)
            .context("cannot read the standard input")?;
        return public_key_in(&pem).context("standard input");
    }
    public_key_in(&read(Path::new(subject))?).context(subject.to_owned())
}

/// What a public key is hashed with. Servers know SHA-256 only; the others are for whoever compares old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text.to_ascii_uppercase().as_str() {
            "SHA256" | "SHA-256" => Self::Sha256,
            "SHA384" | "SHA-384" => Self::Sha384,
            "SHA512" | "SHA-512" => Self::Sha512,
            _ => bail!("invalid value '{text}' for '--hash': want SHA256, SHA384 or SHA512"),
        })
    }

    /// The hash in lower-case hexadecimal.
    fn of(self, public_key: &[u8]) -> String {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, public_key)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn print_identities(identities: &[(&str, String)], json: bool, output: &mut Output) -> Outcome {
    if let ([(_, identity)], false) = (identities, json) {
        return print_identity(identity, output);
    }
    for (name, identity) in identities {
        if output.is_terminal() && !json {
            output.line(&format!("{name}: {identity}"))?;
        } else {
            #[derive(Serialize)]
            struct Named<'a> {
                name: &'a str,
                identity: &'a str,
            }
            output.json(&Named { name, identity }, false)?;
        }
    }
    Ok(())
}

/// `kes identity info`.
pub(crate) fn info(identity: Option<&str>, options: &KeyOptions, context: &mut Context<'_>) -> Outcome {
    context.warn_about_enclave(options.enclave.as_deref());
    let client = client(&options.connection, context)?;
    let mut info = block_on(async {
        match identity {
            Some(identity) => client.describe_identity(identity).await,
            None => client.describe_self().await,
        }
    })?;
    if let (Some(identity), true) = (identity, info.identity.is_empty()) {
        info.identity = identity.to_owned();
    }
    print_info(&info, identity.is_none(), options.json, context.output)
}

fn print_info(info: &IdentityInfo, is_self: bool, json: bool, output: &mut Output) -> Outcome {
    if json {
        return output.json(&info_as_json(info), output.is_terminal());
    }
    let IdentityInfo {
        identity,
        admin,
        created_at,
        created_by,
        policy,
        ..
    } = info;
    let mut line = |label: &str, value: &str| output.line(format!("{label:<11} {value}").trim_end());
    line("Identity", identity)?;
    if let (Some(policy), false) = (policy, is_self) {
        line("Policy", &policy.name)?;
    }
    if let Some(created_at) = created_at {
        line("Created At", &timestamp::local(*created_at))?;
    }
    line("Role", if *admin { "Admin" } else { "User" })?;
    if !created_by.is_empty() {
        line("Created By", created_by)?;
    }
    let (Some(policy), true) = (policy, is_self) else {
        return Ok(());
    };
    let PolicyInfo {
        name,
        created_at,
        allow,
        deny,
        ..
    } = policy;
    line("", "")?;
    line("Policy", name)?;
    if let Some(created_at) = created_at {
        line("Created At", &timestamp::local(*created_at))?;
    }
    for (label, rules) in [("Allow", allow), ("Deny", deny)] {
        if !rules.is_empty() {
            line(label, "")?;
        }
        for rule in rules {
            line("", &format!("· {rule}"))?;
        }
    }
    Ok(())
}

fn info_as_json(info: &IdentityInfo) -> impl Serialize {
    use std::collections::{BTreeMap, BTreeSet};

    use kes_types::wire::{Empty, RuleSet};
    use time::format_description::well_known::Rfc3339;

    #[derive(Serialize)]
    struct Info<'a> {
        identity: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        admin: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<String>,
        #[serde(skip_serializing_if = "str::is_empty")]
        created_by: &'a str,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        allow: RuleSet,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        deny: RuleSet,
    }
    let rules = |rules: &BTreeSet<String>| rules.iter().map(|rule| (rule.clone(), Empty {})).collect();
    let IdentityInfo {
        identity,
        admin,
        created_at,
        created_by,
        policy,
        ..
    } = info;
    Info {
        identity,
        admin: *admin,
        policy: policy.as_ref().map(|policy| policy.name.as_str()),
        created_at: created_at.and_then(|at| at.format(&Rfc3339).ok()),
        created_by,
        allow: policy
            .as_ref()
            .map(|policy| rules(&policy.allow))
            .unwrap_or_default(),
        deny: policy
            .as_ref()
            .map(|policy| rules(&policy.deny))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
