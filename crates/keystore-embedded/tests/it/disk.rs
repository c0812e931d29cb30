//! Real disks in trouble: full, read-only, without permission; each in a process of its own, where it can be brought about.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use kes_keystore::{KeyStore as _, StoreError};
use kes_keystore_embedded::{ConnectError, EmbeddedStore};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::rig::{self, Process};

const TEST: &str = "disk::child_process";

/// What runs in the other processes; does nothing in this one.
#[tokio::test]
async fn child_process() {
    let Some((role, path)) = Process::role() else {
        return;
    };
    match role.as_str() {
        "full" => full(&path).await,
        "read-only mount" => read_only_mount(&path).await,
        "unwritable" => unwritable(&path).await,
        "no permission" => no_permission(&path).await,
        _ => panic!("no such role: {role}"),
    }
}

/// Runs `role` with a small file system of its own at the path that it is given.
pub(crate) fn with_own_mount(test: &str, role: &str) {
    const MOUNT: &str = r#"mount -t tmpfs -o size=8m none "$KES_TEST_PATH" && exec "$0" "$@""#;
    let temp = TempDir::new().unwrap();
    let unshare = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let allowed = Command::new("unshare").args([unshare, "true"]).status();
    assert!(
        allowed.as_ref().is_ok_and(std::process::ExitStatus::success),
        "this test mounts a small file system with `unshare {unshare}`, which this machine does not let it: {allowed:?}"
    );
    Process::start(&["unshare", unshare, "sh", "-c", MOUNT], test, role, temp.path()).succeeds();
}

fn mount(path: &Path, options: &str) {
    // The options that it has name users whom the name space of an ordinary user does not know.
    let done = Command::new("mount")
        .args(["--options-mode=ignore", "-o", options, "none"])
        .arg(path)
        .status()
        .unwrap();
    assert!(done.success(), "mount -o {options}");
}

/// The error is one that the server answers with 502 and logs with this reason.
fn assert_is_502_because(error: &StoreError, reason: &str) {
    assert!(
        matches!(
            error,
            StoreError::Unreachable { .. } | StoreError::Backend { .. } | StoreError::Denied { .. }
        ),
        "{error:?}"
    );
    let text = rig::chain(error);
    assert!(text.contains(reason), "{reason:?} is not in {text:?}");
}

#[test]
fn a_full_disk_fails_writes_and_not_reads_until_there_is_space() {
    with_own_mount(TEST, "full");
}

