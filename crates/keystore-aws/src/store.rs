//! The store: one secret a key.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use kes_crypto::SecretBytes;
use kes_keystore::paging::Pager;
use kes_keystore::{Entry, EntryName, KeyStore, Page, Patience, StoreError};
use kes_keystore_http::Deadline;
use kes_types::Clock;
use tokio::time::Instant;

use crate::attempt::{Pauses, Service};
use crate::connect::{self, Parts};
use crate::failure::{Call, Cause, Failure, Kind};
use crate::listing::{Listing, READ_AHEAD};
use crate::memory::Memory;
use crate::{Config, ConnectError};

/// Keeps each entry in a secret of its own, named like the entry.
pub struct AwsStore {
    service: Service,
    clock: Arc<dyn Clock>,
    place: String,
    region: String,
    kmskey: Option<String>,
    memory: Memory,
    /// The names that were read last.
    listing: Mutex<Listing>,
}

impl AwsStore {
    /// Makes a connection and asks the service one question, so that wrong credentials are found out now.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the service does not answer or refuses.
    pub async fn connect(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let Parts {
            service,
            place,
            region,
            kmskey,
        } = connect::prepare(config, Arc::clone(&clock)).await?;
        let memory = Memory::new(Arc::clone(&clock));
        let store = Self {
            service,
            clock,
            place,
            region,
            kmskey,
            memory,
            listing: Mutex::default(),
        };
        match store.probe(store.service.patience).await {
            Ok(()) => Ok(store),
            Err(source) => {
                store.close().await;
                Err(ConnectError::Refused {
                    store: store.to_string(),
                    source,
                })
            }
        }
    }

