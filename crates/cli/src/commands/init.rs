//! `kes init DIR`: a folder with everything that a server needs.

mod config;
mod folder;
mod report;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kes_config::ListenAddress;
use kes_config::keystore::{Embedded, SealSettings};
use kes_crypto::ApiKey;
use kes_keystore::KeyStore as _;
use kes_keystore_embedded::EmbeddedStore;
use kes_seal::KeySeal;
use kes_types::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use zeroize::Zeroizing;

use self::folder::{Contents, Folder, Names};
use self::report::{Report, shell_word};
use super::subject_names::{addresses, host_names};
use crate::args::InitArgs;
use crate::certificate::{self, Subject};
use crate::connect;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::files::{Existing, NewFile, Prepared};

pub(crate) use self::folder::require_complete;

/// Where a server listens unless told otherwise. Only this machine, since nobody has seen yet who may reach the port.
const ADDRESS: &str = "127.0.0.1:7373";

/// How long the certificate is valid: the longest that all clients accept.
const VALIDITY: Duration = Duration::from_hours(825 * 24);
/// How far behind the clock of a client may be when it first connects.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// What is to be set up.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) directory: PathBuf,
    pub(crate) address: ListenAddress,
    /// What the certificate is valid for besides what it always is.
    pub(crate) ip: Vec<IpAddr>,
    pub(crate) dns: Vec<String>,
    /// Replace what can be replaced.
    pub(crate) force: bool,
}

impl Wanted {
    /// What `kes server --init DIR` sets up.
    pub(crate) fn for_server(directory: PathBuf, addr: Option<&str>) -> anyhow::Result<Self> {
        Ok(Self {
            directory,
            address: address(addr)?,
            ip: Vec::new(),
            dns: Vec::new(),
            force: false,
        })
    }
}

/// `kes init DIR`.
pub(crate) fn run(args: InitArgs, context: &mut Context<'_>) -> Outcome {
    let InitArgs {
        directory,
        addr,
        ip,
        dns,
        force,
        config,
    } = args;
    if config.is_some() {
        return Err(Failure::Usage(
            "`kes init --config` belonged to the servers of 2022 and 2023 that kept a state of their own: `kes init DIR` takes no \
             file, and writes a configuration that you can change"
                .to_owned(),
        ));
    }
    let wanted = Wanted {
        directory,
        address: address(addr.as_deref())?,
        ip: addresses(&ip)?,
        dns: host_names(&dns)?,
        force,
    };
    set_up(&wanted, context)?;
    context.output.line(&format!(
        "\nStart the server: {}",
        command("kes server", &wanted.directory)
    ))
}

/// Sets up what `kes server --init` is to serve, unless it has been already.
pub(crate) fn run_once(wanted: &Wanted, context: &mut Context<'_>) -> Outcome {
    match Contents::of(&wanted.directory)? {
        Contents::Complete => Ok(()),
        Contents::Absent | Contents::Empty | Contents::Unfinished | Contents::Other(_) => {
            set_up(wanted, context)?;
            context.output.line("")?;
            context.output.flush()
        }
    }
}

fn address(option: Option<&str>) -> anyhow::Result<ListenAddress> {
    let text = option.unwrap_or(ADDRESS);
    ListenAddress::parse(text).map_err(|error| anyhow!("invalid value '{text}' for '--addr': {error}"))
}

/// What happens one after the other. After a crash at any of these points the folder has no configuration, or the one from
/// before, and what it has can be used: setting up again goes on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Folder,
    Seal,
    Store,
    PrivateKey,
    Certificate,
    Report,
    Configuration,
}

fn set_up(wanted: &Wanted, context: &mut Context<'_>) -> Outcome {
    set_up_by_steps(wanted, context, &mut |_| Ok(()))
}

/// Calls `before` ahead of each step; tests end it there.
fn set_up_by_steps(
    wanted: &Wanted,
    context: &mut Context<'_>,
    before: &mut dyn FnMut(Step) -> anyhow::Result<()>,
) -> Outcome {
    before(Step::Folder)?;
    let folder = Folder::claim(&wanted.directory, wanted.force, context)?;
    let names = &folder.names;
    let now = context.clock.now();

    before(Step::Seal)?;
    make_seal(names)?;
    before(Step::Store)?;
    make_store(names, context)?;
    before(Step::PrivateKey)?;
    let private_key = private_key(names)?;
    before(Step::Certificate)?;
    let hosts = Hosts::of(wanted);
    make_certificate(names, &private_key, &hosts, now)?;

    // The configuration comes last: a folder without it is visibly not finished. By then somebody has seen the API key, since
    // nobody could get it from the folder.
    let api_key = ApiKey::generate()?;
    let text = config::text(names, wanted.address, api_key.identity())?;
    let configuration = Prepared::new(NewFile {
        path: &names.config,
        content: text.as_bytes(),
        mode: 0o600,
    })?;
    before(Step::Report)?;
    let report = Report {
        names,
        endpoint: endpoint(wanted.address),
        hosts: &hosts,
        until: (now - CLOCK_SKEW)
            .checked_add(VALIDITY.try_into()?)
            .unwrap_or(now),
        api_key: &api_key,
    };
    let shown = report.print(context.output).and_then(|()| context.output.flush());
    match shown {
        Ok(()) => {}
        Err(Failure::BrokenPipe) => {
            return Err(anyhow!(
                "nobody reads the output, and the API key is in it: {} is not finished",
                names.folder.display()
            )
            .into());
        }
        Err(failure) => return Err(failure),
    }
    before(Step::Configuration)?;
    let existing = if wanted.force {
        Existing::Replace
    } else {
        Existing::Keep
    };
    Ok(configuration.appear(existing)?)
}

