use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use kes_keystore::conformance;

use super::*;
use crate::testing::{BadSeal, Fault, How, Stop, TestStore, When, chain, name, now, seal, seals};
use crate::vectors::{Inputs, hex, of_document};

async fn new_store(seals: &Seals) -> (Arc<TestStore>, Sealed<TestStore>) {
    let store = TestStore::new();
    let sealed = Sealed::initialise(Arc::clone(&store), seals, now())
        .await
        .unwrap();
    (store, sealed)
}

async fn opens(store: &Arc<TestStore>, seals: &Seals) -> bool {
    Sealed::open(store.after_a_crash(), seals).await.is_ok()
}

async fn create(store: &Sealed<TestStore>, text: &str, value: &[u8]) {
    store
        .create(&name(text), &SecretBytes::copy_of(value))
        .await
        .unwrap();
}

async fn assert_corrupt(store: &Sealed<TestStore>, text: &str) {
    match store.get(&name(text)).await {
        Err(StoreError::Corrupt { reason }) => assert!(reason.contains(text), "{reason}"),
        other => panic!("reading {text}: {other:?}"),
    }
}

async fn assert_holds(store: &Sealed<TestStore>, text: &str, value: &[u8]) {
    let entry = store.get(&name(text)).await.unwrap();
    assert_eq!(entry.value.expose_secret(), value);
}

fn checks(store: &Sealed<TestStore>) -> Vec<(String, Option<String>)> {
    let infos = store.seals().into_iter();
    infos.map(|info| (info.check, info.source)).collect()
}

fn seen(n: u8) -> (String, Option<String>) {
    (
        seal(n).id().check_text(),
        Some(format!("environment variable SEAL_{n}")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_every_promise_of_a_store() {
    conformance::all(async || {
        let (_, sealed) = new_store(&seals([1])).await;
        Arc::new(sealed) as conformance::Subject
    })
    .await;
}

#[tokio::test]
async fn a_store_is_opened_by_any_of_its_seals_and_says_where_it_is() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "key", b"value").await;
    assert_eq!(sealed.reseal(&seals([2, 1])).await.unwrap(), Resealed::Added);

    for list in [
        seals([1]),
        seals([2]),
        seals([3, 1]),
        seals([3, 2]),
        seals([1, 2, 3]),
    ] {
        let again = Sealed::open(Arc::clone(&store), &list).await.unwrap();
        assert_holds(&again, "key", b"value").await;
        assert_eq!(again.key().store_id(), sealed.key().store_id());
    }
    assert_eq!(sealed.to_string(), "Test: memory");
    assert_eq!(sealed.format(), 1);
    assert!(Arc::ptr_eq(sealed.store(), &store));
}

#[tokio::test]
async fn nothing_is_stored_in_clear_but_names() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "key", b"attack at dawn").await;
    create(&sealed, "same", b"attack at dawn").await;
    let (first, second) = (
        store.stored(&name("key")).await,
        store.stored(&name("same")).await,
    );
    assert_eq!(first.len(), 14 + OVERHEAD);
    assert_ne!(first[1..], second[1..]);
    for stored in [first, second] {
        assert!(!stored.windows(6).any(|window| window == b"attack"));
    }
    let record = store.header().unwrap();
    let root = sealed.key().root().expose_secret();
    for part in [record.header, record.generation] {
        assert!(!part.windows(8).any(|window| window == &root[..8]));
    }
}

#[tokio::test]
async fn a_value_under_another_name_or_from_another_store_does_not_open() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "one", b"1").await;
    create(&sealed, "two", b"2").await;
    create(&sealed, "three", b"3").await;
    let (one, two) = (store.stored(&name("one")).await, store.stored(&name("two")).await);
    store.overwrite(&name("one"), &two).await;
    store.overwrite(&name("two"), &one).await;
    store.overwrite(&name("four"), &one).await;

    // The same seal, so only the root key and the store's id differ.
    let (_, other) = new_store(&seals([1])).await;
    create(&other, "five", b"5").await;
    store
        .overwrite(&name("five"), &other.store().stored(&name("five")).await)
        .await;

    for moved in ["one", "two", "four", "five"] {
        assert_corrupt(&sealed, moved).await;
    }
    assert_holds(&sealed, "three", b"3").await;
}

