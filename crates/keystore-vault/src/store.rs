//! The key store: what each operation asks of Vault, and what the answers mean.

mod create;
mod permissions;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, Patience, StoreError, paging};
use kes_keystore_http::{Deadline, LIST_LIMIT, Method, Retry};

use crate::KvVersion;
use crate::api::{ApiError, Body, Call, Problem, Reply};
use crate::client::{Client, Failed};
use crate::failure::{LIST, Origin, Purpose};
use crate::health::{Health, Poll, State};
use crate::kv::{BadEntry, Found, Hidden, Kv, Stored};
use crate::path::Path;
use crate::tls::{Renewal, Stamps};
use crate::transit::{Transit, is_ciphertext};

use create::Turns;
pub use permissions::Permission;

/// Keeps each entry in an entry of a K/V engine.
#[derive(Debug)]
pub struct VaultStore {
    client: Client,
    kv: Kv,
    transit: Option<Transit>,
    origin: Origin,
    health: Arc<Health>,
    poll: Poll,
    renewal: Option<Renewal>,
    turns: Turns,
    /// How often a token was not permitted to look itself up.
    blind: AtomicU32,
}

/// What a store is put together from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) kv: Kv,
    pub(crate) transit: Option<Transit>,
    pub(crate) origin: Origin,
    pub(crate) ping: Duration,
    pub(crate) tls: crate::Tls,
    /// What the files of `tls` looked like before they were read.
    pub(crate) stamps: Option<Stamps>,
}

/// What there is at an entry's path.
#[derive(Debug)]
enum Look {
    /// Nothing.
    Absent,
    /// An entry.
    Present(Found),
    /// An entry, but not one of a key.
    Corrupt(&'static str),
}

/// Why it cannot be said what there is.
#[derive(Debug)]
enum Unseen {
    /// Vault does not answer with it.
    Failed(Failed),
    /// It was deleted or destroyed, and the engine remembers it.
    Hidden(Hidden),
}

impl VaultStore {
    /// Puts a store together and begins to ask for Vault's health.
    pub(crate) fn start(parts: Parts) -> Self {
        let Parts {
            client,
            kv,
            transit,
            origin,
            ping,
            tls,
            stamps,
        } = parts;
        let health = Arc::new(Health::default());
        let poll = Poll::start(
            Arc::clone(&health),
            Arc::clone(&client.api),
            Arc::clone(&client.session),
            ping,
            client.patience.attempt.min(LONGEST_PING),
        );
        let renewal = Renewal::start(Arc::clone(&client.api), tls, stamps, ping);
        Self {
            client,
            kv,
            transit,
            origin,
            health,
            poll,
            renewal,
            turns: Turns::default(),
            blind: AtomicU32::new(0),
        }
    }

    /// Fails at once what cannot succeed.
    fn gate(&self) -> Result<(), StoreError> {
        match self.health.state() {
            State::Open => Ok(()),
            closed @ (State::Sealed | State::NotInitialised) => Err(self.closed(closed)),
        }
    }

    fn closed(&self, state: State) -> StoreError {
        let store = self.origin.store.clone();
        match state {
            State::Open | State::Sealed => StoreError::Sealed { store },
            State::NotInitialised => StoreError::Unreachable {
                store,
                source: "Vault is not initialised".into(),
            },
        }
    }

    fn call<'a>(&'a self, method: Method, path: &'a Path) -> Call<'a> {
        Call {
            namespace: self.client.namespace.as_ref(),
            ..Call::new(method, path)
        }
    }

    /// Reads what is at `name`: the first version, and where there is none, whether there are others. `again`: whether to
    /// try again after failures that may pass.
    async fn look(&self, name: &EntryName, deadline: &Deadline, again: bool) -> Result<Look, Unseen> {
        match self.read(name, &self.kv.first(name), deadline, again).await? {
            Look::Absent if self.kv.version() == KvVersion::V2 => {}
            look => return Ok(look),
        }
        // An entry whose first version was pushed out by later ones answers just like an absent one.
        match self.read(name, &self.kv.entry(name), deadline, again).await {
            Ok(Look::Present(found)) if found.version == Some(1) => Ok(Look::Present(found)),
            Ok(Look::Present(_)) | Err(Unseen::Hidden(_)) => Ok(Look::Corrupt(
                "its first version, which is the key, is gone, and there are later ones, which another program has written",
            )),
            other => other,
        }
    }

