use std::future::pending;
use std::time::Duration;

use kes_keystore::StoreOp;
use kes_testkit::{Failure as StoreFailure, FaultyStore, Gate, Step};

use super::super::copy::Existing;
use super::super::pattern::Pattern;
use super::*;
use crate::output::testing::output;

/// A source with so many keys, and an empty target.
fn stores(keys: usize) -> (FaultyStore, FaultyStore) {
    let source = FaultyStore::new();
    for number in 0..keys {
        source.put(&key(number), format!("value {number}").as_bytes());
    }
    (source, FaultyStore::new())
}

fn key(number: usize) -> String {
    format!("key-{number:04}")
}

async fn drive_all(
    (source, target): &(FaultyStore, FaultyStore),
    existing: Existing,
    is_dry_run: bool,
    interrupt: impl Future<Output = ()>,
) -> (Tally, String) {
    let copier = Arc::new(Copier {
        source: Arc::new(source.clone()),
        target: Arc::new(target.clone()),
        replacer: None,
        existing,
        is_dry_run,
    });
    let names = Names::new(Arc::new(source.clone()), Pattern::parse(None).unwrap());
    let (mut output, captured) = output(false);
    let mut progress = Progress::Silent;
    let tally = drive(copier, names, interrupt, &mut progress, &mut output).await;
    (tally, captured.text())
}

#[tokio::test]
async fn all_keys_are_copied_and_some_at_the_same_time() {
    let stores = stores(1000);
    stores.0.set_page_size(64);
    let (tally, printed) = drive_all(&stores, Existing::Refuse, false, pending()).await;
    assert_eq!((tally.copied, tally.seen(), printed.as_str()), (1000, 1000, ""));
    for number in 0..1000 {
        assert_eq!(stores.1.value(&key(number)), stores.0.value(&key(number)));
    }
}

#[tokio::test]
async fn no_more_than_a_few_copies_run_at_once() {
    let stores = stores(200);
    let gate = Gate::new();
    stores.1.always(StoreOp::Create, Step::WaitBefore(gate.clone()));
    let (_, (tally, _)) = tokio::join!(
        async {
            stores.1.called(StoreOp::Create, AT_ONCE).await;
            gate.open();
        },
        drive_all(&stores, Existing::Refuse, false, pending())
    );
    assert_eq!(tally.copied, 200);
    assert_eq!(stores.1.most_at_once(StoreOp::Create), AT_ONCE);
}

#[tokio::test]
async fn a_key_that_is_there_stops_the_rest_and_what_came_before_stays() {
    let stores = stores(500);
    stores.1.put(&key(100), b"another");
    let (tally, _) = drive_all(&stores, Existing::Refuse, false, pending()).await;
    let [(name, Problem::Exists)] = tally.problems.as_slice() else {
        panic!("{tally:?}");
    };
    assert_eq!(name.as_str(), key(100));
    assert!(matches!(tally.end, Some(End::Problem)));
    assert!((100..500 - 1).contains(&tally.copied), "{tally:?}");
    assert_eq!(stores.1.value(&key(99)), stores.0.value(&key(99)));
    assert_eq!(stores.1.value(&key(499)), None);
}

#[tokio::test]
async fn differences_and_damage_are_all_found() {
    let stores = stores(300);
    for number in [3, 30, 299] {
        stores.1.put(&key(number), b"another");
    }
    stores.1.put(&key(4), b"value 4");
    let (tally, _) = drive_all(&stores, Existing::Merge, false, pending()).await;
    let named: Vec<_> = tally
        .problems
        .iter()
        .map(|(name, problem)| {
            assert!(matches!(problem, Problem::Differs));
            name.to_string()
        })
        .collect();
    assert_eq!(named, [key(3), key(30), key(299)]);
    assert_eq!((tally.copied, tally.present), (296, 1));
    assert!(tally.end.is_none());
}