/// The id is bound even if the root key is the same, as in a store whose header was made by hand.
#[tokio::test]
async fn a_value_of_a_store_with_the_same_root_key_and_another_id_does_not_open() {
    let inputs = Inputs::read(&of_document());
    let root = SecretBytes::copy_of(inputs.key.root().expose_secret());
    let other = StoreKey::new([9; 16], root).unwrap();
    let sealed = inputs.sealed_value();
    assert!(inputs.key.open_value(inputs.name, &sealed).is_ok());
    assert!(matches!(
        other.open_value(inputs.name, &sealed),
        Err(SealError::DoesNotOpen)
    ));
}

#[tokio::test]
async fn a_damaged_value_is_corrupt_and_the_others_stay_readable() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "good", b"value").await;
    create(&sealed, "bad", b"value").await;
    let stored = store.stored(&name("bad")).await;
    let mut newer = stored.clone();
    newer[0] = 2;
    let mut flipped = stored.clone();
    flipped[20] ^= 1;
    let too_long = vec![1; crate::MAX_VALUE + OVERHEAD + 1];
    for damaged in [&[][..], &stored[..stored.len() - 1], &flipped, &newer, &too_long] {
        store.overwrite(&name("bad"), damaged).await;
        assert_corrupt(&sealed, "bad").await;
        assert_eq!(
            store.stored(&name("bad")).await,
            damaged,
            "nothing is repaired silently"
        );
        assert_holds(&sealed, "good", b"value").await;
    }
    let error = sealed.get(&name("bad")).await.unwrap_err();
    assert!(error.to_string().contains("more than the 1048605"), "{error}");
    store.overwrite(&name("bad"), &stored).await;
    assert_holds(&sealed, "bad", b"value").await;
}

#[tokio::test]
async fn a_value_that_is_too_large_is_not_stored() {
    let (_, sealed) = new_store(&seals([1])).await;
    let largest = SecretBytes::new(vec![5; crate::MAX_VALUE]);
    sealed.create(&name("largest"), &largest).await.unwrap();
    assert!(sealed.get(&name("largest")).await.unwrap().value.ct_eq(&largest));

    let larger = SecretBytes::new(vec![5; crate::MAX_VALUE + 1]);
    let error = sealed.create(&name("larger"), &larger).await.unwrap_err();
    assert_eq!(
        chain(&error),
        "Test: memory failed: the value of larger was not sealed: has 1048577 bytes, more than the 1048576 that are possible"
    );
    assert!(matches!(
        sealed.get(&name("larger")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn the_wrong_seal_is_told_what_is_needed_and_changes_nothing() {
    let (store, sealed) = new_store(&seals([1])).await;
    let (one, two, three) = (seal(1).id(), seal(2).id(), seal(3).id());
    let refused = async |list: &Seals| {
        let before = store.header();
        let error = Sealed::open(Arc::clone(&store), list).await.unwrap_err();
        assert_eq!(store.header(), before);
        error.to_string()
    };

    assert_eq!(
        refused(&seals([2])).await,
        format!(
            "Test: memory is sealed with {one}, but what was given is {two} (environment variable SEAL_2); \
             nothing was changed: give the seal that it was sealed with"
        )
    );
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let text = refused(&seals([3, 4])).await;
    let needed = format!("sealed with {one} or {two}, but what was given is {three} (");
    assert!(text.contains(&needed) && text.contains(") and key "), "{text}");
    assert_eq!(
        refused(&Seals::new()).await,
        "Test: memory: no seal is configured"
    );
}

#[tokio::test]
async fn a_new_store_is_made_only_where_there_is_none() {
    let (store, sealed) = new_store(&seals([1])).await;
    let before = store.header();
    let error = Sealed::initialise(Arc::clone(&store), &seals([1]), now())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::AlreadyInitialised { .. }), "{error}");

    create(&sealed, "key", b"value").await;
    store.put_header(None);
    let error = Sealed::initialise(Arc::clone(&store), &seals([1]), now())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::NotEmpty { .. }), "{error}");
    let error = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap_err();
    assert!(matches!(error, OpenError::NoHeader { .. }), "{error}");
    assert_eq!(store.header(), None);

    store.put_header(before);
    let again = Sealed::open(store, &seals([1])).await.unwrap();
    assert_holds(&again, "key", b"value").await;
}