    async fn read(
        &self,
        name: &EntryName,
        path: &Path,
        deadline: &Deadline,
        again: bool,
    ) -> Result<Look, Unseen> {
        let mut call = self.call(Method::GET, path);
        let reply = if again {
            self.client.ask(&mut call, deadline).await
        } else {
            self.client.once(&mut call, deadline).await
        };
        let failed = match reply {
            Ok(reply) => {
                return match self.kv.found(name, &reply) {
                    Ok(found) => Ok(Look::Present(found)),
                    Err(BadEntry::Corrupt(reason)) => Ok(Look::Corrupt(reason)),
                    Err(BadEntry::Answer(error)) => Err(Unseen::Failed(Failed::Api(error))),
                };
            }
            Err(failed) => failed,
        };
        match failed.problem() {
            Some(Problem::Absent) => Ok(Look::Absent),
            Some(Problem::Hidden { body }) => match Hidden::read(body) {
                Some(hidden) => Err(Unseen::Hidden(hidden)),
                None => Err(Unseen::Failed(failed)),
            },
            _ => Err(Unseen::Failed(failed)),
        }
    }

    /// The value as it is to be stored.
    async fn seal(&self, value: &SecretBytes, deadline: &Deadline) -> Result<Stored, StoreError> {
        let Some(transit) = &self.transit else {
            return Ok(Stored::of(value, |text| !is_ciphertext(text)));
        };
        let reply = self
            .transit(&transit.encrypt, &Transit::plaintext(value), deadline)
            .await?;
        let ciphertext = Transit::encrypted(&reply).map_err(|error| self.of_transit(error))?;
        Ok(Stored::text(ciphertext))
    }

    /// The value that is stored.
    async fn open(
        &self,
        name: &EntryName,
        stored: Stored,
        deadline: &Deadline,
    ) -> Result<SecretBytes, StoreError> {
        let Some(ciphertext) = stored.as_text().filter(|text| is_ciphertext(text)) else {
            return stored.into_bytes().map_err(|reason| self.corrupt(name, reason));
        };
        let Some(transit) = &self.transit else {
            return Err(StoreError::Backend {
                store: self.origin.store.clone(),
                source: format!(
                    "{} was encrypted by a transit engine, but keystore.vault.transit is not set",
                    self.kv.entry(name)
                )
                .into(),
            });
        };
        let reply = self
            .transit(&transit.decrypt, &Transit::ciphertext(ciphertext), deadline)
            .await?;
        Transit::decrypted(&reply).map_err(|error| self.of_transit(error))
    }

    async fn transit(&self, path: &Path, body: &Body, deadline: &Deadline) -> Result<Reply, StoreError> {
        let mut call = self.call(Method::POST, path);
        call.body = Some(body);
        let asked = self.client.ask(&mut call, deadline).await;
        asked.map_err(|failed| match failed {
            Failed::Api(error) if matches!(error.problem, Problem::Refused { .. }) => self.origin.advised(
                error,
                "the transit key must be the one that has encrypted the value, in a version that it may still decrypt"
                    .to_owned(),
            ),
            failed => self.origin.error(failed, Purpose::Transit, "update"),
        })
    }

    fn of_transit(&self, error: ApiError) -> StoreError {
        self.origin.error(Failed::Api(error), Purpose::Transit, "update")
    }

    fn of_entries(&self, failed: Failed, capability: &'static str) -> StoreError {
        self.origin.error(failed, Purpose::Entries, capability)
    }

    fn corrupt(&self, name: &EntryName, reason: &str) -> StoreError {
        StoreError::Corrupt {
            reason: format!(
                "{} at {}: {reason}",
                self.kv.entry(name),
                self.client.api.endpoint()
            ),
        }
    }

    fn warn_of_deleted(&self, name: &EntryName) {
        tracing::warn!(
            entry = %self.kv.entry(name),
            "the entry was deleted in a way that keeps its versions, so its name is not free; undelete version 1, or delete {}",
            self.kv.whole(name)
        );
    }

