use kes_keystore::StoreOp;
use kes_testkit::{Failure, FaultyStore, Lie, Step};

use super::*;

fn name() -> EntryName {
    EntryName::parse("key").unwrap()
}

/// A source that has `key` with the value `new`, and a target that may have another value under the name.
fn stores(at_target: Option<&[u8]>) -> (FaultyStore, FaultyStore) {
    let (source, target) = (FaultyStore::new(), FaultyStore::new());
    source.put("key", b"new");
    if let Some(value) = at_target {
        target.put("key", value);
    }
    (source, target)
}

async fn copy(
    stores: &(FaultyStore, FaultyStore),
    existing: Existing,
    is_dry_run: bool,
) -> Result<Done, Problem> {
    let (source, target) = stores;
    let copier = Copier {
        source: Arc::new(source.clone()),
        target: Arc::new(target.clone()),
        replacer: None,
        existing,
        is_dry_run,
    };
    copier.copy(&name()).await
}

#[tokio::test]
async fn what_becomes_of_a_key_depends_on_what_is_there() {
    use Existing::{Merge, Refuse, Replace};
    for (at_target, existing, want, after) in [
        (None, Refuse, "Ok(Copied)", "new"),
        (None, Merge, "Ok(Copied)", "new"),
        (None, Replace, "Ok(Copied)", "new"),
        (Some("new"), Refuse, "Err(Exists)", "new"),
        (Some("new"), Merge, "Ok(Present)", "new"),
        (Some("new"), Replace, "Ok(Present)", "new"),
        (Some("old"), Refuse, "Err(Exists)", "old"),
        (Some("old"), Merge, "Err(Differs)", "old"),
        (Some("old"), Replace, "Ok(Replaced)", "new"),
    ] {
        let stores = stores(at_target.map(str::as_bytes));
        let foreseen = copy(&stores, existing, true).await;
        assert_eq!(format!("{foreseen:?}"), want, "{at_target:?} {existing:?}");
        assert_eq!(
            stores.1.value("key").as_deref(),
            at_target.map(str::as_bytes),
            "a dry run"
        );
        for op in [StoreOp::Create, StoreOp::Delete] {
            assert_eq!(stores.1.calls(op), 0, "a dry run");
        }

        let done = copy(&stores, existing, false).await;
        assert_eq!(format!("{done:?}"), want, "{at_target:?} {existing:?}");
        assert_eq!(stores.1.value("key").as_deref(), Some(after.as_bytes()));
        assert_eq!(
            stores.0.value("key").as_deref(),
            Some(&b"new"[..]),
            "the source stays"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_gone_or_damaged_at_the_source_is_not_written() {
    let stores = stores(None);
    for (failure, want, stops) in [
        (Failure::NotFound, None, false),
        (Failure::Corrupt, Some("cannot be read at the source"), false),
        (Failure::Disabled, Some("cannot be read at the source"), false),
        (Failure::Unreachable, Some("cannot be read at the source"), true),
    ] {
        stores.0.always(StoreOp::Get, Step::Fail(failure));
        let outcome = copy(&stores, Existing::Refuse, false).await;
        match (outcome, want) {
            (Ok(Done::Gone), None) => {}
            (Err(problem), Some(want)) => {
                assert_eq!(
                    (problem.to_string().as_str(), problem.stops(false)),
                    (want, stops)
                );
            }
            (outcome, _) => panic!("{failure:?}: {outcome:?}"),
        }
    }
    assert_eq!(stores.1.calls(StoreOp::Create), 0);
}

#[tokio::test]
async fn a_name_that_the_target_refuses_is_not_the_end() {
    let stores = stores(None);
    stores.1.always(StoreOp::Create, Step::Fail(Failure::InvalidName));
    let problem = copy(&stores, Existing::Refuse, false).await.unwrap_err();
    assert!(
        matches!(problem, Problem::Refused(_)) && !problem.stops(false),
        "{problem:?}"
    );
    stores.1.always(StoreOp::Create, Step::Fail(Failure::Denied));
    let problem = copy(&stores, Existing::Refuse, false).await.unwrap_err();
    assert!(
        matches!(problem, Problem::Target(_)) && problem.stops(false),
        "{problem:?}"
    );
}

#[tokio::test]
async fn what_the_target_does_not_give_back_is_not_copied() {
    for lie in [Lie::Value(b"other".to_vec()), Lie::Truncated(2)] {
        let stores = stores(None);
        stores.1.lie("key", lie);
        let problem = copy(&stores, Existing::Refuse, false).await.unwrap_err();
        assert!(
            matches!(problem, Problem::NotVerified) && problem.stops(false),
            "{problem:?}"
        );
    }
    let stores = stores(None);
    stores.1.always(StoreOp::Get, Step::Fail(Failure::Unreachable));
    let problem = copy(&stores, Existing::Merge, false).await.unwrap_err();
    assert!(matches!(problem, Problem::Unread(_)), "{problem:?}");
}

#[tokio::test]
async fn a_name_that_the_target_keeps_for_a_deleted_key_is_said_to_be_one() {
    for existing in [Existing::Refuse, Existing::Merge, Existing::Replace] {
        let stores = stores(None);
        stores.1.always(StoreOp::Create, Step::Fail(Failure::Exists));
        let problem = copy(&stores, existing, false).await.unwrap_err();
        assert!(matches!(problem, Problem::Deleted), "{problem:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_fails_leaves_the_former_key() {
    let old = Some(&b"old"[..]);
    for steps in [
        // The deletion fails, with or without effect.
        vec![(StoreOp::Delete, Step::Fail(Failure::Unreachable))],
        vec![(StoreOp::Delete, Step::FailAfter(Failure::Unreachable))],
        // The first create finds the key there. The second one fails, with or without effect.
        vec![
            (StoreOp::Create, Step::Pass),
            (StoreOp::Create, Step::Fail(Failure::Backend)),
        ],
        vec![
            (StoreOp::Create, Step::Pass),
            (StoreOp::Create, Step::FailAfter(Failure::Unreachable)),
        ],
        // And so does the attempt to put the former key back, once.
        vec![
            (StoreOp::Create, Step::Pass),
            (StoreOp::Create, Step::Fail(Failure::Backend)),
            (StoreOp::Create, Step::Fail(Failure::Unreachable)),
        ],
        // What was written cannot be read.
        vec![
            (StoreOp::Get, Step::Pass),
            (StoreOp::Get, Step::Fail(Failure::Corrupt)),
        ],
    ] {
        let stores = stores(old);
        for (op, step) in &steps {
            stores.1.next(*op, step.clone());
        }
        let problem = copy(&stores, Existing::Replace, false).await.unwrap_err();
        assert!(
            matches!(problem, Problem::PutBack(_)) && problem.stops(false),
            "{problem:?} {steps:?}"
        );
        assert_eq!(stores.1.value("key").as_deref(), old, "{steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_key_that_cannot_be_put_back_is_not_passed_over() {
    let stores = stores(Some(b"old"));
    stores.1.next(StoreOp::Create, Step::Pass);
    stores.1.always(StoreOp::Create, Step::Fail(Failure::Unreachable));
    let problem = copy(&stores, Existing::Replace, false).await.unwrap_err();
    assert!(matches!(problem, Problem::Lost(_)), "{problem:?}");
    assert_eq!(stores.1.value("key"), None);
    let text = format!("{:#}", anyhow::Error::new(problem));
    assert!(
        text.contains("LOST") && text.contains("cannot be reached"),
        "{text}"
    );
}

#[tokio::test]
async fn another_key_that_appears_in_between_is_left_alone() {
    let stores = stores(Some(b"old"));
    let gate = kes_testkit::Gate::new();
    stores.1.next(StoreOp::Delete, Step::WaitAfter(gate.clone()));
    let (outcome, ()) = tokio::join!(copy(&stores, Existing::Replace, false), async {
        gate.reached().await;
        stores.1.put("key", b"third");
        gate.open();
    });
    assert!(matches!(outcome, Err(Problem::Differs)), "{outcome:?}");
    assert_eq!(stores.1.value("key").as_deref(), Some(&b"third"[..]));
}

#[tokio::test]
async fn no_problem_quotes_a_value() {
    let stores = stores(Some(b"old-secret"));
    stores.0.put("key", b"new-secret");
    for existing in [Existing::Refuse, Existing::Merge] {
        let problem = copy(&stores, existing, false).await.unwrap_err();
        assert!(!format!("{problem:?} {problem}").contains("secret"));
    }
}

/// A key store that can replace, as told.
#[derive(Debug)]
struct Replacer {
    store: FaultyStore,
    fails: bool,
    written: Option<Vec<u8>>,
}

#[async_trait]
impl Replace for Replacer {
    async fn replace(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        if self.fails {
            return Err(Failure::Unreachable.error());
        }
        let is_new = value.expose_secret() == b"new";
        match &self.written {
            Some(written) if is_new => self.store.put(name.as_str(), written),
            _ => self.store.put(name.as_str(), value.expose_secret()),
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_can_replaces_in_one_step() {
    for (fails, written, want, after) in [
        (false, None, "Ok(Replaced)", "new"),
        (true, None, "Err(PutBack(Target(", "old"),
        (
            false,
            Some(b"mangled".to_vec()),
            "Err(PutBack(NotVerified))",
            "old",
        ),
    ] {
        let (source, target) = stores(Some(b"old"));
        let copier = Copier {
            source: Arc::new(source),
            target: Arc::new(target.clone()),
            replacer: Some(Arc::new(Replacer {
                store: target.clone(),
                fails,
                written,
            })),
            existing: Existing::Replace,
            is_dry_run: false,
        };
        let outcome = format!("{:?}", copier.copy(&name()).await);
        assert!(outcome.starts_with(want), "{outcome}");
        assert_eq!(target.value("key").as_deref(), Some(after.as_bytes()));
        assert_eq!(target.calls(StoreOp::Delete), 0);
    }
}