/// Makes the seal, unless there is one: without it, what it has sealed is lost.
fn make_seal(names: &Names) -> anyhow::Result<()> {
    if names.seal.exists() {
        KeySeal::from_file(&names.seal)?;
        return Ok(());
    }
    let text = KeySeal::generate_text()?;
    let file = NewFile {
        path: &names.seal,
        content: text.as_bytes(),
        mode: 0o600,
    };
    Prepared::new(file)?.appear(Existing::Keep)
}

/// Makes the store, or makes sure that the one that is there opens, which changes nothing: until there is a new configuration,
/// the old one must do.
fn make_store(names: &Names, context: &Context<'_>) -> anyhow::Result<()> {
    let config = connect::embedded_config(&Embedded {
        path: names.store.clone(),
        seals: vec![SealSettings::File(names.seal.clone())],
        undelete: Embedded::UNDELETE,
    })?;
    let clock = Arc::clone(&context.clock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = if names.store.exists() {
            EmbeddedStore::examine(config, clock).await
        } else {
            EmbeddedStore::create(config, clock).await
        };
        store?.close().await;
        Ok(())
    })
}

/// The private key of the server, made unless there is one: so a new certificate can take the place of an old one at once.
fn private_key(names: &Names) -> anyhow::Result<Zeroizing<String>> {
    if names.private_key.exists() {
        return std::fs::read_to_string(&names.private_key)
            .map(Zeroizing::new)
            .with_context(|| format!("cannot read {}", names.private_key.display()));
    }
    let text = certificate::private_key_for_any_client()?;
    let file = NewFile {
        path: &names.private_key,
        content: text.as_bytes(),
        mode: 0o600,
    };
    Prepared::new(file)?.appear(Existing::Keep)?;
    Ok(text)
}

fn make_certificate(names: &Names, private_key: &str, hosts: &Hosts, now: Timestamp) -> anyhow::Result<()> {
    let Hosts { dns, ip } = hosts;
    let subject = Subject {
        common_name: "localhost",
        dns,
        ip,
        from: now - CLOCK_SKEW,
        validity: VALIDITY,
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    let certificate = certificate::of_private_key(private_key, subject).with_context(|| {
        format!(
            "cannot make a certificate for the key in {}; without that file, a new key is made",
            names.private_key.display()
        )
    })?;
    let file = NewFile {
        path: &names.certificate,
        content: certificate.as_bytes(),
        mode: 0o644,
    };
    Prepared::new(file)?.appear(Existing::Replace)
}

/// What a certificate is valid for.
#[derive(Debug)]
struct Hosts {
    dns: Vec<String>,
    ip: Vec<IpAddr>,
}

impl Hosts {
    fn of(wanted: &Wanted) -> Self {
        let host = rustix::system::uname()
            .nodename()
            .to_str()
            .ok()
            .filter(|name| certificate::is_host_name(name))
            .map(str::to_owned);
        let listens_on = wanted
            .address
            .candidates()
            .into_iter()
            .map(|address| address.ip());
        let mut dns = vec!["localhost".to_owned()];
        dns.extend(host);
        dns.extend_from_slice(&wanted.dns);
        let mut ip = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        ip.extend(listens_on.filter(|ip| !ip.is_unspecified()));
        ip.extend_from_slice(&wanted.ip);
        Self {
            dns: distinct(dns),
            ip: distinct(ip),
        }
    }
}

/// Each item once, in the order of their first places.
fn distinct<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut seen = Vec::with_capacity(items.len());
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// Where clients on this machine reach a server that listens on `address`.
fn endpoint(address: ListenAddress) -> String {
    let first = address
        .candidates()
        .first()
        .copied()
        .filter(|address| !address.ip().is_unspecified());
    let reached = first.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, address.port()).into());
    format!("https://{reached}")
}

/// `command` with the folder as its argument, for a shell.
fn command(command: &str, directory: &Path) -> String {
    format!("{command} {}", shell_word(&directory.to_string_lossy()))
}

/// The configuration file in a folder.
pub(crate) fn config_of(directory: &Path) -> PathBuf {
    directory.join(folder::CONFIG)
}

/// The configuration at `path`, which may be the file or its folder.
pub(crate) fn configuration_at(path: &Path) -> PathBuf {
    if path.is_dir() {
        config_of(path)
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests;
