//! Crashes and errors at every write of a change of seals: the old one opens the store, or the new one, or both.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::EmbeddedStore;
use kes_seal::Resealed;
use rustix::io::Errno;

use crate::rig::{self, UNDELETE};
use crate::sim::{Disk, Effect, Failure};

/// Which of the seals 1 and 2 open the store on this disk, where the listed one has its wrapping: nothing is written.
async fn openers(image: &[u8]) -> BTreeSet<u8> {
    let mut openers = BTreeSet::new();
    for number in [1, 2, 3] {
        let disk = Disk::holding(image.to_vec());
        if let Ok(store) = rig::open_sealed_on(&disk, vec![rig::seal(number)]).await {
            assert_eq!(
                rig::contents(&store).await,
                BTreeSet::from(["a".to_owned(), "b".to_owned()])
            );
            openers.insert(number);
            store.close().await;
        }
    }
    openers
}

async fn store_with_two(disk: &Disk) -> EmbeddedStore {
    let store = rig::create_on(disk).await.unwrap();
    rig::create(&store, "a").await.unwrap();
    rig::create(&store, "b").await.unwrap();
    store
}

async fn reseal(store: &EmbeddedStore, numbers: &[u8]) -> Result<Resealed, String> {
    let seals = numbers.iter().copied().map(rig::seal).collect();
    store
        .reconfigure(seals, UNDELETE)
        .await
        .map_err(|error| rig::chain(&error))
}

#[tokio::test]
async fn a_seal_is_replaced_in_two_steps_that_name_what_they_did() {
    let disk = Disk::new();
    let store = store_with_two(&disk).await;
    assert_eq!(reseal(&store, &[1]).await, Ok(Resealed::Unchanged));
    assert_eq!(reseal(&store, &[2, 1]).await, Ok(Resealed::Added));
    assert_eq!(openers(&disk.crash(0)).await, [1, 2].into());
    assert_eq!(reseal(&store, &[2, 1]).await, Ok(Resealed::Unchanged));
    assert_eq!(reseal(&store, &[2]).await, Ok(Resealed::Dropped));
    assert_eq!(openers(&disk.crash(0)).await, [2].into());
    let seals = store.info().await.unwrap().seals;
    assert_eq!(seals.len(), 1);
    assert!(rig::present(&store, "a").await.unwrap());
    // Without the old one among them, a new seal cannot be added when the store is opened.
    store.close().await;
    assert!(
        rig::open_sealed_on(&disk, vec![rig::seal(3), rig::seal(1)])
            .await
            .is_err()
    );
    assert_eq!(openers(&disk.image()).await, [2].into());
}

#[tokio::test]
async fn what_cannot_be_resealed_keeps_its_deleted_keys() {
    let disk = Disk::new();
    let store = store_with_two(&disk).await;
    store.delete(&rig::name("a")).await.unwrap();
    for full in 2..=16 {
        assert_eq!(reseal(&store, &[full]).await, Ok(Resealed::Added));
    }
    let error = store.reconfigure(vec![rig::seal(17)], Duration::ZERO).await;
    assert!(error.is_err(), "a header has 16 wrappings at most");
    assert_eq!(store.info().await.unwrap().undelete, UNDELETE);
    store.undelete(&rig::name("a")).await.unwrap();
    assert!(rig::present(&store, "a").await.unwrap());
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_the_old_or_the_new_seal() {
    let disk = Disk::new();
    let store = store_with_two(&disk).await;
    disk.mark(0);
    reseal(&store, &[2, 1]).await.unwrap();
    disk.mark(1);
    reseal(&store, &[2]).await.unwrap();
    disk.mark(2);
    store.close().await;
    let mut seen = BTreeSet::new();
    for crash in disk.history().crashes() {
        let Some(mark) = crash.mark else { continue };
        for seed in 0..12 {
            let seed = if seed < 2 {
                seed
            } else {
                seed + 16 * crash.step as u64
            };
            let open = openers(&crash.image(seed)).await;
            let allowed: &[&[u8]] = match mark {
                0 => &[&[1], &[1, 2]],
                1 => &[&[1, 2], &[2]],
                _ => &[&[2]],
            };
            assert!(
                allowed.iter().any(|allowed| open.iter().eq(allowed.iter())),
                "change {}, image {seed}, after step {mark}: {open:?}",
                crash.step
            );
            seen.insert((mark, open));
        }
    }
    assert_eq!(seen.len(), 5, "both outcomes of each step: {seen:?}");
}

#[tokio::test]
async fn an_error_at_any_write_leaves_the_old_or_the_new_seal() {
    let mut reported = 0;
    for numbers in [&[2, 1][..], &[2]] {
        for number in 0.. {
            let mut in_range = false;
            for effect in Effect::ALL {
                let disk = Disk::new();
                let store = store_with_two(&disk).await;
                if numbers == [2] {
                    reseal(&store, &[2, 1]).await.unwrap();
                }
                let first = disk.changes() + number;
                disk.fail(Failure {
                    changes: first..first + 1,
                    only: None,
                    error: Errno::IO,
                    effect,
                });
                let result = reseal(&store, numbers).await;
                in_range |= disk.changes() > first;
                disk.heal();
                let (old, new): (&[u8], &[u8]) = if numbers == [2] {
                    (&[1, 2], &[2])
                } else {
                    (&[1], &[1, 2])
                };
                for seed in 0..6 {
                    let open: Vec<_> = openers(&disk.crash(seed)).await.into_iter().collect();
                    let context = format!(
                        "{numbers:?}, change {number} {effect:?}, image {seed}: {result:?}, {open:?}"
                    );
                    match &result {
                        Ok(_) => assert_eq!(open, new, "{context}"),
                        Err(_) => assert!(open == old || open == new, "{context}"),
                    }
                }
                reported += usize::from(result.is_err());
                // It is over: the same again works, and says what it has found.
                let again = reseal(&store, numbers).await.unwrap();
                assert!(result.is_err() || again == Resealed::Unchanged);
                assert_eq!(openers(&disk.crash(0)).await.into_iter().collect::<Vec<_>>(), new);
                rig::create(&store, "and-it-goes-on").await.unwrap();
                store.close().await;
            }
            if !in_range {
                break;
            }
        }
    }
    assert!(reported > 20, "{reported} errors were reported");
}

#[tokio::test]
async fn a_file_is_resealed_when_it_is_opened() {
    let temp = tempfile::TempDir::new().unwrap();
    let path = temp.path().join("keys.redb");
    let open = async |path: &Path, numbers: &[u8]| {
        let config = kes_keystore_embedded::Config {
            seals: numbers.iter().copied().map(rig::seal).collect(),
            ..rig::config(path)
        };
        EmbeddedStore::connect(config, rig::clock()).await
    };
    let store = open(&path, &[1]).await.unwrap();
    rig::create(&store, "a").await.unwrap();
    store.close().await;
    drop(store);
    for (numbers, opens) in [
        (&[2_u8, 1][..], true),
        (&[1], true),
        (&[1], true),
        (&[2], false),
        (&[2, 3, 1], true),
        (&[2], true),
        (&[1], false),
    ] {
        match open(&path, numbers).await {
            Ok(store) => {
                assert!(opens, "{numbers:?}");
                assert!(rig::present(&store, "a").await.unwrap());
                store.close().await;
            }
            Err(error) => assert!(!opens, "{numbers:?}: {}", rig::chain(&error)),
        }
    }
}