#[tokio::test]
async fn of_two_that_make_the_same_store_one_does() {
    let store = TestStore::new();
    store.gather(2);
    let make = || Sealed::initialise(Arc::clone(&store), &SEALS, now());
    let (one, two) = tokio::join!(make(), make());
    let (winner, loser) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(matches!(loser, Err(OpenError::AlreadyInitialised { .. })));
    let opened = Sealed::open(store, &SEALS).await.unwrap();
    assert_eq!(opened.key().store_id(), winner.unwrap().key().store_id());
}

static SEALS: std::sync::LazyLock<Seals> = std::sync::LazyLock::new(|| seals([1]));

#[tokio::test]
async fn an_older_header_or_generation_record_put_back_alone_is_refused() {
    let (store, sealed) = new_store(&seals([1])).await;
    let old = store.header().unwrap();
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let new = store.header().unwrap();

    for (header, generation, found, expected) in [
        (&old.header, &new.generation, 1, 2),
        (&new.header, &old.generation, 2, 1),
    ] {
        let mixed = HeaderRecord {
            header: header.clone(),
            generation: generation.clone(),
        };
        store.put_header(Some(mixed.clone()));
        let error = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap_err();
        match &error {
            OpenError::OldHeader {
                found: f,
                expected: e,
                ..
            } => assert_eq!((*f, *e), (found, expected)),
            other => panic!("{other:?}"),
        }
        // Nor does the process that has the store open write on top of it.
        let error = sealed.reseal(&seals([3, 1])).await.unwrap_err();
        assert!(matches!(error, OpenError::OldHeader { .. }), "{error}");
        assert_eq!(store.header(), Some(mixed));
    }
    store.put_header(Some(new));
    assert!(opens(&store, &seals([2])).await);
}

#[tokio::test]
async fn a_header_of_a_fork_of_the_store_is_refused() {
    let (store, sealed) = new_store(&seals([1])).await;
    let copy = store.after_a_crash();
    let forked = Sealed::open(Arc::clone(&copy), &seals([1])).await.unwrap();
    sealed.reseal(&seals([2, 1])).await.unwrap();
    forked.reseal(&seals([3, 1])).await.unwrap();
    let mixed = HeaderRecord {
        header: copy.header().unwrap().header,
        generation: store.header().unwrap().generation,
    };
    let error = open_header("here", &mixed, &seals([1])).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::OldHeader {
                found: 2,
                expected: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn the_header_of_another_store_with_the_same_seal_is_refused() {
    let (store, sealed) = new_store(&seals([1])).await;
    let (other, _) = new_store(&seals([1])).await;
    let (ours, theirs) = (store.header().unwrap(), other.header().unwrap());

    let mixed = HeaderRecord {
        header: theirs.header.clone(),
        generation: ours.generation.clone(),
    };
    let error = open_header("here", &mixed, &seals([1])).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Damaged {
                part: HeaderPart::GenerationRecord,
                ..
            }
        ),
        "{error}"
    );

    // Both values of the other store: it opens, but it is that store, and none of our values opens in it.
    create(&sealed, "key", b"value").await;
    store.put_header(Some(theirs.clone()));
    let swapped = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    assert_corrupt(&swapped, "key").await;
    let error = sealed.reseal(&seals([2, 1])).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(store.header(), Some(theirs));
}

