//! What a backup does to the store that it is made of: nothing but a time that is written down.

use std::path::Path;
use std::sync::Arc;

use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::{BackupCheck, EmbeddedStore};
use kes_types::{Clock as _, ManualClock};

use super::{World, taken, whole_seconds};
use crate::rig;
use crate::sim::{Disk, Failure};

#[tokio::test]
async fn a_crash_anywhere_in_a_backup_leaves_the_store_as_it_was() {
    let disk = Disk::new();
    let store = rig::create_on(&disk).await.unwrap();
    for number in 0..30 {
        rig::create(&store, &format!("key-{number:04}")).await.unwrap();
    }
    store.delete(&rig::name("key-0011")).await.unwrap();
    let before = rig::contents(&store).await;
    const BEGUN: usize = 1;
    disk.mark(BEGUN);
    let bytes = taken(&store).await;
    let at = store.info().await.unwrap().last_backup;
    assert!(at.is_some() && !bytes.is_empty());
    let crashes: Vec<_> = disk
        .history()
        .crashes()
        .filter(|crash| crash.mark == Some(BEGUN))
        .collect();
    store.close().await;
    assert!(crashes.len() > 2, "the time is written down and synced");

    let (mut without, mut with) = (0, 0);
    for crash in crashes {
        for seed in 0..8 {
            let store = rig::open_on(&Disk::holding(crash.image(seed))).await.unwrap();
            let info = store.info().await.unwrap();
            match info.last_backup {
                None => without += 1,
                found => {
                    assert_eq!(found, at, "step {}, seed {seed}", crash.step);
                    with += 1;
                }
            }
            assert_eq!((info.keys, info.deleted), (29, 1));
            assert_eq!(
                rig::contents(&store).await,
                before,
                "step {}, seed {seed}",
                crash.step
            );
            store.close().await;
        }
    }
    assert!(without > 0 && with > 0, "{without}, {with}");
}

#[tokio::test]
async fn a_backup_is_complete_also_when_its_time_cannot_be_written_down() {
    let disk = Disk::new();
    let store = rig::create_on(&disk).await.unwrap();
    for number in 0..30 {
        rig::create(&store, &format!("key-{number:04}")).await.unwrap();
    }
    disk.fail(Failure {
        changes: disk.changes()..u64::MAX,
        only: None,
        error: rustix::io::Errno::NOSPC,
        effect: crate::sim::Effect::None,
    });
    for _ in 0..2 {
        let mut check = BackupCheck::new();
        check.update(&taken(&store).await).unwrap();
        assert_eq!(check.finish().unwrap().keys, 30);
        assert_eq!(store.info().await.unwrap().last_backup, None);
    }
    disk.heal();
    taken(&store).await;
    assert!(store.info().await.unwrap().last_backup.is_some());
    store.close().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written_to_can_be_backed_up() {
    let clock = Arc::new(ManualClock::default());
    let disk = Disk::new();
    let config = rig::config(Path::new("sim"));
    let medium = Arc::new(disk.clone());
    let store = EmbeddedStore::create_on(medium, config, clock.clone())
        .await
        .unwrap();
    rig::create(&store, "key").await.unwrap();
    disk.fail(Failure {
        changes: disk.changes()..u64::MAX,
        only: None,
        error: rustix::io::Errno::IO,
        effect: crate::sim::Effect::None,
    });
    rig::create(&store, "another").await.unwrap_err();
    let mut check = BackupCheck::new();
    check.update(&taken(&store).await).unwrap();
    assert_eq!(check.finish().unwrap().keys, 1, "what has failed is not in it");
    disk.heal();
    taken(&store).await;
    assert_eq!(
        store.info().await.unwrap().last_backup,
        Some(whole_seconds(clock.now()))
    );
    store.close().await;
}

#[tokio::test]
async fn closing_a_store_ends_its_backup_with_an_error() {
    let world = World::new().await;
    world.fill(2000).await;
    let mut backup = world.store.backup().await.unwrap();
    backup.next().await.unwrap().unwrap();
    world.store.close().await;
    let mut check = BackupCheck::new();
    let error = loop {
        match backup
            .next()
            .await
            .expect("it does not end as if it were complete")
        {
            Ok(piece) => drop(check.update(&piece)),
            Err(error) => break error,
        }
    };
    println!("{}", rig::chain(&error));
    assert!(backup.next().await.is_none());
}
