mod headers;
mod resealing;

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