#[tokio::test]
async fn every_flipped_bit_of_the_header_and_the_generation_record_is_refused() {
    let inputs = Inputs::read(&of_document());
    let both: Seals = inputs
        .seals
        .iter()
        .map(|seal| Arc::clone(seal) as Arc<dyn Seal>)
        .collect();
    for generation in [1, 2] {
        let (_, record) = inputs.record(generation);
        assert!(open_header("here", &record, &both).await.is_ok());
        for bit in 0..record.header.len() * 8 {
            let mut flipped = record.clone();
            flipped.header[bit / 8] ^= 1 << (bit % 8);
            match open_header("here", &flipped, &both).await {
                Err(
                    OpenError::Damaged {
                        part: HeaderPart::Header,
                        ..
                    }
                    | OpenError::NewerFormat { .. }
                    | OpenError::WrongSeal { .. }
                    | OpenError::Unwrap { .. },
                ) => {}
                other => panic!("bit {bit} of the header: {other:?}"),
            }
        }
        for bit in 0..record.generation.len() * 8 {
            let mut flipped = record.clone();
            flipped.generation[bit / 8] ^= 1 << (bit % 8);
            match open_header("here", &flipped, &both).await {
                Err(OpenError::Damaged {
                    part: HeaderPart::GenerationRecord,
                    ..
                }) => {}
                other => panic!("bit {bit} of the generation record: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_header_or_generation_record_of_any_other_length_is_refused() {
    let inputs = Inputs::read(&of_document());
    let seals: Seals = vec![Arc::clone(&inputs.seals[0]) as Arc<dyn Seal>];
    let (_, record) = inputs.record(2);
    let refused = async |damaged: HeaderRecord, part: HeaderPart| {
        let error = open_header("here", &damaged, &seals).await.unwrap_err();
        assert!(
            matches!(error, OpenError::Damaged { part: found, .. } if found == part),
            "{error}"
        );
    };
    for length in 0..record.header.len() {
        let mut cut = record.clone();
        cut.header.truncate(length);
        refused(cut, HeaderPart::Header).await;
    }
    for length in 0..record.generation.len() {
        let mut cut = record.clone();
        cut.generation.truncate(length);
        refused(cut, HeaderPart::GenerationRecord).await;
    }
    let mut longer = record.clone();
    longer.header.push(0);
    refused(longer, HeaderPart::Header).await;
    let mut longer = record.clone();
    longer.generation.push(0);
    refused(longer, HeaderPart::GenerationRecord).await;
    let mut absurd = record.clone();
    absurd.header.resize(crate::MAX_HEADER + 1, 0);
    refused(absurd, HeaderPart::Header).await;
}

#[tokio::test]
async fn wrappings_changed_by_hand_are_refused() {
    let inputs = Inputs::read(&of_document());
    let seals: Seals = vec![Arc::clone(&inputs.seals[0]) as Arc<dyn Seal>];
    let (header, record) = inputs.record(2);
    let mut swapped = header.clone();
    swapped.wrappings.reverse();
    let mut dropped = header.clone();
    dropped.wrappings.pop();
    for changed in [swapped, dropped] {
        let changed = HeaderRecord {
            header: changed.encode(),
            generation: record.generation.clone(),
        };
        let error = open_header("here", &changed, &seals).await.unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Damaged {
                    part: HeaderPart::Header,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let (store, _) = new_store(&seals([1])).await;
    let mut newer = store.header().unwrap();
    newer.header[8..12].copy_from_slice(&2_u32.to_be_bytes());
    newer.header.truncate(20);
    store.put_header(Some(newer.clone()));
    let error = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Test: memory has format 2, but this version of the program knows no format beyond 1: use a newer version"
    );
    assert_eq!(store.header(), Some(newer));
}

#[tokio::test]
async fn a_seal_is_replaced_in_two_steps_and_values_stay_as_they_are() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "key", b"value").await;
    let stored = store.stored(&name("key")).await;
    assert_eq!(checks(&sealed), [seen(1)]);
    assert_eq!(sealed.reseal(&seals([1])).await.unwrap(), Resealed::Unchanged);
    assert_eq!(sealed.reseal(&seals([1, 2])).await.unwrap(), Resealed::Unchanged);

    assert_eq!(sealed.reseal(&seals([2, 1])).await.unwrap(), Resealed::Added);
    assert_eq!(checks(&sealed), [seen(1), seen(2)]);
    assert_eq!(sealed.reseal(&seals([2, 1])).await.unwrap(), Resealed::Unchanged);
    assert!(opens(&store, &seals([1])).await);
    assert!(opens(&store, &seals([2])).await);

    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Dropped);
    assert_eq!(checks(&sealed), [seen(2)]);
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Unchanged);
    assert!(!opens(&store, &seals([1])).await);
    assert!(opens(&store, &seals([2])).await);

    assert_eq!(store.stored(&name("key")).await, stored);
    assert_holds(&sealed, "key", b"value").await;
    let header = Header::parse(&store.header().unwrap().header).unwrap();
    assert_eq!((header.generation(), header.created()), (3, now()));
}

#[tokio::test]
async fn a_new_seal_listed_alone_is_added_before_the_old_one_goes() {
    let (store, sealed) = new_store(&seals([1])).await;
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Added);
    assert_eq!(checks(&sealed), [(seal(1).id().check_text(), None), seen(2)]);
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Dropped);
    assert!(!opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

#[tokio::test]
async fn an_end_at_any_step_of_resealing_leaves_the_old_or_the_new_header() {
    for first in [seals([2, 1]), seals([2])] {
        for stop in every_stop(4) {
            let (store, sealed) = new_store(&seals([1])).await;
            if first.len() == 1 {
                sealed.reseal(&seals([2, 1])).await.unwrap();
            }
            let before = store.header().unwrap();
            let call = store.calls.load(Ordering::Relaxed) + stop.call;
            store.stop_at(Stop { call, ..stop });
            let ended = {
                let resealing = pin!(sealed.reseal(&first));
                match resealing.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                }
            };
            let after = store.header().unwrap();
            match (stop.call, stop.when) {
                // Loading, and replacing before it has happened.
                (0, _) | (1, When::Before) => {
                    assert!(!matches!(ended, Some(Ok(_))), "{stop:?}");
                    assert_eq!(after, before, "{stop:?}");
                }
                (1, When::After) => {
                    assert!(!matches!(ended, Some(Ok(_))), "{stop:?}");
                    assert_ne!(after, before, "{stop:?}");
                }
                _ => assert!(matches!(ended, Some(Ok(_))), "there is no such step: {stop:?}"),
            }
            // The seals of before the list was changed, or those of after; the new one if nothing failed.
            assert!(
                opens(&store, &seals([1])).await || opens(&store, &seals([2])).await,
                "{stop:?}"
            );
            assert!(opens(&store, &seals([2, 1])).await, "{stop:?}");

            // The next process carries it through.
            let next = Sealed::open(store.after_a_crash(), &seals([2, 1])).await.unwrap();
            while next.reseal(&seals([2])).await.unwrap() != Resealed::Unchanged {}
            assert!(opens(next.store(), &seals([2])).await);
            assert!(!opens(next.store(), &seals([1])).await);
        }
    }
}

