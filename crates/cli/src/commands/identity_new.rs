//! `kes identity new`: a private key and its certificate, in files that other programs read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use kes_crypto::{ApiKey, pem};
use rcgen::ExtendedKeyUsagePurpose;
use serde::Serialize;

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
        server: _,
        json,
    } = args;
    let key = key.unwrap_or_else(|| PathBuf::from(DEFAULT_KEY));
    let cert = cert.unwrap_or_else(|| PathBuf::from(DEFAULT_CERT));
    let ip = addresses(&ip)?;
    let mut dns = elements(&dns)?;
    if let Some(subject) = subject.as_deref().filter(|subject| is_host_name(subject))
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

/// The addresses that `--ip` names.
pub(super) fn addresses(values: &[String]) -> anyhow::Result<Vec<IpAddr>> {
    let address = |text: &String| {
        text.parse()
            .map_err(|_| anyhow!("invalid value '{text}' for '--ip': want an IP address"))
    };
    elements(values)?.iter().map(address).collect()
}

/// The elements of list options, each of which may be a list with commas, with quotes around elements that hold one.
pub(super) fn elements(values: &[String]) -> anyhow::Result<Vec<String>> {
    let mut elements = Vec::new();
    for value in values {
        let mut element = String::new();
        let mut chars = value.chars().peekable();
        let mut is_quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => element.push('"'),
                '"' if is_quoted || element.is_empty() => is_quoted = !is_quoted,
                ',' if !is_quoted => elements.push(std::mem::take(&mut element)),
                c => element.push(c),
            }
        }
        if is_quoted {
            bail!("a quote in '{value}' is not closed");
        }
        elements.push(element);
    }
    elements
        .iter_mut()
        .for_each(|element| *element = element.trim().to_owned());
    elements.retain(|element| !element.is_empty());
    Ok(elements)
}

/// Whether `subject` is `localhost` or a name with dots that DNS could know, and not an address.
fn is_host_name(subject: &str) -> bool {
    (subject == "localhost" || subject.contains('.')) && certificate::is_host_name(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_hold_lists() {
        let read =
            |values: &[&str]| elements(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["a", "b, c"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(read(&[r#""a,b",c"#, r#""d""e""#]).unwrap(), ["a,b", "c", "d\"e"]);
        assert!(read(&["", ","]).unwrap().is_empty());
        assert!(read(&["\"a"]).is_err());
    }

    #[test]
    fn a_subject_that_is_a_host_is_told_from_one_that_is_not() {
        for host in ["localhost", "kes.example.net", "a.b"] {
            assert!(is_host_name(host), "{host}");
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
            assert!(!is_host_name(other), "{other}");
        }
    }
}