#[tokio::test]
async fn a_dry_run_names_every_key_and_goes_on_where_a_real_one_stops() {
    let stores = stores(4);
    stores.1.put(&key(1), b"another");
    let (tally, printed) = drive_all(&stores, Existing::Refuse, true, pending()).await;
    assert_eq!(printed, "copy key-0000\ncopy key-0002\ncopy key-0003\n");
    assert_eq!((tally.copied, tally.problems.len()), (3, 1));
    assert!(tally.end.is_none());
    let (tally, printed) = drive_all(&stores, Existing::Replace, true, pending()).await;
    assert_eq!(
        printed,
        "copy key-0000\nreplace key-0001\ncopy key-0002\ncopy key-0003\n"
    );
    assert_eq!((tally.copied, tally.replaced), (3, 1));
    assert_eq!(stores.1.value(&key(1)).as_deref(), Some(&b"another"[..]));
    assert_eq!(stores.1.value(&key(0)), None);
}

#[tokio::test]
async fn an_interrupt_brings_what_has_begun_to_its_end_and_begins_no_more() {
    let stores = stores(500);
    let gate = Gate::new();
    stores.1.always(StoreOp::Create, Step::WaitBefore(gate.clone()));
    let interrupt = async {
        stores.1.called(StoreOp::Create, AT_ONCE).await;
        gate.open();
    };
    let (tally, _) = drive_all(&stores, Existing::Refuse, false, interrupt).await;
    assert!(matches!(tally.end, Some(End::Interrupted)), "{tally:?}");
    assert_eq!(tally.copied, AT_ONCE as u64);
    assert!(stores.1.value(&key(AT_ONCE - 1)).is_some());
    assert_eq!(stores.1.value(&key(AT_ONCE)), None);
}

#[tokio::test]
async fn an_outage_ends_it() {
    let stores = stores(500);
    stores.0.set_page_size(100);
    stores.0.next(StoreOp::List, Step::Pass);
    stores
        .0
        .next(StoreOp::List, Step::Fail(StoreFailure::Unreachable));
    let (tally, _) = drive_all(&stores, Existing::Refuse, false, pending()).await;
    assert!(matches!(tally.end, Some(End::Listing(_))), "{tally:?}");
    assert_eq!(tally.copied, 100);

    stores.1.fail(StoreFailure::Unreachable);
    let (tally, _) = drive_all(&stores, Existing::Merge, false, pending()).await;
    assert!(matches!(tally.end, Some(End::Problem)), "{tally:?}");
    assert!(tally.problems.len() <= AT_ONCE, "{tally:?}");
}

#[tokio::test]
async fn a_copy_that_panics_is_a_problem_of_its_key() {
    let stores = stores(1);
    stores.1.next(StoreOp::Create, Step::Panic);
    let (tally, _) = drive_all(&stores, Existing::Refuse, false, pending()).await;
    assert!(
        matches!(tally.problems.as_slice(), [(_, Problem::Died(_))]),
        "{tally:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn progress_is_said_once_a_second_also_while_a_page_takes_long() {
    let stores = stores(10);
    stores.0.set_page_size(5);
    let gate = Gate::new();
    stores.0.next(StoreOp::List, Step::Pass);
    stores.0.next(StoreOp::List, Step::WaitBefore(gate.clone()));
    let copier = Arc::new(Copier {
        source: Arc::new(stores.0.clone()),
        target: Arc::new(stores.1.clone()),
        replacer: None,
        existing: Existing::Refuse,
        is_dry_run: false,
    });
    let names = Names::new(Arc::new(stores.0.clone()), Pattern::parse(None).unwrap());
    let (mut output, captured) = output(false);
    let mut progress = Progress::Lines {
        what: "keys",
        total: 10,
        done: 0,
        said: None,
    };
    let (tally, ()) = tokio::join!(
        drive(copier, names, pending(), &mut progress, &mut output),
        async {
            tokio::time::sleep(Duration::from_millis(3500)).await;
            gate.open();
        }
    );
    assert_eq!(tally.copied, 10);
    assert_eq!(captured.text(), "5 of 10 keys\n", "nothing new is nothing to say");
    assert_eq!(stores.0.calls(StoreOp::List), 2, "the page was asked for once");
}
