//! Processes that are killed in the middle of a backup or a restore, and disks without space.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::{EmbeddedStore, restore, verify};
use tempfile::TempDir;

use super::{World, checked, files, quiet};
use crate::rig::{self, Process};
use crate::sim::Random;

const TEST: &str = "backup::faults::child_process";
const HERE: &str = "@here";
const DONE: &str = "@done";

/// What runs in the other processes; does nothing in this one.
#[tokio::test]
async fn child_process() {
    let Some((role, path)) = Process::role() else {
        return;
    };
    match role.split_once(' ') {
        Some(("restore", stop_at)) => restore_until(&path, stop_at.parse().unwrap()).await,
        Some(("backup", pieces)) => backup_until(&path, pieces.parse().unwrap()).await,
        None if role == "full" => full(&path).await,
        _ => panic!("no such role: {role}"),
    }
}

/// Says so, and waits to be killed.
fn stop_here() {
    println!("{HERE}");
    let _ = std::io::stdin().read_line(&mut String::new());
    panic!("this process should have been killed");
}

async fn restore_until(folder: &Path, stop_at: u64) {
    println!("{HERE} it begins");
    let progress = Arc::new(move |entries| {
        if entries == stop_at {
            stop_here();
        }
    });
    let config = rig::config(&folder.join("restored.redb"));
    restore(&folder.join("backup"), config, rig::clock(), progress)
        .await
        .unwrap();
    println!("{DONE}");
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_nothing_or_the_whole_store() {
    let world = World::new().await;
    world.fill(1000).await;
    let expected = checked(&world.backup().await);
    let restored = world.folder.join("restored.redb");
    let config = rig::config(&restored);
    let mut random = Random::new(11);
    let (mut nothing, mut whole) = (0, 0);
    // How long an undisturbed one takes; what is seen later corrects it.
    let began = Instant::now();
    Process::start(&[], TEST, "restore 10000000", &world.folder).succeeds();
    let mut usual = began.elapsed();
    fs::remove_file(&restored).unwrap();

    for round in 0..40 {
        // Some are stopped where they say that they are, the others anywhere.
        let stop_at = [256, 512, 768, 1000].get(round);
        let role = format!("restore {}", stop_at.unwrap_or(&10_000_000));
        let mut process = Process::start(&[], TEST, &role, &world.folder);
        process.read_until(HERE);
        if stop_at.is_some() {
            process.read_until(HERE);
        } else {
            let within = usual.as_micros() as usize * 5 / 4 + 1;
            crate::kills::pass(Duration::from_micros(random.below(within) as u64));
        }
        process.child.kill().unwrap();
        process.child.wait().unwrap();

        if restored.exists() {
            whole += 1;
            assert!(stop_at.is_none());
            usual = usual * 3 / 4;
            assert_eq!(verify(&restored, &config.seals, quiet()).await.unwrap(), expected);
            fs::remove_file(&restored).unwrap();
        } else {
            nothing += 1;
            if stop_at.is_none() {
                usual = usual * 5 / 4;
            }
        }
        // What was left half-way is in nobody's way, and cleaned up.
        if round % 4 == 0 {
            let again = restore(
                &world.folder.join("backup"),
                config.clone(),
                rig::clock(),
                quiet(),
            )
            .await;
            assert_eq!(again.unwrap(), expected);
            assert_eq!(files(&world.folder), ["backup", "keys.redb", "restored.redb"]);
            fs::remove_file(&restored).unwrap();
        }
    }
    println!("{nothing} times nothing, {whole} times the whole store");
    assert!(nothing > 4);
}

#[tokio::test]
async fn a_restore_that_is_given_up_leaves_nothing() {
    let world = World::new().await;
    world.fill(1000).await;
    let backup = world.backup().await;
    for give_up_at in [256, 768, 1000] {
        let (reached, mut reaching) = tokio::sync::mpsc::unbounded_channel();
        let progress = Arc::new(move |entries| {
            if entries == give_up_at {
                reached.send(()).unwrap();
            }
        });
        let config = rig::config(&world.folder.join("restored.redb"));
        tokio::select! {
            restored = restore(&backup, config, rig::clock(), progress) => panic!("{restored:?}"),
            _ = reaching.recv() => {}
        }
        assert_eq!(files(&world.folder), ["backup", "keys.redb"], "{give_up_at}");
    }
}

async fn backup_until(path: &Path, pieces: usize) {
    let store = EmbeddedStore::open(rig::config(path), rig::clock())
        .await
        .unwrap();
    let mut backup = store.backup().await.unwrap();
    for _ in 0..pieces {
        backup.next().await.unwrap().unwrap();
    }
    rig::create(&store, &format!("during-{pieces}")).await.unwrap();
    stop_here();
}

#[tokio::test]
async fn a_server_that_is_killed_during_a_backup_has_lost_nothing() {
    let world = World::new().await;
    world.fill(1000).await;
    let pieces = fs::read(world.backup().await).unwrap().len().div_ceil(65_536);
    world.store.close().await;
    drop(world.store);
    let path = world.folder.join("keys.redb");
    let open = async || {
        EmbeddedStore::open(rig::config(&path), rig::clock())
            .await
            .unwrap()
    };
    let store = open().await;
    let last = store.info().await.unwrap().last_backup;
    assert!(last.is_some());
    store.close().await;
    drop(store);
    for taken in [0, 1, pieces / 2, pieces - 1] {
        let mut process = Process::start(&[], TEST, &format!("backup {taken}"), &path);
        process.read_until(HERE);
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        let store = open().await;
        assert_eq!(
            store.info().await.unwrap().last_backup,
            last,
            "it was not complete"
        );
        assert!(rig::present(&store, &format!("during-{taken}")).await.unwrap());
        assert!(rig::contents(&store).await.len() > 1000);
        store.close().await;
    }
}

#[test]
fn a_disk_that_is_full_while_restoring_has_nothing_left_behind() {
    crate::disk::with_own_mount(TEST, "full");
}

async fn full(folder: &Path) {
    let elsewhere = TempDir::new().unwrap();
    let path = elsewhere.path().join("keys.redb");
    let store = EmbeddedStore::create(rig::config(&path), rig::clock())
        .await
        .unwrap();
    for number in 0..200 {
        rig::create(&store, &format!("key-{number:04}")).await.unwrap();
    }
    let backup = elsewhere.path().join("backup");
    fs::write(&backup, super::taken(&store).await).unwrap();
    let expected = checked(&backup);

    // Ever more space, until it is enough.
    let ballast = folder.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let mut size = file.metadata().unwrap().len();
    let config = rig::config(&folder.join("restored.redb"));
    let mut refusals = 0;
    loop {
        match restore(&backup, config.clone(), rig::clock(), quiet()).await {
            Ok(report) => {
                assert_eq!(report, expected);
                break;
            }
            Err(error) => {
                let text = rig::chain(&error);
                assert!(text.contains("No space left on device"), "{text}");
                assert!(text.contains("restored.redb"), "{text}");
                assert_eq!(files(folder), ["ballast"]);
                refusals += 1;
            }
        }
        size = size
            .checked_sub(128 * 1024)
            .expect("there is space for a small store");
        file.set_len(size).unwrap();
    }
    assert!(refusals > 2, "{refusals}");
    assert_eq!(
        verify(&config.path, &config.seals, quiet()).await.unwrap(),
        expected
    );
}