    /// Asks for a secret that no key can have the name of. That there is none, or that it may not be read, is an answer that
    /// only good credentials get.
    async fn probe(&self, patience: Patience) -> Result<(), StoreError> {
        let client = &self.service.client;
        let mut attempts = self.service.attempts_until(Deadline::of(&patience));
        let answer = attempts
            .run(|| client.get_secret_value().secret_id(NO_KEY).send())
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(failure) => match failure.kind {
                Kind::NotFound | Kind::Denied | Kind::Scheduled | Kind::Kms(_) => Ok(()),
                Kind::Exists
                | Kind::Throttled { .. }
                | Kind::Unavailable { .. }
                | Kind::Outdated
                | Kind::AuthFailed
                | Kind::Another
                | Kind::Other => Err(self.error(failure, Call::Get, None)),
            },
        }
    }

    /// The answer of the service, if it is about `name`, and no trace of another secret.
    async fn read(&self, name: &EntryName, deadline: Deadline) -> Result<GetSecretValueOutput, Failure> {
        let client = &self.service.client;
        let answer = self
            .service
            .attempts_until(deadline)
            .run(|| client.get_secret_value().secret_id(name.as_str()).send())
            .await?;
        if answer.name() == Some(name.as_str()) {
            return Ok(answer);
        }
        Err(another(answer.name()))
    }

    /// Reads what is stored after a create that may have happened.
    async fn is_ours(
        &self,
        name: &EntryName,
        value: &SecretBytes,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let mut pauses = Pauses::new(&self.service.patience);
        let until = Instant::now() + UNTIL_VISIBLE;
        loop {
            let failure = match self.read(name, deadline).await {
                Ok(answer) => {
                    let version = answer.version_id().map(str::to_owned);
                    let is_ours = value_of(answer)?.ct_eq(value);
                    if is_ours {
                        self.note_created(name, version);
                    }
                    return Ok(is_ours);
                }
                Err(failure) => failure,
            };
            // It exists, so it will be seen: not everywhere at once.
            if failure.kind == Kind::NotFound && pauses.pause(left_until(until, deadline)).await {
                continue;
            }
            return Err(StoreError::Backend {
                store: self.to_string(),
                source: Cause(format!(
                    "whether {name} was created is unknown: an attempt was not answered, the next said that it exists, \
                     and it cannot be read ({})",
                    failure.text
                ))
                .into(),
            });
        }
    }

    /// Fails if the service takes the name of the secret that is to be deleted for another one's. It may, of a name that looks
    /// like the end of an ARN, and what is deleted is lost.
    async fn make_sure_of(&self, name: &EntryName, deadline: Deadline) -> Result<(), StoreError> {
        if !looks_like_an_arn(name.as_str()) {
            return Ok(());
        }
        match self.read(name, deadline).await {
            Ok(_) => Ok(()),
            Err(failure) => match failure.kind {
                // The service knows which one is meant, and does not speak of another one.
                Kind::NotFound | Kind::Scheduled | Kind::Denied | Kind::Kms(_) => Ok(()),
                // Nothing is known.
                _ => Err(self.error(failure, Call::Get, Some(name))),
            },
        }
    }

    fn error(&self, failure: Failure, call: Call, name: Option<&EntryName>) -> StoreError {
        if let (Kind::Scheduled, Some(name)) = (failure.kind, name) {
            self.say_scheduled(name);
        }
        failure.into_error(
            &self.to_string(),
            call,
            name.map(EntryName::as_str),
            self.kmskey.as_deref(),
        )
    }

    fn say_scheduled(&self, name: &EntryName) {
        tracing::warn!(
            key = %name,
            "the secret is scheduled for deletion in AWS Secrets Manager: the key can neither be used nor created again until \
             it is gone; to have it back: \
             aws secretsmanager restore-secret --region {} --secret-id {name}",
            self.region
        );
    }

    /// Says loudly when a key's secret is not the one that it was.
    fn note_version(&self, name: &EntryName, version: Option<&str>) {
        let Some(version) = version else {
            return;
        };
        let before = self.memory.version(name, version);
        if let Some(before) = before.filter(|before| before != version) {
            tracing::error!(
                key = %name, before, now = version,
                "the secret of this key was replaced or rotated in AWS Secrets Manager: what was encrypted with the key before \
                 cannot be decrypted with it now. Keys must not be rotated there; make {before} its AWSCURRENT version again: \
                 aws secretsmanager update-secret-version-stage --region {} --secret-id {name} --version-stage AWSCURRENT \
                 --move-to-version-id {before} --remove-from-version-id {version}",
                self.region
            );
        }
    }

    /// What this process has created: listings from before are of no use any more.
    fn note_created(&self, name: &EntryName, version: Option<String>) {
        self.memory.created(name, version);
        self.listing().change();
    }

    /// What this process has deleted, or perhaps not.
    fn note_deleted(&self, name: &EntryName, certain: bool) {
        self.memory.deleted(name, certain);
        self.listing().change();
    }

    fn listing(&self) -> MutexGuard<'_, Listing> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for AwsStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let mut attempts = self.service.attempts();
        let mut pauses = Pauses::new(&self.service.patience);
        // One for all attempts, so that the service knows them for one.
        let token = request_token().map_err(|source| StoreError::Backend {
            store: self.to_string(),
            source: source.into(),
        })?;
        let mut request = self
            .service
            .client
            .create_secret()
            .name(name.as_str())
            .client_request_token(token)
            .set_kms_key_id(self.kmskey.clone());
        let text = std::str::from_utf8(value.expose_secret());
        request = match text {
            Ok(text) => request.secret_string(text),
            Err(_) => request.secret_binary(Blob::new(value.expose_secret())),
        };

        let mut may_have_happened = false;
        let failure = loop {
            let answer = attempts.once(text.unwrap_or_default(), request.clone().send());
            let failure = match answer.await {
                Ok(created) if created.name() != Some(name.as_str()) => Failure::unanswered(format!(
                    "the service answered that it has created {}",
                    created.name().unwrap_or("nothing")
                )),
                Ok(created) => {
                    self.note_created(name, created.version_id);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            may_have_happened |= failure.may_have_arrived();
            let again = match failure.kind {
                // What this process has deleted is on its way out. An attempt too late to be answered would leave a doubt.
                Kind::Scheduled if self.memory.has_deleted(name) => {
                    let Patience {
                        attempt, operation, ..
                    } = self.service.patience;
                    let for_an_answer = attempt.min(operation / 4);
                    pauses
                        .pause(attempts.deadline().left().saturating_sub(for_an_answer))
                        .await
                }
                _ => attempts.again(&failure).await,
            };
            if !again {
                break failure;
            }
        };
        match failure.kind {
            Kind::Exists if may_have_happened => {
                if self.is_ours(name, value, attempts.deadline()).await? {
                    return Ok(());
                }
                Err(StoreError::Exists)
            }
            Kind::Scheduled => {
                self.say_scheduled(name);
                Err(StoreError::Exists)
            }
            // The service says that only of the KMS key.
            Kind::NotFound => Err(self.error(
                Failure {
                    kind: Kind::Kms(crate::failure::KmsCause::NotFound),
                    ..failure
                },
                Call::Create,
                Some(name),
            )),
            _ => Err(self.error(failure, Call::Create, Some(name))),
        }
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let deadline = Deadline::of(&self.service.patience);
        let mut pauses = Pauses::new(&self.service.patience);
        let new_until = self
            .memory
            .has_just_created(name)
            .then(|| Instant::now() + UNTIL_VISIBLE);
        loop {
            match self.read(name, deadline).await {
                Ok(answer) => {
                    self.note_version(name, answer.version_id());
                    let revision = answer.version_id().map(str::to_owned);
                    let value = value_of(answer)?;
                    return Ok(Entry { value, revision });
                }
                // What this process has deleted for good is on its way out, and nobody can have it back.
                Err(failure) if failure.kind == Kind::Scheduled && self.memory.has_just_deleted(name) => {
                    return Err(StoreError::NotFound);
                }
                // What was just created is not to be seen everywhere yet.
                Err(failure) if failure.kind == Kind::NotFound => {
                    let left = new_until.map_or(Duration::ZERO, |until| left_until(until, deadline));
                    if !pauses.pause(left).await {
                        return Err(StoreError::NotFound);
                    }
                }
                Err(failure) => return Err(self.error(failure, Call::Get, Some(name))),
            }
        }
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let mut attempts = self.service.attempts();
        let request = self
            .service
            .client
            .delete_secret()
            .secret_id(name.as_str())
            .force_delete_without_recovery(true);
        self.make_sure_of(name, attempts.deadline()).await?;
        let mut may_have_happened = false;
        loop {
            let failure = match attempts.once("", request.clone().send()).await {
                Ok(deleted) if deleted.name() != Some(name.as_str()) => another(deleted.name()),
                Ok(_) => {
                    self.note_deleted(name, true);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            if failure.may_have_arrived() {
                may_have_happened = true;
                self.note_deleted(name, false);
            }
            if failure.kind == Kind::NotFound && may_have_happened {
                return Ok(());
            }
            if !attempts.again(&failure).await {
                return Err(self.error(failure, Call::Delete, Some(name)));
            }
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        if !could_begin_a_name(prefix) {
            return Ok(Page::default());
        }
        if let Some(after) = after
            && let Some(page) = self.listing().page(prefix, after, limit, self.clock.monotonic())
        {
            return Ok(page);
        }
        let changes = self.listing().changes();
        let deadline = Deadline::of(&self.service.patience);
        let filter = Filter::builder()
            .key(FilterNameStringType::Name)
            .values(prefix)
            .build();
        let request = self
            .service
            .client
            .list_secrets()
            .max_results(MOST_A_PAGE)
            .set_filters((!prefix.is_empty()).then(|| vec![filter]));
        let mut pager = Pager::new(prefix, after, limit.max(READ_AHEAD));
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = self
                .service
                .attempts_until(deadline)
                .run(|| request.clone().set_next_token(token.clone()).send())
                .await
                .map_err(|failure| self.error(failure, Call::List, None))?;
            for secret in page.secret_list() {
                if let (Some(name), None) = (secret.name(), secret.deleted_date()) {
                    pager.offer(name);
                }
            }
            let next = page.next_token.filter(|token| !token.is_empty());
            match next {
                None => {
                    let read = (self.clock.monotonic(), changes);
                    return Ok(self.listing().keep(prefix, after, pager.finish(), limit, read));
                }
                Some(_) if next == token => return Err(self.endless()),
                Some(_) => token = next,
            }
        }
        Err(self.endless())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let patience = self.service.patience;
        self.probe(Patience {
            operation: patience.operation.min(LONGEST_PING),
            ..patience
        })
        .await
    }

    async fn close(&self) {
        self.service.credentials.close();
    }
}

impl AwsStore {
    fn endless(&self) -> StoreError {
        StoreError::Backend {
            store: self.to_string(),
            source: Cause("the list of secrets has no end".to_owned()).into(),
        }
    }
}

impl fmt::Display for AwsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AWS Secrets Manager: {}", self.place)
    }
}

