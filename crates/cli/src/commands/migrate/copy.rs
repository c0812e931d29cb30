//! One key: from one key store to another, and what can come in between.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore, StoreError};

/// What to do with a key that the target has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// To stop.
    Refuse,
    /// To leave it, if it is the same.
    Merge,
    /// To put the source's in its place.
    Replace,
}

/// A key store that can put one value in the place of another in a single step.
#[async_trait]
pub(super) trait Replace: fmt::Debug + Send + Sync {
    /// Puts `value` in the place of what is under `name`, or changes nothing.
    async fn replace(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError>;
}

/// From where to where, and how.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) source: Arc<dyn KeyStore>,
    pub(super) target: Arc<dyn KeyStore>,
    /// The target again, if it can do that.
    pub(super) replacer: Option<Arc<dyn Replace>>,
    pub(super) existing: Existing,
    /// To find out what would happen, and change nothing.
    pub(super) is_dry_run: bool,
}

/// What became of a key, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is at the target now, and has been read back.
    Copied,
    /// The same, in the place of another one.
    Replaced,
    /// The target had it already, with the same value.
    Present,
    /// It was deleted at the source before it could be read.
    Gone,
}

/// Why a key was not copied. None of it quotes a value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot be read at the source")]
    Source(#[source] StoreError),
    #[error("cannot be written at the target")]
    Target(#[source] StoreError),
    #[error("cannot be read at the target")]
    Unread(#[source] StoreError),
    #[error("the target does not take this name")]
    Refused(#[source] StoreError),
    #[error(
        "the target has it already: use --merge to leave the keys that are there, or --force to replace them"
    )]
    Exists,
    #[error("the target has another key of this name")]
    Differs,
    #[error(
        "the target keeps a deleted key of this name: bring that one back with `kes key undelete`, or wait until it is gone"
    )]
    Deleted,
    #[error("the target does not give back what was written: do not use what it has under this name")]
    NotVerified,
    #[error("could not be replaced, and the target has its former key again")]
    PutBack(#[source] Box<Self>),
    #[error("could not be replaced, and THE TARGET HAS LOST ITS FORMER KEY, which could not be put back")]
    Lost(#[source] Box<Self>),
    #[error("the copying of it failed")]
    Died(#[source] tokio::task::JoinError),
}

impl Problem {
    /// Whether to stop, since the next keys would hardly fare better. A dry run goes on where it can.
    pub(super) const fn stops(&self, is_dry_run: bool) -> bool {
        match self {
            Self::Exists => !is_dry_run,
            Self::Source(
                StoreError::Corrupt { .. } | StoreError::Disabled { .. } | StoreError::InvalidName { .. },
            )
            | Self::Unread(StoreError::Corrupt { .. } | StoreError::Disabled { .. })
            | Self::Refused(_)
            | Self::Differs
            | Self::Deleted => false,
            Self::Source(_)
            | Self::Target(_)
            | Self::Unread(_)
            | Self::NotVerified
            | Self::PutBack(_)
            | Self::Lost(_)
            | Self::Died(_) => true,
        }
    }

    fn of_create(error: StoreError) -> Self {
        match error {
            StoreError::InvalidName { .. } => Self::Refused(error),
            error => Self::Target(error),
        }
    }
}

impl Copier {
    /// Copies one key, or finds out what would become of it.
    pub(super) async fn copy(&self, name: &EntryName) -> Result<Done, Problem> {
        let value = match self.source.get(name).await {
            Ok(entry) => entry.value,
            Err(StoreError::NotFound) => return Ok(Done::Gone),
            Err(error) => return Err(Problem::Source(error)),
        };
        if self.is_dry_run {
            return self.foresee(name, &value).await;
        }
        match self.create(name, &value).await {
            Ok(()) => Ok(Done::Copied),
            Err(Created::Exists) => self.meet(name, &value).await,
            Err(Created::Failed(problem)) => Err(problem),
        }
    }

    /// Creates the key at the target, and reads it back.
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), Created> {
        match self.target.create(name, value).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Err(Created::Exists),
            Err(error) => return Err(Created::Failed(Problem::of_create(error))),
        }
        self.verify(name, value).await.map_err(Created::Failed)
    }

    /// Whether the target has `value` under `name`.
    async fn verify(&self, name: &EntryName, value: &SecretBytes) -> Result<(), Problem> {
        match self.at_target(name).await? {
            Some(stored) if stored.ct_eq(value) => Ok(()),
            Some(_) | None => Err(Problem::NotVerified),
        }
    }

    /// What the target has under `name`.
    async fn at_target(&self, name: &EntryName) -> Result<Option<SecretBytes>, Problem> {
        match self.target.get(name).await {
            Ok(entry) => Ok(Some(entry.value)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(Problem::Unread(error)),
        }
    }

    /// The target says that it has this name already.
    async fn meet(&self, name: &EntryName, value: &SecretBytes) -> Result<Done, Problem> {
        match (self.at_target(name).await?, self.existing) {
            (None, _) => Err(Problem::Deleted),
            (Some(_), Existing::Refuse) => Err(Problem::Exists),
            (Some(stored), Existing::Merge | Existing::Replace) if stored.ct_eq(value) => Ok(Done::Present),
            (Some(_), Existing::Merge) => Err(Problem::Differs),
            (Some(stored), Existing::Replace) => self.replace(name, &stored, value).await,
        }
    }

    /// What [`Copier::copy`] would do.
    async fn foresee(&self, name: &EntryName, value: &SecretBytes) -> Result<Done, Problem> {
        match (self.at_target(name).await?, self.existing) {
            (None, _) => Ok(Done::Copied),
            (Some(_), Existing::Refuse) => Err(Problem::Exists),
            (Some(stored), Existing::Merge | Existing::Replace) if stored.ct_eq(value) => Ok(Done::Present),
            (Some(_), Existing::Merge) => Err(Problem::Differs),
            (Some(_), Existing::Replace) => Ok(Done::Replaced),
        }
    }

    /// Puts `value` in the place of `old`, or leaves `old` there.
    async fn replace(
        &self,
        name: &EntryName,
        old: &SecretBytes,
        value: &SecretBytes,
    ) -> Result<Done, Problem> {
        let problem = match &self.replacer {
            Some(replacer) => match replacer.replace(name, value).await {
                Ok(()) => match self.verify(name, value).await {
                    Ok(()) => return Ok(Done::Replaced),
                    Err(problem) => problem,
                },
                Err(error) => Problem::Target(error),
            },
            None => match self.delete_and_create(name, value).await? {
                Ok(()) => return Ok(Done::Replaced),
                Err(problem) => problem,
            },
        };
        let problem = Box::new(problem);
        if self.put_back(name, old).await {
            Err(Problem::PutBack(problem))
        } else {
            Err(Problem::Lost(problem))
        }
    }

    /// What most key stores take to put another value in the place of what they have. In between there is neither. The
    /// inner problem may have cost the former value, the outer one is that somebody else has put one there.
    async fn delete_and_create(
        &self,
        name: &EntryName,
        value: &SecretBytes,
    ) -> Result<Result<(), Problem>, Problem> {
        match self.target.delete(name).await {
            Ok(()) | Err(StoreError::NotFound) => {}
            // It may have been deleted all the same.
            Err(error) => return Ok(Err(Problem::Target(error))),
        }
        match self.create(name, value).await {
            Ok(()) => Ok(Ok(())),
            Err(Created::Failed(problem)) => Ok(Err(problem)),
            Err(Created::Exists) => match self.at_target(name).await? {
                Some(_) => Err(Problem::Differs),
                None => Ok(Err(Problem::Deleted)),
            },
        }
    }

    /// Makes the target have `old` again, whatever it has now. Does not give up at once, since `old` is nowhere else.
    async fn put_back(&self, name: &EntryName, old: &SecretBytes) -> bool {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.at_target(name).await {
                Ok(Some(stored)) if stored.ct_eq(old) => return true,
                // What was written instead, and perhaps not as it was to be. Whether that helps shows below.
                Ok(Some(_)) => {
                    let _ = match &self.replacer {
                        Some(replacer) => replacer.replace(name, old).await,
                        None => self.target.delete(name).await,
                    };
                }
                Ok(None) | Err(_) => {}
            }
            let is_there = match &self.replacer {
                Some(_) => self.verify(name, old).await.is_ok(),
                None => self.create(name, old).await.is_ok(),
            };
            if is_there {
                return true;
            }
        }
        false
    }
}

/// Why a key was not created.
#[derive(Debug)]
enum Created {
    /// The target says that it has the name already.
    Exists,
    Failed(Problem),
}

/// How often a former key is tried to be put back, and how long to wait before it is tried again: longer than a service
/// takes to fail over.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_secs(3);