#[tokio::test]
async fn an_end_at_any_step_of_making_a_store_leaves_none_or_a_whole_one() {
    for stop in every_stop(3) {
        let store = TestStore::new();
        store.stop_at(stop);
        let ended = {
            let making = pin!(Sealed::initialise(Arc::clone(&store), &SEALS, now()));
            match making.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Some(result.is_ok()),
                Poll::Pending => None,
            }
        };
        match store.header() {
            None => assert_ne!(ended, Some(true), "{stop:?}"),
            Some(_) => assert!(opens(&store, &SEALS).await, "{stop:?}"),
        }
    }
}

fn every_stop(calls: usize) -> Vec<Stop> {
    let mut stops = Vec::new();
    for call in 0..calls {
        for when in [When::Before, When::After] {
            for how in [How::Fails, How::Hangs] {
                stops.push(Stop { call, when, how });
            }
        }
    }
    stops
}

#[tokio::test]
async fn of_two_that_add_the_same_seal_one_does() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    let list = seals([2, 1]);
    store.gather(2);
    let results = tokio::join!(one.reseal(&list), two.reseal(&list));
    let results = [results.0.unwrap(), results.1.unwrap()];
    assert!(results.contains(&Resealed::Added) && results.contains(&Resealed::Unchanged));
    let header = Header::parse(&store.header().unwrap().header).unwrap();
    assert_eq!((header.generation(), header.wrappings().len()), (2, 2));
    for sealed in [&one, &two] {
        assert_eq!(checks(sealed), [seen(1), seen(2)]);
    }
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

