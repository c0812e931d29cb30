//! Creating an entry only if there is none, also when others do the same and when answers are lost.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, StoreError};
use kes_keystore_http::{Deadline, Method, Retry};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout_at;

use super::{Look, Unseen, VaultStore};
use crate::KvVersion;
use crate::api::{Body, Problem, Reply, StatusCode};
use crate::client::Failed;
use crate::kv::{Found, Stored, Written};

/// An entry that is to be.
struct New<'a> {
    name: &'a EntryName,
    stored: &'a Stored,
    body: &'a Body,
    /// Whether an attempt may have stored it, although its answer does not say so.
    unsure: AtomicBool,
}

/// Why an attempt has not stored the entry.
enum Attempt {
    /// Nothing else will come of another attempt.
    Settled(StoreError),
    /// A request failed that needs this capability.
    Failed(Failed, &'static str),
}

impl New<'_> {
    fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Relaxed)
    }

    /// Whether `found` is what an attempt of ours has stored.
    fn is_ours(&self, found: &Found) -> bool {
        self.is_unsure() && found.stored == *self.stored
    }
}

impl VaultStore {
    /// Stores `value` under `name` if there is nothing.
    pub(super) async fn store(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let deadline = self.client.deadline();
        let _turn = match self.kv.version() {
            KvVersion::V1 => Some(self.turn(name, &deadline).await?),
            KvVersion::V2 => None,
        };
        let stored = self.seal(value, &deadline).await?;
        let new = New {
            name,
            stored: &stored,
            body: &self.kv.body(name, &stored),
            unsure: AtomicBool::new(false),
        };
        let mut retry = Retry::new(&self.client.patience);
        let (failed, capability) = loop {
            match self.attempt(&new, &deadline).await {
                Ok(()) => return Ok(()),
                Err(Attempt::Settled(error)) => return Err(error),
                Err(Attempt::Failed(failed, _)) if retry.pause(&deadline, failed.again()).await => {}
                Err(Attempt::Failed(failed, capability)) => break (failed, capability),
            }
        };
        // The last answer may have been lost as well.
        let settled = if new.is_unsure() {
            self.taken(&new, &deadline).await.ok().flatten()
        } else {
            None
        };
        match settled {
            Some(Ok(())) => Ok(()),
            Some(Err(Attempt::Settled(error))) => Err(error),
            Some(Err(Attempt::Failed(..))) | None => Err(self.of_entries(failed, capability)),
        }
    }

    /// Looks where the engine does not, or where an earlier attempt may have succeeded, and writes.
    async fn attempt(&self, new: &New<'_>, deadline: &Deadline) -> Result<(), Attempt> {
        if (self.kv.version() == KvVersion::V1 || new.is_unsure())
            && let Some(result) = self.taken(new, deadline).await?
        {
            return result;
        }

        let path = self.kv.entry(new.name);
        let mut call = self.call(Method::PUT, &path);
        call.body = Some(new.body);
        let failed = |failed| Attempt::Failed(failed, CREATE);
        let mut token = self.client.token(&call, deadline).await.map_err(failed)?;
        let mut repeated = false;
        loop {
            let error = match self.client.with(&mut call, &token, deadline).await {
                Ok(reply) => return self.written(new, &reply, deadline).await,
                Err(error) => error,
            };
            let denied = match error.problem() {
                Some(Problem::Denied { .. }) => true,
                Some(Problem::Refused { .. }) => false,
                _ => {
                    if error.may_have_happened() {
                        new.unsure.store(true, Ordering::Relaxed);
                    }
                    return Err(failed(error));
                }
            };
            // Who may create but not update is refused by its policy when there is an entry already, and others by the
            // engine. To read tells these apart from a missing permission and, as it needs a token too, from a token that
            // is no longer good.
            if let Some(result) = self.taken(new, deadline).await? {
                return result;
            }
            let other = self.client.token(&call, deadline).await.map_err(failed)?;
            if !denied || repeated || other.number() == token.number() {
                return Err(failed(error));
            }
            token = other;
            repeated = true;
        }
    }

    /// What there being an entry means for the creation of `new`; nothing if there is none.
    async fn taken(
        &self,
        new: &New<'_>,
        deadline: &Deadline,
    ) -> Result<Option<Result<(), Attempt>>, Attempt> {
        let exists = Some(Err(Attempt::Settled(StoreError::Exists)));
        Ok(match self.look(new.name, deadline, false).await {
            Ok(Look::Absent) => None,
            Ok(Look::Present(found)) if new.is_ours(&found) => Some(Ok(())),
            Ok(Look::Present(_) | Look::Corrupt(_)) => exists,
            Err(Unseen::Hidden(_)) => {
                self.warn_of_deleted(new.name);
                exists
            }
            Err(Unseen::Failed(failed)) => return Err(Attempt::Failed(failed, "read")),
        })
    }

    /// Whether the write that was answered so has stored `new`, and nothing else.
    async fn written(&self, new: &New<'_>, reply: &Reply, deadline: &Deadline) -> Result<(), Attempt> {
        let failed = |error| Attempt::Failed(Failed::Api(error), CREATE);
        match self.kv.version() {
            KvVersion::V2 => match Written::read(reply) {
                Ok(Written(1)) => Ok(()),
                Ok(Written(_)) => Err(failed(reply.unexpected(
                    "the server has written another version of an entry that exists, although it was told not to",
                ))),
                Err(_) if reply.status == StatusCode::NO_CONTENT => Err(failed(reply.unexpected(
                    "the engine keeps no versions: it is a K/V version 1 engine, but keystore.vault.version is v2",
                ))),
                Err(error) => {
                    new.unsure.store(true, Ordering::Relaxed);
                    Err(failed(error))
                }
            },
            KvVersion::V1 => {
                reply.done().map_err(failed)?;
                // Who has written between our look and our write is overwritten; who has written after it has
                // overwritten us. Only the latter can be seen.
                new.unsure.store(true, Ordering::Relaxed);
                match self.taken(new, deadline).await? {
                    Some(result) => {
                        if result.is_err() {
                            tracing::warn!(
                                entry = %self.kv.entry(new.name),
                                "another server has created the same key at the same time; a policy without \"update\", or a K/V version 2 engine, prevents that"
                            );
                        }
                        result
                    }
                    None => Err(failed(reply.unexpected("the entry is not there, although it was written"))),
                }
            }
        }
    }

    /// Waits until nobody else in this process creates `name`.
    async fn turn(&self, name: &EntryName, deadline: &Deadline) -> Result<MutexGuard<'_, ()>, StoreError> {
        let turn = timeout_at(deadline.end(), self.turns.of(name).lock()).await;
        turn.map_err(|_| StoreError::Backend {
            store: self.origin.store.clone(),
            source: "too many requests create the same key".into(),
        })
    }
}

/// Locks for names: one for all names that hash alike, so that there are never more.
#[derive(Debug)]
pub(super) struct Turns {
    hash: RandomState,
    locks: Vec<Mutex<()>>,
    one: Mutex<()>,
}

impl Turns {
    fn of(&self, name: &EntryName) -> &Mutex<()> {
        let hash = self.hash.hash_one(name) as usize;
        self.locks.get(hash % LOCKS).unwrap_or(&self.one)
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            one: Mutex::new(()),
        }
    }
}

const LOCKS: usize = 256;

const CREATE: &str = "create";
