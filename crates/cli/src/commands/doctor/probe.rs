//! A key that is made for a try, and goes again whatever happens in between.

use std::num::NonZeroUsize;

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore, StoreError};
use tokio::time::timeout;

use super::LIMIT;
use super::finding::Findings;
use super::store::{entry, failed, shown};
use super::subject::Subject;

/// What is stored. It is no key, so that nobody can use it as one.
const VALUE: &[u8] = b"made by kes doctor --write; it can be deleted";

/// A name that nobody has.
pub(super) fn name() -> Option<EntryName> {
    let mut random = [0; 12];
    kes_crypto::fill_random(&mut random).ok()?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    entry(&format!("kes-doctor-{hex}"))
}

/// How a step has ended that could be waited for.
enum Step<T> {
    Done(Result<T, StoreError>),
    Late,
    GivenUp,
}

/// Makes a key, reads it, lists it, and deletes it.
pub(super) async fn run(subject: &Subject, store: &dyn KeyStore, findings: &mut Findings) {
    let Some(name) = name() else {
        findings.error(
            "there is no randomness for the name of a key",
            "this system is broken: look at its log",
        );
        return;
    };
    let value = SecretBytes::copy_of(VALUE);
    let started = subject.clock.monotonic();
    let created = step(subject, store.create(&name, &value)).await;
    let is_surely_absent = match &created {
        Step::Done(Ok(())) => {
            let took = subject.clock.monotonic().since(started);
            findings
                .ok(format!("a key can be made: {}", shown(took)))
                .endpoint(store);
            false
        }
        Step::Done(Err(error)) => {
            failed(subject, store, "no key can be made", error, true, findings);
            matches!(
                error,
                StoreError::Denied { .. } | StoreError::AuthFailed { .. } | StoreError::InvalidName { .. }
            )
        }
        Step::Late => {
            late(subject, store, "to make a key", findings);
            false
        }
        Step::GivenUp => false,
    };
    if is_surely_absent {
        return;
    }
    if matches!(created, Step::Done(Ok(()))) {
        read_and_list(subject, store, &name, findings).await;
    }
    delete(subject, store, &name, findings).await;
}

async fn read_and_list(subject: &Subject, store: &dyn KeyStore, name: &EntryName, findings: &mut Findings) {
    match step(subject, store.get(name)).await {
        Step::Done(Ok(entry)) if entry.value.expose_secret() == VALUE => {
            findings.ok("the new key can be read").endpoint(store);
        }
        Step::Done(Ok(_)) => {
            findings
                .error(
                    "the new key does not read as it was written",
                    "find out what changes values on the way: nothing that is stored there can be trusted",
                )
                .endpoint(store);
        }
        Step::Done(Err(error)) => {
            failed(
                subject,
                store,
                "the new key cannot be read",
                &error,
                true,
                findings,
            );
        }
        Step::Late => late(subject, store, "to read the new key", findings),
        Step::GivenUp => return,
    }
    match step(subject, store.list(name.as_str(), None, NonZeroUsize::MIN)).await {
        Step::Done(Ok(page)) if page.names.contains(name) => {
            findings.ok("the new key is listed").endpoint(store);
        }
        Step::Done(Ok(_)) => {
            findings
                .note(
                    "the new key is not listed yet",
                    "services such as AWS list what is new after a while",
                )
                .endpoint(store);
        }
        Step::Done(Err(error)) => {
            failed(
                subject,
                store,
                "the new key cannot be listed",
                &error,
                false,
                findings,
            );
        }
        Step::Late => late(subject, store, "to list the new key", findings),
        Step::GivenUp => {}
    }
}

/// Deletes it, also when the user has had enough: twice, since the first time may meet what passes.
async fn delete(subject: &Subject, store: &dyn KeyStore, name: &EntryName, findings: &mut Findings) {
    let mut problem = String::new();
    for _ in 0..2 {
        match timeout(LIMIT, store.delete(name)).await {
            Ok(Ok(()) | Err(StoreError::NotFound)) => {
                findings.ok("the new key is deleted").endpoint(store);
                return;
            }
            Ok(Err(error)) => problem = super::certificate::chain_of_causes(&error),
            Err(_) => problem = format!("no answer within {} s", LIMIT.as_secs()),
        }
    }
    let finding = findings.error(
        format!("the key {name}, which was made for a try, could not be deleted: {problem}"),
        format!("delete it: kes key rm {name}. Its value is no key"),
    );
    finding.is_left_behind = true;
    finding.endpoint(store).at(subject, &subject.keystore_key());
}

async fn step<T>(subject: &Subject, work: impl Future<Output = Result<T, StoreError>>) -> Step<T> {
    let mut given_up = subject.given_up.clone();
    tokio::select! {
        biased;
        Ok(_) = given_up.wait_for(|given_up| *given_up) => Step::GivenUp,
        done = timeout(LIMIT, work) => done.map_or(Step::Late, Step::Done),
    }
}

fn late(subject: &Subject, store: &dyn KeyStore, what: &str, findings: &mut Findings) {
    findings
        .error(
            format!("it takes longer than {} s {what}", LIMIT.as_secs()),
            "look at the service, and at the network between",
        )
        .endpoint(store)
        .at(subject, &subject.keystore_key());
}
