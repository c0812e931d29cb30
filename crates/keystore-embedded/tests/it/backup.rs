//! Backups from a running store to one restored elsewhere, and every way to get something else than that.

mod altered;
mod busy;
mod faults;
mod form;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::{KeyStore as _, Maintenance as _, StoreError};
use kes_keystore_embedded::{BackupCheck, Config, ConnectError, EmbeddedStore, Report, restore, verify};
use kes_seal::{KeySeal, Seals};
use kes_types::{Clock as _, Timestamp};
use tempfile::TempDir;

use crate::rig::{self, UNDELETE};

#[tokio::test]
async fn a_restored_store_is_the_store_that_was_backed_up() {
    let world = World::new().await;
    world.fill(300).await;
    world.clock.advance(Duration::from_secs(1000));
    for text in ["key-0007", "key-0100", "key-0299"] {
        world.store.delete(&rig::name(text)).await.unwrap();
    }
    let before = world.store.info().await.unwrap();
    let backup = world.backup().await;
    let (verified, checked) = (
        verified(&backup, vec![rig::seal(1)]).await.unwrap(),
        checked(&backup),
    );
    assert_eq!(verified, checked);
    assert_eq!(
        (verified.keys, verified.deleted, &verified.store_id),
        (297, 3, &before.id)
    );

    let seen = Arc::new(AtomicU64::new(0));
    let progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |entries| {
            assert!(seen.swap(entries, Ordering::SeqCst) <= entries, "it goes forward");
        })
    };
    let config = rig::config(&world.folder.join("restored.redb"));
    let restored = restore(&backup, config.clone(), world.clock.clone(), progress)
        .await
        .unwrap();
    assert_eq!(restored, verified);
    assert_eq!(seen.load(Ordering::SeqCst), 300);
    assert_eq!(
        verify(&config.path, &config.seals, quiet()).await.unwrap(),
        verified
    );
    assert_eq!(files(&world.folder), ["backup", "keys.redb", "restored.redb"]);

    // The times of deletion are the old ones: what is deleted now is kept for longer.
    world.clock.advance(UNDELETE - Duration::from_secs(1));
    let store = EmbeddedStore::open(config, world.clock.clone()).await.unwrap();
    let after = store.info().await.unwrap();
    assert_eq!(
        (after.id, after.seals, after.keys, after.deleted),
        (before.id, before.seals, 297, 3)
    );
    assert_eq!(after.last_backup, None);
    assert_eq!(rig::contents(&store).await.len(), 297);
    store.undelete(&rig::name("key-0100")).await.unwrap();
    assert!(rig::present(&store, "key-0100").await.unwrap());
    world.clock.advance(Duration::from_secs(1));
    let gone = store.undelete(&rig::name("key-0007")).await;
    assert!(matches!(gone, Err(StoreError::NotFound)), "{gone:?}");
    store.close().await;
}

#[tokio::test]
async fn the_largest_values_are_backed_up_and_restored() {
    let world = World::new().await;
    let values: Vec<_> = (0..6)
        .map(|byte| SecretBytes::new(vec![byte; kes_seal::MAX_VALUE]))
        .collect();
    for (number, value) in values.iter().enumerate() {
        let name = rig::name(&format!("large-{number}"));
        world.store.create(&name, value).await.unwrap();
    }
    let backup = world.backup().await;
    let config = rig::config(&world.folder.join("restored.redb"));
    let report = restore(&backup, config.clone(), world.clock.clone(), quiet())
        .await
        .unwrap();
    assert_eq!(report, checked(&backup));
    let store = EmbeddedStore::open(config, world.clock.clone()).await.unwrap();
    for (number, value) in values.iter().enumerate() {
        let entry = store.get(&rig::name(&format!("large-{number}"))).await.unwrap();
        assert!(entry.value.ct_eq(value));
    }
    store.close().await;
}

