//! The key store: whether it can be reached, what it permits, how long it takes. Read only, but for the probe with `--write`.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kes_config::KeyStoreSettings;
use kes_keystore::{EntryName, KeyStore, StoreError};
use kes_keystore_embedded::ConnectError;
use kes_keystore_vault::VaultStore;
use kes_server::log::chain as chain_of_causes;
use tokio::time::timeout;

use super::finding::Findings;
use super::subject::Subject;
use super::{LIMIT, probe};
use crate::connect;

/// A store that answers later than this keeps clients waiting.
const SLOW: Duration = Duration::from_millis(500);

/// A key store that has been connected to.
struct Connected {
    store: Arc<dyn KeyStore>,
    vault: Option<Arc<VaultStore>>,
}

pub(super) async fn check(subject: Arc<Subject>) -> Findings {
    let mut findings = Findings::of("store");
    let Some(settings) = subject.keystore() else {
        return findings;
    };
    // What this program does not have is told among the errors of the configuration.
    if connect::require_backend(settings).is_err() || !has_files(&subject, settings, &mut findings).await {
        return findings;
    }
    match settings {
        KeyStoreSettings::Embedded(embedded) if on_disk(&embedded.path, Path::exists).await != Some(true) => {
            return findings;
        }
        // To connect to it would make the folder, and remove what a crash has left in it.
        KeyStoreSettings::Fs(fs) => {
            let is_folder = on_disk(&fs.path, Path::is_dir).await == Some(true);
            if is_folder && !subject.write {
                folder(&subject, &fs.path, &mut findings).await;
            }
            if !is_folder || !subject.write {
                return findings;
            }
        }
        _ => {}
    }
    let started = subject.clock.monotonic();
    let Some(connected) = connect(&subject, settings, &mut findings).await else {
        return findings;
    };
    let took = subject.clock.monotonic().since(started);
    let Connected { store, vault } = connected;
    findings
        .ok(format!("connected and logged in within {}", shown(took)))
        .endpoint(&store);
    let mut given_up = subject.given_up.clone();
    tokio::select! {
        biased;
        Ok(_) = given_up.wait_for(|given_up| *given_up) => {}
        () = async {
            if let Some(vault) = vault {
                permissions(&subject, &vault, &mut findings).await;
            }
            look(&subject, &*store, &mut findings).await;
        } => {}
    }
    if subject.write {
        if matches!(settings, KeyStoreSettings::Embedded(_)) {
            findings.fact(
                "no key was made for a try: the key store was opened to be read only, and the checks of files say whether it can be written to",
            );
        } else {
            probe::run(&subject, &*store, &mut findings).await;
        }
    }
    if timeout(LIMIT, store.close()).await.is_err() {
        findings.fact("the key store was not closed in time");
    }
    findings
}

/// Whether the files that a connection is made from are there and good.
async fn has_files(subject: &Arc<Subject>, settings: &KeyStoreSettings, findings: &mut Findings) -> bool {
    let owned = settings.clone();
    let checking = tokio::task::spawn_blocking(move || connect::check(&owned));
    let problem = match timeout(LIMIT, checking).await {
        Ok(Ok(Ok(()))) => return true,
        Ok(Ok(Err(error))) => format!("{error:#}"),
        Ok(Err(_)) | Err(_) => "the files that it names cannot be read in time".to_owned(),
    };
    findings
        .error(problem, "put the right file there, readable by the server's user")
        .at(subject, &subject.keystore_key());
    false
}

/// What a look at a disk has come to, unless that hangs: the check of the files says so then.
async fn on_disk<T: Send + 'static>(path: &Path, look: fn(&Path) -> T) -> Option<T> {
    let path = path.to_owned();
    let looking = tokio::task::spawn_blocking(move || look(&path));
    timeout(LIMIT, looking).await.ok()?.ok()
}

/// A folder of keys, looked at without a connection.
async fn folder(subject: &Subject, path: &Path, findings: &mut Findings) {
    let Some(opened) = on_disk(path, |path| path.read_dir().map(drop)).await else {
        return;
    };
    match opened {
        Ok(()) => {
            findings
                .ok("the folder of the keys can be read")
                .file(path.display());
        }
        Err(error) => {
            findings
                .error(
                    format!("the folder of the keys cannot be read: {error}"),
                    "give it to the user of the server, or run this as that user",
                )
                .file(path.display())
                .at(subject, &format!("{}.path", subject.keystore_key()));
        }
    }
}

async fn connect(
    subject: &Subject,
    settings: &KeyStoreSettings,
    findings: &mut Findings,
) -> Option<Connected> {
    let clock = Arc::clone(&subject.clock);
    let connecting = async {
        if matches!(settings, KeyStoreSettings::Embedded(_)) {
            let store = connect::examine(settings, clock).await?;
            return Ok(Connected { store, vault: None });
        }
        let opened = connect::open(settings, clock).await?;
        let vault = opened.vault();
        Ok::<_, anyhow::Error>(Connected {
            store: opened.into_connected().store,
            vault,
        })
    };
    let error = match timeout(LIMIT, connecting).await {
        Ok(Ok(connected)) => return Some(connected),
        Ok(Err(error)) => error,
        Err(_) => {
            findings
                .error(
                    format!("no connection within {} s", LIMIT.as_secs()),
                    "look at names, routes, firewalls and proxies between this machine and the key store",
                )
                .at(subject, &subject.keystore_key());
            return None;
        }
    };
    if let Some(ConnectError::InUse { path }) = error.downcast_ref() {
        findings
            .note(
                "another process has the key store open, most likely its server, so it was not looked into",
                "`kes store info` asks that server",
            )
            .file(path.display());
        return None;
    }
    findings
        .error(
            format!("{error:#}"),
            "the message says which setting or which service it is; docs/keystores has what each needs",
        )
        .at(subject, &subject.keystore_key());
    None
}