impl fmt::Debug for AwsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsStore")
            .field("place", &self.place)
            .field("region", &self.region)
            .field("kmskey", &self.kmskey)
            .field("patience", &self.service.patience)
            .finish_non_exhaustive()
    }
}

fn value_of(answer: GetSecretValueOutput) -> Result<SecretBytes, StoreError> {
    match (answer.secret_string, answer.secret_binary) {
        (Some(text), _) => Ok(SecretBytes::new(text.into_bytes())),
        (None, Some(bytes)) => Ok(SecretBytes::new(bytes.into_inner())),
        (None, None) => Err(StoreError::Corrupt {
            reason: "the secret has no value".to_owned(),
        }),
    }
}

/// The service has answered for another secret. That does not say that there is none of the name.
fn another(answered: Option<&str>) -> Failure {
    Failure {
        kind: Kind::Another,
        text: format!(
            "the service answered for another secret, {}, than it was asked for; its answer is not used",
            answered.unwrap_or("one without a name")
        ),
    }
}

/// What is left of the time in which something has to be seen.
fn left_until(until: Instant, deadline: Deadline) -> Duration {
    until
        .saturating_duration_since(Instant::now())
        .min(deadline.left())
}

/// Whether a name ends like the ARN of another one: `key-AbCdEf` like that of `key`.
fn looks_like_an_arn(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == 6 && end.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether a key's name may start so. What it may not is no filter that the service would take.
fn could_begin_a_name(prefix: &str) -> bool {
    prefix.len() <= LONGEST_NAME
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A random UUID.
fn request_token() -> Result<String, kes_crypto::RandomError> {
    let mut bytes = [0; 16];
    kes_crypto::fill_random(&mut bytes)?;
    let number = u128::from_be_bytes(bytes);
    let number = (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let mut token = String::with_capacity(36);
    for (i, digit) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            token.push('-');
        }
        token.push(digit);
    }
    Ok(token)
}

/// The length of the longest name.
const LONGEST_NAME: usize = 80;

/// A name that no key has.
const NO_KEY: &str = "kes/ping";

/// How long a new secret is waited for.
const UNTIL_VISIBLE: Duration = Duration::from_secs(2);

/// A service that needs longer for a sign of life does not count as reachable.
const LONGEST_PING: Duration = Duration::from_secs(5);

/// The most that the service lists at once.
const MOST_A_PAGE: i32 = 100;

/// A million secrets, which is more than an account may have.
const MOST_PAGES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_token_is_a_random_uuid() {
        let tokens: Vec<String> = (0..100).map(|_| request_token().unwrap()).collect();
        for token in &tokens {
            assert_eq!(token.len(), 36);
            let parts: Vec<&str> = token.split('-').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12]
            );
            assert!(
                parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']),
                "{token}"
            );
            assert!(token.chars().all(|c| c == '-' || c.is_ascii_hexdigit()));
        }
        assert_ne!(tokens[0], tokens[1]);
    }

    #[test]
    fn only_what_may_begin_a_name_is_asked_for() {
        for prefix in ["", "a", "my-key_1", "-", "_"] {
            assert!(could_begin_a_name(prefix), "{prefix}");
        }
        for prefix in ["!a", "a*", "a/b", "ü", " ", &"a".repeat(81)] {
            assert!(!could_begin_a_name(prefix), "{prefix}");
        }
    }
}