async fn full(folder: &Path) {
    const FULL: &str = "No space left on device";
    let path = folder.join("keys.redb");
    let store = EmbeddedStore::create(rig::config(&path), rig::clock())
        .await
        .unwrap();
    let mut acknowledged: Vec<_> = (0..20).map(|number| format!("before-{number:03}")).collect();
    for text in &acknowledged {
        rig::create(&store, text).await.unwrap();
    }
    store.delete(&rig::name("before-019")).await.unwrap();
    acknowledged.pop();

    for (phase, more_space) in ["ballast is removed", "the disk grows"].into_iter().enumerate() {
        let ballast = folder.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        drop(file);

        let mut failed = Vec::new();
        for number in 0.. {
            let text = format!("full-{phase}-{number:05}");
            match rig::create(&store, &text).await {
                Ok(()) => acknowledged.push(text),
                Err(error) => {
                    assert_is_502_because(&error, FULL);
                    failed.push(text);
                }
            }
            acknowledged.sort();
            if number % 16 == 0 || !failed.is_empty() {
                assert_eq!(
                    rig::contents(&store).await.into_iter().collect::<Vec<_>>(),
                    acknowledged
                );
            }
            if failed.len() == 10 {
                break;
            }
            assert!(number < 20_000, "the disk is not full");
        }
        for text in &failed {
            assert!(!rig::present(&store, text).await.unwrap(), "{text} has failed");
        }
        match store.delete(&rig::name("before-000")).await {
            Ok(()) => acknowledged.retain(|text| text != "before-000"),
            Err(StoreError::NotFound) => assert!(!acknowledged.iter().any(|text| text == "before-000")),
            Err(error) => assert_is_502_because(&error, FULL),
        }

        // There is space again, and nobody restarts anything.
        if more_space == "the disk grows" {
            mount(folder, "remount,size=24m");
        } else {
            fs::remove_file(&ballast).unwrap();
        }
        for text in &failed {
            rig::create(&store, text)
                .await
                .unwrap_or_else(|error| panic!("after {more_space}: {}", rig::chain(&error)));
        }
        acknowledged.extend(failed);
        acknowledged.sort();
        assert_eq!(
            rig::contents(&store).await.into_iter().collect::<Vec<_>>(),
            acknowledged
        );
    }
    store.close().await;
    drop(store);
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert_eq!(
        rig::contents(&store).await.into_iter().collect::<Vec<_>>(),
        acknowledged
    );
    store.close().await;
    drop(store);

    // Making a store where there is no space leaves nothing.
    let mut file = fs::File::create(folder.join("ballast")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let another = folder.join("another.redb");
    let error = EmbeddedStore::create(rig::config(&another), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    let text = rig::chain(&error);
    assert!(text.contains("another.redb") && text.contains(FULL), "{text}");
    let mut left: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["ballast", "keys.redb"]);
}

#[test]
fn a_read_only_file_system_is_read_and_written_once_it_can_be() {
    with_own_mount(TEST, "read-only mount");
}

async fn read_only_mount(folder: &Path) {
    const READ_ONLY: &str = "Read-only file system";
    let path = folder.join("keys.redb");
    let store = EmbeddedStore::create(rig::config(&path), rig::clock())
        .await
        .unwrap();
    rig::create(&store, "there").await.unwrap();
    let crashed = fs::read(&path).unwrap();
    store.close().await;
    drop(store);
    // Once as it was closed, and once as a crash would have left it.
    for image in [fs::read(&path).unwrap(), crashed] {
        fs::write(&path, &image).unwrap();
        mount(folder, "remount,ro");
        let store = EmbeddedStore::open(rig::config(&path), rig::clock())
            .await
            .unwrap();
        assert!(rig::present(&store, "there").await.unwrap());
        let error = rig::create(&store, "new").await.unwrap_err();
        assert_is_502_because(&error, READ_ONLY);
        let error = store.delete(&rig::name("there")).await.unwrap_err();
        assert_is_502_because(&error, READ_ONLY);
        assert_eq!(rig::list(&store, "").await.unwrap(), ["there"]);
        assert!(fs::read(&path).unwrap() == image, "the file was changed");

        mount(folder, "remount,rw");
        rig::create(&store, "new").await.unwrap();
        assert_eq!(rig::list(&store, "").await.unwrap(), ["new", "there"]);
        store.close().await;
    }
    mount(folder, "remount,ro");
    let absent = folder.join("absent.redb");
    let error = EmbeddedStore::connect(rig::config(&absent), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    let text = rig::chain(&error);
    assert!(text.contains("absent.redb") && text.contains(READ_ONLY), "{text}");
}

#[test]
fn a_file_that_becomes_unwritable_is_read_and_written_once_it_can_be() {
    // The signal that comes with the error, and ends a process that does not ignore it, is not what is tested.
    const WITHOUT_SIGNAL: &str = r#"trap '' XFSZ; exec "$0" "$@""#;
    let temp = TempDir::new().unwrap();
    Process::start(&["sh", "-c", WITHOUT_SIGNAL], TEST, "unwritable", temp.path()).succeeds();
}

/// A file can become unwritable under whoever has it open: here by a limit on the size of files, and for root also by the
/// flag that makes a file immutable.
async fn unwritable(folder: &Path) {
    let path = folder.join("keys.redb");
    let store = EmbeddedStore::create(rig::config(&path), rig::clock())
        .await
        .unwrap();
    rig::create(&store, "there").await.unwrap();
    let mut expected = vec!["there".to_owned()];

    for round in 0..4 {
        let names: Vec<_> = (0..3).map(|attempt| format!("new-{round}-{attempt}")).collect();
        let fail = async |reason: &str| {
            for text in &names {
                let error = rig::create(&store, text).await.unwrap_err();
                assert_is_502_because(&error, reason);
                assert!(!rig::present(&store, text).await.unwrap());
                assert!(rig::present(&store, "there").await.unwrap());
            }
        };
        if round % 2 == 0 {
            let before = getrlimit(Resource::Fsize);
            let none = Rlimit {
                current: Some(0),
                ..before
            };
            setrlimit(Resource::Fsize, none).unwrap();
            fail("File too large").await;
            setrlimit(Resource::Fsize, before).unwrap();
        } else if rustix::process::geteuid().is_root() {
            let immutable = Immutable::make(&path);
            fail("Operation not permitted").await;
            drop(immutable);
        }
        let first = names.into_iter().next().unwrap();
        rig::create(&store, &first).await.unwrap();
        expected.insert(round, first);
    }
    store.close().await;
    drop(store);
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert_eq!(rig::list(&store, "").await.unwrap(), expected);
}

/// A file that cannot be written, until this is dropped.
struct Immutable(fs::File);

impl Immutable {
    fn make(path: &Path) -> Self {
        let file = fs::File::open(path).unwrap();
        let flags = ioctl_getflags(&file).unwrap() | IFlags::IMMUTABLE;
        ioctl_setflags(&file, flags).unwrap_or_else(|error| {
            panic!(
                "this test makes {} immutable, which takes a file system like ext4 for root: {error}",
                path.display()
            )
        });
        Self(file)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let flags = ioctl_getflags(&self.0).unwrap() - IFlags::IMMUTABLE;
        ioctl_setflags(&self.0, flags).unwrap();
    }
}

#[test]
fn without_permission_the_message_names_the_file_and_the_permission() {
    let temp = TempDir::new().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = temp.path().join("data");
    fs::create_dir(&folder).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root may do anything, so that another user has to try.
        const NOBODY: u32 = 65534;
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        let wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        Process::start(&wrapper, TEST, "no permission", &folder).succeeds();
    } else {
        Process::start(&[], TEST, "no permission", &folder).succeeds();
    }
}

async fn no_permission(folder: &Path) {
    const DENIED: &str = "Permission denied";
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let path = folder.join("keys.redb");
    let refused = async |says: &Path| {
        let error = EmbeddedStore::connect(rig::config(&path), rig::clock())
            .await
            .map(drop)
            .unwrap_err();
        let text = rig::chain(&error);
        assert!(
            text.contains(DENIED) && text.contains(&says.display().to_string()),
            "{text}"
        );
    };
    assert!(!rustix::process::geteuid().is_root());

    // No file, and none can be made.
    set(folder, 0o500);
    refused(folder).await;
    set(folder, 0o000);
    refused(folder).await;
    set(folder, 0o700);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "nothing is left");

    let store = EmbeddedStore::connect(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600,
        "nobody else reads it"
    );
    rig::create(&store, "there").await.unwrap();
    // Taken away from under an open store, it does no harm.
    set(&path, 0o000);
    set(folder, 0o000);
    rig::create(&store, "more").await.unwrap();
    assert!(rig::present(&store, "there").await.unwrap());
    set(folder, 0o700);
    store.close().await;
    drop(store);

    // A file that can be neither read nor written.
    refused(&path).await;
    set(&path, 0o200);
    refused(&path).await;
    assert!(matches!(
        fs::read(&path).unwrap_err().kind(),
        ErrorKind::PermissionDenied
    ));

    // One that can be read: it is.
    set(&path, 0o400);
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert!(rig::present(&store, "there").await.unwrap());
    let error = rig::create(&store, "new").await.unwrap_err();
    assert_is_502_because(&error, DENIED);
    set(&path, 0o600);
    rig::create(&store, "new").await.unwrap();
    store.close().await;
    drop(store);

    set(folder, 0o000);
    refused(&path).await;
    let error = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        !matches!(error, ConnectError::Absent { .. }),
        "it is there: {error:?}"
    );
    set(folder, 0o700);
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert_eq!(rig::list(&store, "").await.unwrap(), ["more", "new", "there"]);
}