    /// Whether there is a token that Vault takes. A login that may not look its token up proves nothing, and is not asked
    /// to again.
    async fn try_token(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let path = Path::fixed("auth/token/lookup-self");
        let mut call = Call {
            namespace: self.client.login_namespace.as_ref(),
            ..Call::new(Method::GET, &path)
        };
        let asked = if self.blind.load(Ordering::Relaxed) < BLIND {
            self.client.once(&mut call, deadline).await.map(drop)
        } else {
            self.client.token(&call, deadline).await.map(drop)
        };
        match asked {
            Ok(()) => Ok(()),
            Err(Failed::Api(error)) if error.is_answer() => {
                self.blind.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "the token cannot be looked up, which does not harm");
                Ok(())
            }
            Err(failed) => Err(self.origin.error(failed, Purpose::Health, "read")),
        }
    }
}

#[async_trait]
impl KeyStore for VaultStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.gate()?;
        self.store(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.gate()?;
        let deadline = self.client.deadline();
        match self.look(name, &deadline, true).await {
            Ok(Look::Present(Found { stored, version })) => Ok(Entry {
                value: self.open(name, stored, &deadline).await?,
                revision: version.map(|version| version.to_string()),
            }),
            Ok(Look::Absent) => Err(StoreError::NotFound),
            Ok(Look::Corrupt(reason)) => Err(self.corrupt(name, reason)),
            Err(Unseen::Hidden(Hidden::Deleted)) => {
                self.warn_of_deleted(name);
                Err(StoreError::NotFound)
            }
            Err(Unseen::Hidden(Hidden::Destroyed)) => {
                Err(self.corrupt(name, "its first version, which is the key, was destroyed"))
            }
            Err(Unseen::Failed(failed)) => Err(self.of_entries(failed, "read")),
        }
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.gate()?;
        let deadline = self.client.deadline();
        let path = self.kv.whole(name);
        let mut call = self.call(Method::DELETE, &path);
        let deleted = self.client.ask(&mut call, &deadline).await;
        match deleted.and_then(|reply| reply.done().map_err(Failed::Api)) {
            Ok(()) => Ok(()),
            Err(failed) if matches!(failed.problem(), Some(Problem::Absent)) => Err(StoreError::NotFound),
            Err(failed) => Err(self.of_entries(failed, "delete")),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.gate()?;
        let deadline = self.client.deadline();
        let path = self.kv.list();
        let mut call = self.call(Method::GET, &path);
        call.limit = LIST_LIMIT;
        let listed = self.client.ask(&mut call, &deadline).await;
        let names = listed.and_then(|reply| Kv::names(&reply).map_err(Failed::Api));
        match names {
            Ok(names) => Ok(paging::page(names, prefix, after, limit)),
            // So Vault says that a folder is empty.
            Err(failed) if matches!(failed.problem(), Some(Problem::Absent)) => Ok(Page::default()),
            Err(failed) => Err(self.of_entries(failed, LIST)),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let patience = Patience {
            operation: self.client.patience.operation.min(LONGEST_PING),
            ..self.client.patience
        };
        let deadline = Deadline::of(&patience);
        let mut retry = Retry::new(&patience);
        let health = loop {
            let asked = self
                .health
                .ask(&self.client.api, &self.client.session, deadline.attempt())
                .await;
            match asked {
                Err(error) if retry.pause(&deadline, error.again()).await => {}
                asked => break asked,
            }
        };
        match health {
            Ok(State::Open) => self.try_token(&deadline).await,
            Ok(closed @ (State::Sealed | State::NotInitialised)) => Err(self.closed(closed)),
            Err(error) => Err(self.origin.error(Failed::Api(error), Purpose::Health, "read")),
        }
    }

    async fn close(&self) {
        self.poll.stop();
        if let Some(renewal) = &self.renewal {
            renewal.stop();
        }
        self.client.session.close();
    }
}

impl fmt::Display for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin.store)
    }
}

/// The longest that a sign of life is waited for.
const LONGEST_PING: Duration = Duration::from_secs(5);

/// After this many tokens that were not permitted to look themselves up, no other one is asked to.
const BLIND: u32 = 2;
