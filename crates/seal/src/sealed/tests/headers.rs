//! Headers that must not open.

use super::*;
use crate::{HeaderPart, Seal};

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
