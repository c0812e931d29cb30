//! A key that is made for a try, and goes again whatever happens in between.

use std::num::NonZeroUsize;

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, KeyStore, StoreError};
use kes_server::log::chain as chain_of_causes;
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
    if *subject.given_up.borrow() {
        return;
    }
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
    let is_made = matches!(created, Step::Done(Ok(())));
    if is_made {
        read_and_list(subject, store, &name, findings).await;
    }
    delete(subject, store, &name, is_made, findings).await;
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
async fn delete(
    subject: &Subject,
    store: &dyn KeyStore,
    name: &EntryName,
    is_made: bool,
    findings: &mut Findings,
) {
    let mut problem = String::new();
    for _ in 0..2 {
        match timeout(LIMIT, store.delete(name)).await {
            Ok(Err(StoreError::NotFound)) if !is_made => {
                let finding = findings.note(
                    format!(
                        "the key {name}, which was to be made for a try, is not there, but it may still come"
                    ),
                    format!("if it does, delete it: kes key rm {name}. Its value is no key"),
                );
                finding.is_left_behind = true;
                finding.endpoint(store);
                return;
            }
            Ok(Ok(()) | Err(StoreError::NotFound)) => {
                findings.ok("the new key is deleted").endpoint(store);
                return;
            }
            Ok(Err(error)) => problem = chain_of_causes(&error),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kes_keystore::StoreOp;
    use kes_testkit::{Failure, FaultyStore, Gate, Lie, Step};
    use kes_types::SystemClock;
    use tokio::sync::watch;

    use super::*;
    use crate::environment::Environment;

    fn subject(given_up: watch::Receiver<bool>) -> Subject {
        Subject {
            path: "kes.yml".into(),
            settings: None,
            lines: kes_config::Lines::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            addresses: Vec::new(),
            clients: Vec::new(),
            write: true,
            offline: false,
            environment: Environment::default(),
            clock: Arc::new(SystemClock),
            given_up,
        }
    }

    async fn probe(store: &FaultyStore) -> Findings {
        let (_give_up, given_up) = watch::channel(false);
        let mut findings = Findings::of("store");
        run(&subject(given_up), store, &mut findings).await;
        findings
    }

    async fn is_empty(store: &FaultyStore) -> bool {
        store.heal();
        let page = store.list("", None, NonZeroUsize::MIN).await.unwrap();
        page.names.is_empty()
    }

    #[tokio::test]
    async fn the_key_is_deleted_whatever_fails_in_between() {
        for (op, step, part) in [
            (StoreOp::Create, Step::Pass, "can be made"),
            (
                StoreOp::Create,
                Step::FailAfter(Failure::Unreachable),
                "no key can be made",
            ),
            (StoreOp::Get, Step::Fail(Failure::Denied), "cannot be read"),
            (StoreOp::List, Step::Fail(Failure::Backend), "cannot be listed"),
            (StoreOp::Delete, Step::Fail(Failure::Unreachable), "is deleted"),
        ] {
            let store = FaultyStore::new();
            store.next(op, step);
            let findings = probe(&store).await.shown();
            assert!(
                findings.iter().any(|found| found.contains(part)),
                "{part}: {findings:?}"
            );
            assert!(
                findings.iter().any(|found| found == "Ok: the new key is deleted"),
                "{findings:?}"
            );
            assert!(is_empty(&store).await, "{part}");
        }
    }

    #[tokio::test]
    async fn a_key_that_stays_is_named() {
        let store = FaultyStore::new();
        store.always(StoreOp::Delete, Step::Fail(Failure::Denied));
        let findings = probe(&store).await.into_inner();
        let left = findings.iter().find(|finding| finding.is_left_behind).unwrap();
        assert!(left.what.starts_with("the key kes-doctor-"), "{}", left.what);
        assert!(!is_empty(&store).await);
    }

    #[tokio::test]
    async fn a_key_that_may_still_come_is_named() {
        let store = FaultyStore::new();
        store.next(StoreOp::Create, Step::Fail(Failure::Unreachable));
        let findings = probe(&store).await.into_inner();
        let left = findings.iter().find(|finding| finding.is_left_behind).unwrap();
        assert!(
            left.what.starts_with("the key kes-doctor-") && left.what.ends_with("it may still come"),
            "{}",
            left.what
        );
        assert!(
            findings
                .iter()
                .all(|finding| finding.what != "the new key is deleted")
        );
    }

    #[tokio::test]
    async fn who_has_given_up_already_gets_no_key() {
        let store = FaultyStore::new();
        let (give_up, given_up) = watch::channel(false);
        give_up.send(true).unwrap();
        let mut findings = Findings::of("store");
        run(&subject(given_up), &store, &mut findings).await;
        assert!(findings.shown().is_empty() && is_empty(&store).await);
    }

    #[tokio::test]
    async fn what_is_surely_not_there_is_not_deleted() {
        let store = FaultyStore::new();
        store.next(StoreOp::Create, Step::Fail(Failure::Denied));
        let findings = probe(&store).await.shown();
        assert!(
            matches!(findings.as_slice(), [only] if only.contains("no key can be made")),
            "{findings:?}"
        );
    }

    #[tokio::test]
    async fn a_store_that_gives_something_else_is_found_out() {
        let store = FaultyStore::new();
        let mut findings = Findings::of("store");
        let name = entry("kes-doctor-1").unwrap();
        store.put(name.as_str(), VALUE);
        store.lie(name.as_str(), Lie::Value(b"other".to_vec()));
        let (_give_up, given_up) = watch::channel(false);
        read_and_list(&subject(given_up), &store, &name, &mut findings).await;
        let findings = findings.shown();
        assert!(
            findings
                .iter()
                .any(|found| found.contains("does not read as it was written")),
            "{findings:?}"
        );
    }

    #[tokio::test]
    async fn the_key_of_who_gives_up_is_deleted() {
        for op in [StoreOp::Create, StoreOp::Get, StoreOp::List] {
            let (store, gate) = (FaultyStore::new(), Gate::new());
            store.next(op, Step::WaitAfter(gate.clone()));
            let (give_up, given_up) = watch::channel(false);
            let mut findings = Findings::of("store");
            let subject = subject(given_up);
            let giving_up = async {
                gate.reached().await;
                give_up.send(true).unwrap();
            };
            tokio::join!(run(&subject, &store, &mut findings), giving_up);
            assert!(
                findings
                    .shown()
                    .iter()
                    .any(|found| found == "Ok: the new key is deleted"),
                "{op:?}: {:?}",
                findings.shown()
            );
            assert!(is_empty(&store).await, "{op:?}");
        }
    }
}