/// The one that lost must not take the next step, which it would if it began anew: that step would drop the old seal.
#[tokio::test]
async fn whoever_loses_a_race_to_add_does_not_drop() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    let list = seals([2]);
    store.gather(2);
    let (first, second) = tokio::join!(one.reseal(&list), two.reseal(&list));
    let results = [first.unwrap(), second.unwrap()];
    assert!(results.contains(&Resealed::Added) && results.contains(&Resealed::Unchanged));
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

#[tokio::test]
async fn two_that_add_different_seals_both_do() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    store.gather(2);
    let (list_1, list_2) = (seals([2, 1]), seals([3, 1]));
    let results = tokio::join!(one.reseal(&list_1), two.reseal(&list_2));
    assert_eq!(
        (results.0.unwrap(), results.1.unwrap()),
        (Resealed::Added, Resealed::Added)
    );
    for n in [1, 2, 3] {
        assert!(opens(&store, &seals([n])).await, "seal {n}");
    }
}

/// Always has been changed by somebody else since it was read.
#[derive(Debug)]
struct Contended(Arc<TestStore>);

#[async_trait]
impl HeaderStore for Contended {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        self.0.load_header().await
    }

    async fn replace_header(&self, _: Option<&HeaderRecord>, _: &HeaderRecord) -> Result<(), StoreError> {
        Err(StoreError::Exists)
    }
}

#[async_trait]
impl KeyStore for Contended {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.0.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.0.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.0.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        n: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.0.list(prefix, after, n).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

impl fmt::Display for Contended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[tokio::test]
async fn a_race_that_is_always_lost_ends() {
    let (store, _) = new_store(&seals([1])).await;
    let before = store.header();
    let contended = Arc::new(Contended(Arc::clone(&store)));
    let sealed = Sealed::open(contended, &seals([1])).await.unwrap();
    let error = sealed.reseal(&seals([2, 1])).await.unwrap_err();
    assert!(matches!(error, OpenError::Raced { .. }), "{error}");
    assert_eq!(store.header(), before);
}

#[tokio::test]
async fn reads_and_writes_go_on_while_the_store_is_resealed() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "before", b"1").await;
    let call = store.calls.load(Ordering::Relaxed) + 1;
    store.stop_at(Stop {
        call,
        when: When::After,
        how: How::Hangs,
    });
    let list = seals([2, 1]);
    let mut resealing = pin!(sealed.reseal(&list));
    let mut context = Context::from_waker(Waker::noop());
    assert!(resealing.as_mut().poll(&mut context).is_pending());

    assert_holds(&sealed, "before", b"1").await;
    create(&sealed, "meanwhile", b"2").await;
    assert_holds(&sealed, "meanwhile", b"2").await;
    assert_eq!(checks(&sealed), [seen(1)]);

    let again = Sealed::open(store.after_a_crash(), &seals([2])).await.unwrap();
    for key in ["before", "meanwhile"] {
        let stored = store.stored(&name(key)).await;
        again.store().overwrite(&name(key), &stored).await;
        again.get(&name(key)).await.unwrap();
    }
}