#[tokio::test]
async fn an_old_backup_is_restored_with_what_the_store_then_forgets() {
    let world = World::new().await;
    world.fill(5).await;
    world.store.delete(&rig::name("key-0003")).await.unwrap();
    let backup = world.backup().await;
    world.clock.advance(2 * UNDELETE);
    let config = rig::config(&world.folder.join("restored.redb"));
    let report = restore(&backup, config.clone(), world.clock.clone(), quiet())
        .await
        .unwrap();
    assert_eq!((report.keys, report.deleted), (4, 1));
    assert_eq!(
        verify(&config.path, &config.seals, quiet()).await.unwrap(),
        report
    );
    let store = EmbeddedStore::open(config, world.clock.clone()).await.unwrap();
    let gone = store.undelete(&rig::name("key-0003")).await;
    assert!(matches!(gone, Err(StoreError::NotFound)), "{gone:?}");
    rig::create(&store, "key-0003").await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn an_empty_store_can_be_backed_up_and_restored() {
    let world = World::new().await;
    let backup = world.backup().await;
    let config = rig::config(&world.folder.join("restored.redb"));
    let report = restore(&backup, config.clone(), world.clock.clone(), quiet())
        .await
        .unwrap();
    assert_eq!((report.keys, report.deleted), (0, 0));
    let store = EmbeddedStore::open(config, world.clock.clone()).await.unwrap();
    rig::create(&store, "first").await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn the_last_backup_is_the_last_one_that_was_taken_whole() {
    let world = World::new().await;
    world.fill(300).await;
    let last = async || {
        let (info, gauges) = (world.store.info().await.unwrap(), world.store.gauges());
        assert_eq!(info.last_backup, gauges.last_backup);
        info.last_backup
    };
    assert_eq!(last().await, None);

    let mut given_up = world.store.backup().await.unwrap();
    given_up.next().await.unwrap().unwrap();
    let second = world.store.backup().await;
    assert!(matches!(second, Err(StoreError::Throttled { .. })), "{second:?}");
    drop(given_up);
    assert_eq!(last().await, None);

    let mut backup = loop {
        // Until the one that was given up has ended.
        match world.store.backup().await {
            Ok(backup) => break backup,
            Err(StoreError::Throttled { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    world.clock.advance(Duration::from_secs(77));
    while let Some(piece) = backup.next().await {
        piece.unwrap();
    }
    let at = whole_seconds(world.clock.now());
    assert_eq!(last().await, Some(at));
    world.clock.advance(Duration::from_secs(77));
    assert_eq!(last().await, Some(at));

    // It is still known after a restart, and a backup does not change what the store holds.
    world.store.close().await;
    let store = EmbeddedStore::open(rig::config(&world.path()), world.clock.clone())
        .await
        .unwrap();
    assert_eq!(store.info().await.unwrap().last_backup, Some(at));
    store.close().await;
}

#[tokio::test]
async fn a_store_that_is_resealed_or_unchanged_has_the_digest_of_its_backup() {
    let world = World::new().await;
    world.fill(20).await;
    let backup = world.backup().await;
    world
        .store
        .reconfigure(vec![rig::seal(2), rig::seal(1)], UNDELETE)
        .await
        .unwrap();
    let resealed = world.backup_as("resealed").await;
    let digest = checked(&backup).digest;
    assert_eq!(checked(&resealed).digest, digest);
    world.store.close().await;
    for seal in [1, 2] {
        let report = verify(&world.path(), &vec![rig::seal(seal)], quiet())
            .await
            .unwrap();
        assert_eq!(report.digest, digest);
    }
    // The backup from before opens with the seal from before, and the one after with either.
    assert!(verified(&resealed, vec![rig::seal(2)]).await.is_ok());
    assert!(verified(&backup, vec![rig::seal(1)]).await.is_ok());
    assert!(verified(&backup, vec![rig::seal(2)]).await.is_err());
}

#[tokio::test]
async fn verifying_a_store_changes_no_byte_of_it_also_after_a_crash() {
    let world = World::new().await;
    world.fill(50).await;
    // What a crash leaves: the file as it is while it is open.
    let crashed = world.folder.join("crashed.redb");
    fs::copy(world.path(), &crashed).unwrap();
    let before = fs::read(&crashed).unwrap();
    let report = verify(&crashed, &vec![rig::seal(1)], quiet()).await.unwrap();
    assert_eq!(report.keys, 50);
    assert!(fs::read(&crashed).unwrap() == before);
    assert_eq!(files(&world.folder), ["crashed.redb", "keys.redb"]);
}

#[tokio::test]
async fn a_store_that_is_in_use_is_not_verified() {
    let world = World::new().await;
    let error = verify(&world.path(), &vec![rig::seal(1)], quiet())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::InUse { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_seal_opens_no_backup_and_nothing_appears() {
    let world = World::new().await;
    world.fill(3).await;
    let backup = world.backup().await;
    let (needed, given) = (rig::seal(1).id(), rig::seal(2).id());
    let error = verified(&backup, vec![rig::seal(2)]).await.unwrap_err();
    let text = rig::chain(&error);
    for part in [
        needed.to_string(),
        given.to_string(),
        "SEAL_2".to_owned(),
        "backup".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
    let config = Config {
        seals: vec![rig::seal(2)],
        ..rig::config(&world.folder.join("restored.redb"))
    };
    let error = restore(&backup, config.clone(), world.clock.clone(), quiet())
        .await
        .unwrap_err();
    assert_eq!(rig::chain(&error), text);
    assert!(
        text.starts_with(&format!("the backup {} is sealed with ", backup.display())),
        "{text}"
    );
    assert!(verified(&backup, vec![]).await.is_err(), "no seal at all");
    assert_eq!(files(&world.folder), ["backup", "keys.redb"]);
}

#[tokio::test]
async fn what_cannot_be_verified_is_told_with_a_remedy() {
    let world = World::new().await;
    world.fill(50).await;
    world.store.close().await;
    let (path, file) = (world.path(), world.folder.join("file"));
    let text = async |seal| {
        let error = verify(&file, &vec![rig::seal(seal)], quiet()).await.unwrap_err();
        rig::chain(&error).replace(&file.display().to_string(), "FILE")
    };
    assert_eq!(
        text(1).await,
        "there is no backup or key store at FILE: look for it, or correct the path"
    );
    let error = restore(
        &file,
        rig::config(&world.folder.join("new")),
        world.clock.clone(),
        quiet(),
    )
    .await
    .unwrap_err();
    assert!(
        rig::chain(&error).starts_with("there is no backup at "),
        "{error}"
    );

    let whole = fs::read(&path).unwrap();
    fs::write(&file, &whole).unwrap();
    let wrong = text(2).await;
    assert!(
        wrong.starts_with("the key store FILE is sealed with key "),
        "{wrong}"
    );

    let half = whole.len() / 2;
    fs::write(&file, &whole[..half]).unwrap();
    let cut = text(1).await;
    assert!(
        cut.starts_with("FILE is damaged or not a key store: the file is cut short (to "),
        "{cut}"
    );
    assert!(
        cut.ends_with(" bytes); restore a backup, or correct the path"),
        "{cut}"
    );

    let mut noticed = 0;
    for at in (0..whole.len()).step_by(4096).skip(1) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        if verify(&file, &vec![rig::seal(1)], quiet()).await.is_err() {
            let said = text(1).await;
            assert!(
                said.starts_with("FILE is damaged or not a key store: page "),
                "{said}"
            );
            assert!(
                said.ends_with(" of the file is damaged; restore a backup, or correct the path"),
                "{said}"
            );
            noticed += 1;
        }
    }
    assert!(noticed > 0);
}

#[tokio::test]
async fn nothing_is_ever_restored_over_something() {
    let world = World::new().await;
    world.fill(3).await;
    let backup = world.backup().await;
    let (file, folder, link) = (
        world.folder.join("file"),
        world.folder.join("folder"),
        world.folder.join("link"),
    );
    fs::write(&file, "").unwrap();
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for path in [file, folder, link, world.path()] {
        let before = files(&world.folder);
        let error = restore(&backup, rig::config(&path), world.clock.clone(), quiet())
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Exists { .. }), "{error:?}");
        assert_eq!(files(&world.folder), before);
    }
    assert!(!world.folder.join("nowhere").exists());
}

#[tokio::test]
async fn other_files_are_neither_verified_nor_restored() {
    let world = World::new().await;
    for (content, text) in [
        (&b""[..], "neither like a backup nor like a key store"),
        (b"KES-BKP", "neither like a backup nor like a key store"),
        (
            b"--- # something else",
            "neither like a backup nor like a key store",
        ),
        (b"KES-BKP\n", "incomplete"),
        (b"KES-BKP\n\0\0\0\x02", "use a newer release"),
    ] {
        let file = world.folder.join("file");
        fs::write(&file, content).unwrap();
        let error = verified(&file, vec![rig::seal(1)]).await.unwrap_err();
        let shown = rig::chain(&error);
        assert!(shown.contains(text) && shown.contains("file"), "{shown}");
        let to = rig::config(&world.folder.join("restored.redb"));
        restore(&file, to, world.clock.clone(), quiet())
            .await
            .unwrap_err();
    }
    let absent = verified(&world.folder.join("absent"), vec![rig::seal(1)]).await;
    assert!(matches!(absent, Err(ConnectError::Missing { .. })), "{absent:?}");
    let folder = verified(&world.folder, vec![rig::seal(1)]).await;
    assert!(folder.is_err());
    // A store is no backup.
    let to = rig::config(&world.folder.join("restored.redb"));
    let error = restore(&world.path(), to, world.clock.clone(), quiet())
        .await
        .unwrap_err();
    assert!(
        rig::chain(&error).contains("not a backup"),
        "{}",
        rig::chain(&error)
    );
    assert_eq!(files(&world.folder), ["file", "keys.redb"]);
}

/// Never to be made anew: what this version wrote, every later one has to read.
#[tokio::test]
async fn the_backup_of_the_first_version_is_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = fs::read_to_string(fixtures.join("backup-v1.seal")).unwrap();
    let seals: Seals = vec![Arc::new(KeySeal::from_variable("FIXTURE", &text).unwrap())];
    let backup = fixtures.join("backup-v1.bin");
    let report = verify(&backup, &seals, quiet()).await.unwrap();
    assert_eq!(report, checked(&backup));
    let expected = Report {
        store_id: FIXTURE_STORE.to_owned(),
        format: 1,
        keys: 3,
        deleted: 2,
        digest: FIXTURE_DIGEST.to_owned(),
    };
    assert_eq!(report, expected);

    let temp = TempDir::new().unwrap();
    let config = Config {
        seals,
        ..rig::config(&temp.path().join("keys.redb"))
    };
    // On the day when it was made, so that the deleted keys can still be brought back.
    let clock = rig::clock();
    restore(&backup, config.clone(), clock.clone(), quiet())
        .await
        .unwrap();
    let store = EmbeddedStore::open(config, clock).await.unwrap();
    for text in FIXTURE_DELETED {
        store.undelete(&rig::name(text)).await.unwrap();
    }
    assert!(rig::contents(&store).await.into_iter().eq(FIXTURE_NAMES));
    store.close().await;
}

/// Makes the files of `the_backup_of_the_first_version_is_read`, where `KES_TEST_NEW_FIXTURE` says; without it, a world to
/// throw away.
#[tokio::test]
async fn what_the_first_version_writes_now_is_read_as_the_fixture_is() {
    let world = World::new().await;
    for text in FIXTURE_NAMES {
        rig::create(&world.store, text).await.unwrap();
    }
    for text in FIXTURE_DELETED {
        world.store.delete(&rig::name(text)).await.unwrap();
    }
    let backup = world.backup().await;
    let report = verified(&backup, vec![rig::seal(1)]).await.unwrap();
    assert_eq!((report.format, report.keys, report.deleted), (1, 3, 2));
    if let Some(folder) = std::env::var_os("KES_TEST_NEW_FIXTURE") {
        let folder = PathBuf::from(folder);
        fs::copy(&backup, folder.join("backup-v1.bin")).unwrap();
        fs::write(folder.join("backup-v1.seal"), format!("{}\n", rig::seal_text(1))).unwrap();
        println!("{report:?}");
    }
}

/// In order; each has the value that belongs to it.
const FIXTURE_NAMES: [&str; 5] = ["Key", "another_key", "key-1", "key-2", "z"];
const FIXTURE_DELETED: [&str; 2] = ["another_key", "z"];
const FIXTURE_STORE: &str = "f5e64669aa2e570fc66a5903ee906f41";
const FIXTURE_DIGEST: &str = "869af417632fac96bfd3910539ad301c9a519753c0739326ce57b6da8a30b3d0";

/// A store in a folder.
struct World {
    folder: PathBuf,
    store: EmbeddedStore,
    clock: Arc<kes_types::ManualClock>,
    _temp: TempDir,
}

impl World {
    async fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let clock = rig::clock();
        let path = temp.path().join("keys.redb");
        Self {
            folder: temp.path().to_owned(),
            store: EmbeddedStore::create(rig::config(&path), clock.clone())
                .await
                .unwrap(),
            clock,
            _temp: temp,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("keys.redb")
    }

    /// Makes the keys `key-0000` and on.
    async fn fill(&self, keys: usize) {
        let names: Vec<_> = (0..keys).map(|number| format!("key-{number:04}")).collect();
        let mut creates = names.iter().map(|text| rig::create(&self.store, text));
        loop {
            // Together, so that they share commits.
            let some: Vec<_> = creates.by_ref().take(64).collect();
            if some.is_empty() {
                break;
            }
            for created in join_all(some).await {
                created.unwrap();
            }
        }
    }

    /// A whole backup in the file `backup`.
    async fn backup(&self) -> PathBuf {
        self.backup_as("backup").await
    }

    async fn backup_as(&self, file: &str) -> PathBuf {
        let path = self.folder.join(file);
        fs::write(&path, taken(&self.store).await).unwrap();
        path
    }
}

/// Every piece of a backup.
async fn taken(store: &EmbeddedStore) -> Vec<u8> {
    let mut backup = store.backup().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn verified(file: &Path, seals: Seals) -> Result<Report, ConnectError> {
    verify(file, &seals, quiet()).await
}

fn checked(file: &Path) -> Report {
    let mut check = BackupCheck::new();
    check.update(&fs::read(file).unwrap()).unwrap();
    check.finish().unwrap()
}

fn quiet() -> Arc<dyn Fn(u64) + Send + Sync> {
    Arc::new(|_| ())
}

/// What is in a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_unix_timestamp(time.unix_timestamp()).unwrap()
}

/// All of them at the same time.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if futures.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}