/// What may be done with the paths of a Vault.
async fn permissions(subject: &Subject, vault: &VaultStore, findings: &mut Findings) {
    let Some(name) = probe::name() else { return };
    let asked = match timeout(LIMIT, vault.permissions(&name)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(error)) => {
            findings
                .fact(format!(
                    "Vault does not tell what its policies permit: {}",
                    chain_of_causes(&error)
                ))
                .endpoint(vault);
            return;
        }
        Err(_) => return,
    };
    for permission in asked {
        let missing: Vec<_> = permission.missing().collect();
        let (path, purpose) = (&permission.path, permission.purpose);
        if missing.is_empty() {
            findings
                .ok(format!("Vault permits to {purpose} ({path})"))
                .endpoint(vault);
            continue;
        }
        let what = format!(
            "Vault does not permit to {purpose}: {path} lacks {}",
            missing.join(", ")
        );
        let remedy = format!(
            "add to the login's policy: path \"{path}\" {{ capabilities = [{}] }}",
            permission
                .needed
                .iter()
                .map(|capability| format!("{capability:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        let finding = if permission.is_vital {
            findings.error(what, remedy)
        } else {
            findings.warn(what, remedy)
        };
        finding.endpoint(vault).at(subject, &subject.keystore_key());
    }
}

/// Asks for a sign of life, a name that nobody has, and the first name.
async fn look(subject: &Subject, store: &dyn KeyStore, findings: &mut Findings) {
    let started = subject.clock.monotonic();
    match timeout(LIMIT, store.ping()).await {
        Ok(Ok(())) => {
            let took = subject.clock.monotonic().since(started);
            if took > SLOW {
                findings
                    .warn(
                        format!("the key store takes {} to answer", shown(took)),
                        "clients wait that long for each key that is not cached: look at the network, and at cache.expiry",
                    )
                    .endpoint(store);
            } else {
                findings
                    .ok(format!("the key store answers within {}", shown(took)))
                    .endpoint(store);
            }
        }
        Ok(Err(error)) => {
            failed(subject, store, "it gives no sign of life", &error, true, findings);
            return;
        }
        Err(_) => {
            late(subject, store, "a sign of life", findings);
            return;
        }
    }
    let Some(name) = probe::name() else { return };
    match timeout(LIMIT, store.get(&name)).await {
        Ok(Err(StoreError::NotFound)) => {
            findings
                .ok("keys can be read: a name that nobody has is answered as such")
                .endpoint(store);
        }
        Ok(Ok(_)) => {
            findings
                .error(
                    "the key store answers with a key for a name that nobody has",
                    "find out what answers there: it is no key store",
                )
                .endpoint(store);
        }
        Ok(Err(error)) => failed(subject, store, "keys cannot be read", &error, true, findings),
        Err(_) => late(subject, store, "a read", findings),
    }
    match timeout(LIMIT, store.list("", None, NonZeroUsize::MIN)).await {
        Ok(Ok(_)) => {
            findings.ok("keys can be listed").endpoint(store);
        }
        Ok(Err(error)) => failed(subject, store, "keys cannot be listed", &error, false, findings),
        Err(_) => late(subject, store, "a list", findings),
    }
}

/// Says that something failed, and what to do about such a failure.
pub(super) fn failed(
    subject: &Subject,
    store: &dyn KeyStore,
    what: &str,
    error: &StoreError,
    is_vital: bool,
    findings: &mut Findings,
) {
    let remedy = match error {
        StoreError::Denied { hint, .. } => format!("give the login what it lacks: {hint}"),
        StoreError::AuthFailed { .. } => {
            "the credentials have expired, were revoked, or are of somebody else: get new ones".to_owned()
        }
        StoreError::Unreachable { .. } => {
            "look at names, routes, firewalls and proxies between this machine and the key store".to_owned()
        }
        StoreError::Sealed { .. } => "have it unsealed".to_owned(),
        StoreError::Throttled { .. } => "try again; if it stays so, raise the quota".to_owned(),
        StoreError::Exists
        | StoreError::NotFound
        | StoreError::Disabled { .. }
        | StoreError::InvalidName { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Backend { .. } => "the message is the service's own: look into its log".to_owned(),
    };
    let what = format!("{what}: {}", chain_of_causes(error));
    let finding = if is_vital {
        findings.error(what, remedy)
    } else {
        findings.warn(what, remedy)
    };
    finding.endpoint(store).at(subject, &subject.keystore_key());
}

fn late(subject: &Subject, store: &dyn KeyStore, what: &str, findings: &mut Findings) {
    findings
        .error(
            format!("{what} was not answered within {} s", LIMIT.as_secs()),
            "look at the service, and at the network between",
        )
        .endpoint(store)
        .at(subject, &subject.keystore_key());
}

pub(super) fn shown(time: Duration) -> String {
    format!("{} ms", time.as_millis().max(1))
}

/// The entry of a name that has been checked.
pub(super) fn entry(name: &str) -> Option<EntryName> {
    EntryName::parse(name).ok()
}