#[tokio::test]
async fn a_seal_that_cannot_be_used_is_passed_over_if_another_can() {
    let (store, sealed) = new_store(&seals([1])).await;
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let bad = |fault| {
        Arc::new(BadSeal {
            id: seal(2).id(),
            fault,
        }) as Arc<dyn Seal>
    };
    let list = vec![bad(Fault::Unavailable), seal(1)];
    assert!(Sealed::open(Arc::clone(&store), &list).await.is_ok());

    let error = Sealed::open(Arc::clone(&store), &vec![bad(Fault::Unavailable)])
        .await
        .unwrap_err();
    assert_eq!(
        chain(&error),
        format!(
            "Test: memory: the wrapping by {} (bad seal) does not give the root key: the seal cannot be used now: as the test wants it",
            seal(2).id()
        )
    );
    let error = Sealed::open(Arc::clone(&store), &vec![bad(Fault::WrongKey)])
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_seal_that_does_not_give_back_what_it_wrapped_never_becomes_the_only_one() {
    let (store, sealed) = new_store(&seals([1])).await;
    let before = store.header();
    for fault in [Fault::Unavailable, Fault::WrongKey, Fault::HugeBlob] {
        let list = vec![
            Arc::new(BadSeal {
                id: seal(2).id(),
                fault,
            }) as Arc<dyn Seal>,
            seal(1),
        ];
        let error = sealed.reseal(&list).await.unwrap_err();
        assert!(matches!(error, OpenError::Wrap { .. }), "{error}");
        assert_eq!(store.header(), before);
        let new = Sealed::initialise(TestStore::new(), &list, now()).await;
        assert!(matches!(new, Err(OpenError::Wrap { .. })), "{new:?}");
    }

    // It was good once, and then is to be the only one that is kept.
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let before = store.header();
    for fault in [Fault::Unavailable, Fault::WrongKey] {
        let list = vec![Arc::new(BadSeal {
            id: seal(2).id(),
            fault,
        }) as Arc<dyn Seal>];
        let error = sealed.reseal(&list).await.unwrap_err();
        assert!(matches!(error, OpenError::Unwrap { .. }), "{error}");
        assert_eq!(store.header(), before);
    }
}

#[tokio::test]
async fn a_header_holds_sixteen_wrappings_and_no_more() {
    let (store, sealed) = new_store(&seals([1])).await;
    for n in 2..=16 {
        // Those of before are not listed any more, but what is missing is added first.
        assert_eq!(sealed.reseal(&seals([n, 1])).await.unwrap(), Resealed::Added);
    }
    let before = store.header();
    let error = sealed.reseal(&seals([17, 1])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Test: memory has 16 wrappings already: drop some first, by listing fewer seals"
    );
    assert_eq!(store.header(), before);
    assert_eq!(sealed.reseal(&seals([5, 6])).await.unwrap(), Resealed::Dropped);
    assert_eq!(checks(&sealed), [seen(5), seen(6)]);
    assert_eq!(sealed.reseal(&seals([17, 5])).await.unwrap(), Resealed::Added);
}

#[tokio::test]
async fn a_header_that_counts_no_further_is_not_replaced() {
    let inputs = Inputs::read(&of_document());
    let (mut header, _) = inputs.record(1);
    header.generation = u64::MAX;
    let record = inputs.key.seal_header(&mut header).unwrap();
    let store = TestStore::with_header(record.clone());
    let list: Seals = vec![Arc::clone(&inputs.seals[0]) as Arc<dyn Seal>];
    let sealed = Sealed::open(Arc::clone(&store), &list).await.unwrap();
    let error = sealed.reseal(&seals([2])).await.unwrap_err();
    assert!(matches!(error, OpenError::Write { .. }), "{error}");
    assert_eq!(store.header(), Some(record));
}

#[tokio::test]
async fn an_error_of_the_store_is_not_taken_for_an_absent_header() {
    let (store, _) = new_store(&seals([1])).await;
    let call = store.calls.load(Ordering::Relaxed);
    for offset in [0, 1] {
        store.stop_at(Stop {
            call: call + offset,
            when: When::Before,
            how: How::Fails,
        });
        let error = if offset == 0 {
            Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap_err()
        } else {
            Sealed::initialise(Arc::clone(&store), &seals([1]), now())
                .await
                .unwrap_err()
        };
        assert_eq!(
            chain(&error),
            "Test: memory: the header was not read or written: Test: memory failed: as the test wants it"
        );
    }
}

#[tokio::test]
async fn debug_output_shows_no_key() {
    let (_, sealed) = new_store(&seals([1])).await;
    let id = hex(&sealed.key().store_id());
    assert_eq!(
        format!("{:?}", sealed.key()),
        format!("StoreKey {{ store_id: {id}, .. }}")
    );
    let root = sealed.key().root().expose_secret();
    for text in [format!("{sealed:?}"), format!("{:?}", seals([1]))] {
        assert!(
            !text.contains(&hex(root)) && !text.contains(&format!("{root:?}")),
            "{text}"
        );
        assert!(!text.contains("1, 1, 1") && !text.contains("010101"), "{text}");
    }
}
