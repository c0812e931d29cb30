//! TLS towards Vault, made from files that somebody replaces from time to time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kes_keystore_http::{Http, HttpSettings, Proxies};
use kes_tls::{ClientIdentity, ServerTrust};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::api::{Api, Endpoint};
use crate::login::Stamp;
use crate::{ConnectError, Tls};

/// What the files look like from the outside: that of the CAs, or its folder and what is in it, the key, the certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Stamp>);

/// A task that makes new connections with what is in the files by then. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Renewal(JoinHandle<()>);

/// What makes connections to `endpoint`, from what is in the files now.
pub(crate) async fn http(endpoint: &Endpoint, tls: &Tls) -> Result<Http, ConnectError> {
    let Tls { ca, client } = tls.clone();
    let reading = spawn_blocking(move || {
        let trust = ServerTrust::of_key_store(ca.as_deref()).map_err(ConnectError::Trust)?;
        let identity = client.map(|client| ClientIdentity::from_files(&client.key, &client.cert));
        Ok((trust, identity.transpose().map_err(ConnectError::Identity)?))
    });
    let (trust, identity) = reading.await.map_err(|_| ConnectError::Stopped)??;
    let settings = HttpSettings {
        trust,
        identity,
        // A load balancer can lead each request to a node that is not sealed.
        keep_alive: false,
        connect_timeout: CONNECT,
        proxies: Proxies::Environment,
        tls_settings: "keystore.vault.tls",
    };
    Http::new(settings).map_err(|source| ConnectError::Http {
        endpoint: endpoint.to_string(),
        source,
    })
}

impl Stamps {
    /// Those of now, unless a file is not there.
    pub(crate) async fn of(tls: &Tls) -> Option<Self> {
        let Tls { ca, client } = tls.clone();
        let client = client.map(|client| [client.key, client.cert]);
        let look = move || {
            let mut stamps = Vec::new();
            for path in ca.into_iter().chain(client.into_iter().flatten()) {
                add(&mut stamps, &path)?;
            }
            Some(Self(stamps))
        };
        spawn_blocking(look).await.ok().flatten()
    }
}

fn add(stamps: &mut Vec<Stamp>, path: &Path) -> Option<()> {
    let metadata = path.metadata().ok()?;
    stamps.push(Stamp::of(&metadata));
    if metadata.is_dir() {
        let entries = path.read_dir().ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
        files.sort();
        let files = files.iter().filter_map(|file| file.metadata().ok());
        stamps.extend(files.map(|file| Stamp::of(&file)));
    }
    Some(())
}

impl Renewal {
    /// Looks at the files every `interval`; `seen` is what they looked like before they were read. Nothing, if there are no
    /// files.
    pub(crate) fn start(api: Arc<Api>, tls: Tls, seen: Option<Stamps>, interval: Duration) -> Option<Self> {
        if tls.ca.is_none() && tls.client.is_none() {
            return None;
        }
        Some(Self(tokio::spawn(async move {
            let mut seen = seen;
            loop {
                tokio::time::sleep(interval.max(SHORTEST)).await;
                let now = Stamps::of(&tls).await;
                // What is not there is being replaced, or has gone: what was read may still be good.
                if now.is_some() && now != seen {
                    renew(&api, &tls).await;
                    seen = now;
                }
            }
        })))
    }

    /// Looks no more.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn renew(api: &Api, tls: &Tls) {
    let vault = api.endpoint();
    match http(vault, tls).await {
        Ok(http) => {
            api.connect_with(http);
            tracing::info!(%vault, "the files of keystore.vault.tls have changed and were read again");
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let cause = cause.unwrap_or_default();
            tracing::warn!(%vault, "the files of keystore.vault.tls have changed, but cannot be used, so those from before still are: {error}{cause}");
        }
    }
}

/// How long a connection and its TLS may take. Shorter than an attempt, so that a server that is out of reach is told as that, and
/// it is certain that no request has arrived.
const CONNECT: Duration = Duration::from_secs(4);

/// No files are looked at more often.
const SHORTEST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use kes_keystore::Patience;

    use super::*;
    use crate::ClientCertificate;

    #[test]
    fn a_connection_has_less_time_than_an_attempt() {
        assert!(CONNECT < Patience::default().attempt);
    }

    #[tokio::test]
    async fn a_file_that_changes_in_a_folder_shows_and_one_that_is_gone_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("ca")).unwrap();
        for name in ["ca/one.pem", "key.pem", "cert.pem"] {
            std::fs::write(path(name), "one").unwrap();
        }
        let tls = Tls {
            ca: Some(path("ca")),
            client: Some(ClientCertificate {
                key: path("key.pem"),
                cert: path("cert.pem"),
            }),
        };
        let mut seen = Stamps::of(&tls).await;
        assert!(seen.is_some());
        assert_eq!(Stamps::of(&tls).await, seen);
        for name in ["ca/one.pem", "ca/two.pem", "key.pem", "cert.pem"] {
            std::fs::write(path(name), "another").unwrap();
            let now = Stamps::of(&tls).await;
            assert_ne!(now, seen, "{name}");
            seen = now;
        }
        std::fs::remove_file(path("key.pem")).unwrap();
        assert_eq!(Stamps::of(&tls).await, None);
    }
}
