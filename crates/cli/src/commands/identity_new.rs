//! `kes identity new`: a private key and its certificate, in files that other programs read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use kes_crypto::{ApiKey, pem};
use rcgen::ExtendedKeyUsagePurpose;
use serde::Serialize;

use super::subject_names;
use crate::args::IdentityNewArgs;
use crate::certificate::{self, Subject};
use crate::context::Context;
use crate::failure::Outcome;
use crate::files::{self, NewFile};
use crate::output::Output;
use crate::password;

const DEFAULT_KEY: &str = "private.key";
const DEFAULT_CERT: &str = "public.crt";
const DEFAULT_EXPIRY: Duration = Duration::from_hours(720);
/// Longer than any host name. Some programs refuse certificates with longer names.
const MAX_COMMON_NAME: usize = 255;

/// Only an API key, unless an option says that there are to be files.
pub(crate) fn run(args: IdentityNewArgs, context: &mut Context<'_>) -> Outcome {
    let IdentityNewArgs {
        subject: _,
        key,
        cert,
        ip,
        dns,
        expiry,
        encrypt,
        force,
        server,
        json: _,
    } = &args;
    let wants_files = key.is_some()
        || cert.is_some()
        || !ip.is_empty()
        || !dns.is_empty()
        || expiry.is_some()
        || *encrypt
        || *force
        || *server;
    if wants_files {
        return run_with_files(args, context);
    }
    let api_key = ApiKey::generate()?;
    print(
        &Made {
            api_key: &api_key,
            files: None,
            shows_api_key: true,
        },
        args.json,
        context.output,
    )
}

/// Both files, whatever the options.
pub(crate) fn run_with_files(args: IdentityNewArgs, context: &mut Context<'_>) -> Outcome {
    let IdentityNewArgs {
        subject,
        key,
        cert,
        ip,
        dns,
        expiry,
        encrypt,
        force,
        server,
        json,
    } = args;
    if server {
        let instead = "leave it out: every certificate is one for servers and for clients";
        context.deprecated("kes identity new --server", instead);
    }
    let key = key.unwrap_or_else(|| PathBuf::from(DEFAULT_KEY));
    let cert = cert.unwrap_or_else(|| PathBuf::from(DEFAULT_CERT));
    let ip = subject_names::addresses(&ip)?;
    let mut dns = subject_names::host_names(&dns)?;
    if let Some(subject) = &subject {
        check_common_name(subject)?;
    }
    if let Some(subject) = subject.as_deref().filter(|subject| is_meant_as_host(subject))
        && !dns.iter().any(|name| name == subject)
    {
        dns.push(subject.to_owned());
    }
    if !force {
        // Before anybody is asked for a password.
        files::refuse_existing(&key)?;
        files::refuse_existing(&cert)?;
    }

    let api_key = ApiKey::generate()?;
    let identity = api_key.identity();
    let certificate = certificate::of_api_key(
        &api_key,
        Subject {
            common_name: subject.as_deref().unwrap_or(identity.as_str()),
            dns: &dns,
            ip: &ip,
            from: context.clock.now(),
            validity: expiry.unwrap_or(DEFAULT_EXPIRY),
            usages: vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
        },
    )?;
    let pkcs8 = api_key.private_key_pkcs8();
    let private_key = if encrypt {
        let password = password::new(&context.environment)?;
        pem::encrypt_private_key(&pkcs8, password.as_bytes())?
    } else {
        pem::encode("PRIVATE KEY", &pkcs8)
    };
    files::write_both(
        NewFile {
            path: &key,
            content: private_key.as_bytes(),
            mode: 0o600,
        },
        NewFile {
            path: &cert,
            content: certificate.as_bytes(),
            mode: 0o644,
        },
        force,
    )?;
    print(
        &Made {
            api_key: &api_key,
            files: Some((&key, &cert)),
            shows_api_key: !encrypt,
        },
        json,
        context.output,
    )
}

/// Fails if other programs could not read or show `subject` in a certificate.
fn check_common_name(subject: &str) -> anyhow::Result<()> {
    if subject.len() > MAX_COMMON_NAME {
        bail!(
            "SUBJECT has {} bytes: want at most {MAX_COMMON_NAME}",
            subject.len()
        );
    }
    if subject.chars().any(char::is_control) {
        bail!("SUBJECT has a control character, such as a line break: want text on one line");
    }
    Ok(())
}

/// What has been made.
struct Made<'a> {
    api_key: &'a ApiKey,
    /// The private key's and the certificate's.
    files: Option<(&'a Path, &'a Path)>,
    /// Not when the private key is encrypted, since it is the same secret.
    shows_api_key: bool,
}

fn print(made: &Made<'_>, json: bool, output: &mut Output) -> Outcome {
    let Made {
        api_key,
        files,
        shows_api_key,
    } = made;
    let identity = api_key.identity();
    let secret = shows_api_key.then(|| api_key.to_secret_text());
    if json {
        #[derive(Serialize)]
        struct Summary<'a> {
            identity: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            api_key: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            private_key: Option<&'a Path>,
            #[serde(skip_serializing_if = "Option::is_none")]
            certificate: Option<&'a Path>,
        }
        let summary = Summary {
            identity: identity.as_str(),
            api_key: secret.as_ref().map(|secret| secret.as_str()),
            private_key: files.map(|(key, _)| key),
            certificate: files.map(|(_, cert)| cert),
        };
        return output.json(&summary, false);
    }
    output.line("")?;
    if let Some((key, cert)) = files {
        output.line(&format!("  Private key:  {}", key.display()))?;
        output.line(&format!("  Certificate:  {}", cert.display()))?;
    }
    output.line(&format!("  Identity:     {identity}"))?;
    secret.map_or(Ok(()), |secret| {
        output.line(&format!("  API key:      {}", *secret))
    })
}

/// Whether `subject` is meant as a host: `localhost`, or a name with dots that DNS could know, and not an address.
fn is_meant_as_host(subject: &str) -> bool {
    (subject == "localhost" || subject.contains('.')) && certificate::is_host_name(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_is_a_host_is_told_from_one_that_is_not() {
        for host in ["localhost", "kes.example.net", "a.b"] {
            assert!(is_meant_as_host(host), "{host}");
        }
        for other in [
            "MyApp",
            "kes_server",
            "127.0.0.1",
            "a b.c",
            "a..b",
            ".",
            "-a.b",
            "My App v1.0",
            "::1",
        ] {
            assert!(!is_meant_as_host(other), "{other}");
        }
    }
}
