//! The folder and its files.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use kes_keystore::{EntryName, KeyStore, StoreError};
use kes_keystore_fs::{Config, ConnectError, FsStore};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::{connect, name, secret};

const PLENTY: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

async fn store() -> (TempDir, PathBuf, FsStore) {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("keys");
    let store = connect(&path).await;
    (temp, path, store)
}

async fn listed(store: &FsStore) -> Vec<String> {
    let page = store.list("", None, PLENTY).await.unwrap();
    page.names.iter().map(EntryName::to_string).collect()
}

#[tokio::test]
async fn a_key_is_a_file_of_its_name_that_holds_the_value() {
    let (_temp, path, store) = store().await;
    store.create(&name("my-key_1"), &secret("value")).await.unwrap();
    assert_eq!(fs::read(path.join("my-key_1")).unwrap(), b"value");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    store.delete(&name("my-key_1")).await.unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert!(matches!(
        store.delete(&name("my-key_1")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn keys_outlive_the_process() {
    let (_temp, path, store) = store().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    store.close().await;
    drop(store);
    assert_eq!(
        connect(&path)
            .await
            .get(&name("key"))
            .await
            .unwrap()
            .value
            .expose_secret(),
        b"value"
    );
}

#[tokio::test]
async fn it_says_where_it_is() {
    let (_temp, path, store) = store().await;
    assert_eq!(store.to_string(), format!("Filesystem: {}", path.display()));
}

#[tokio::test]
async fn a_file_that_was_edited_by_hand_is_returned_as_it_is() {
    let (_temp, path, store) = store().await;
    for (text, value) in [
        ("newline", "{\"bytes\":\"AAAA\"}\n"),
        ("crlf", "x\r\n"),
        ("empty", ""),
    ] {
        fs::write(path.join(text), value).unwrap();
        assert_eq!(
            store.get(&name(text)).await.unwrap().value.expose_secret(),
            value.as_bytes()
        );
    }
}

#[tokio::test]
async fn names_that_differ_in_case_are_different_keys() {
    let (_temp, path, store) = store().await;
    fs::write(path.join("probe"), "").unwrap();
    let folds_case = path.join("PROBE").exists();
    fs::remove_file(path.join("probe")).unwrap();

    store.create(&name("a"), &secret("lower")).await.unwrap();
    let upper = store.create(&name("A"), &secret("upper")).await;
    if folds_case {
        assert!(matches!(upper, Err(StoreError::Exists)), "{upper:?}");
    } else {
        upper.unwrap();
        assert_eq!(listed(&store).await, ["A", "a"]);
    }
    assert_eq!(
        store.get(&name("a")).await.unwrap().value.expose_secret(),
        b"lower"
    );
}

#[tokio::test]
async fn only_regular_files_with_the_name_of_a_key_are_listed() {
    let (_temp, path, store) = store().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    for foreign in [
        ".tmp-0123456789abcdef0123456789abcdef",
        ".hidden",
        "a.txt",
        "-a",
        "_",
        "a b",
        "naïve",
    ] {
        fs::write(path.join(foreign), "").unwrap();
    }
    fs::write(path.join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    fs::write(path.join("n".repeat(81)), "").unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    mknodat(CWD, path.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(path.join("socket")).unwrap();
    symlink("nowhere", path.join("dangling")).unwrap();
    symlink("itself", path.join("itself")).unwrap();
    symlink("folder", path.join("to-folder")).unwrap();
    symlink("pipe", path.join("to-pipe")).unwrap();
    symlink("key", path.join("to-key")).unwrap();

    assert_eq!(listed(&store).await, ["key", "to-key"]);
    assert_eq!(
        store.get(&name("to-key")).await.unwrap().value.expose_secret(),
        b"value"
    );

    // Nothing that is asked for by name hangs, either.
    for text in ["folder", "pipe", "socket", "to-folder", "to-pipe"] {
        let read = store.get(&name(text)).await;
        let Err(StoreError::Corrupt { reason }) = read else {
            panic!("{text}: {read:?}")
        };
        assert_eq!(
            reason,
            format!("{}: not a regular file", path.join(text).display())
        );
    }
    assert!(matches!(
        store.get(&name("dangling")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn a_file_larger_than_a_mebibyte_is_an_error_and_never_cut() {
    let (_temp, path, store) = store().await;
    fs::write(path.join("largest"), vec![b'x'; 1024 * 1024]).unwrap();
    assert_eq!(
        store.get(&name("largest")).await.unwrap().value.len(),
        1024 * 1024
    );

    fs::write(path.join("too-large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    let error = store.get(&name("too-large")).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("keys/too-large: larger than 1 MiB"),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_that_is_gone_is_an_outage_and_not_an_absent_key() {
    let (temp, path, store) = store().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let elsewhere = temp.path().join("elsewhere");
    let assert_out_of_reach = async |store: &FsStore| {
        for error in [
            store.ping().await.unwrap_err(),
            store.get(&name("key")).await.unwrap_err(),
            store.create(&name("new"), &secret("value")).await.unwrap_err(),
            store.delete(&name("key")).await.unwrap_err(),
            store.list("", None, PLENTY).await.unwrap_err(),
        ] {
            assert!(error.is_outage(), "{error:?}");
        }
    };

    fs::rename(&path, &elsewhere).unwrap();
    assert_out_of_reach(&store).await;
    fs::write(&path, "a file").unwrap();
    assert_out_of_reach(&store).await;
    assert_eq!(fs::read(&path).unwrap(), b"a file");

    fs::remove_file(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    store.ping().await.unwrap();
    assert_eq!(
        store.get(&name("key")).await.unwrap().value.expose_secret(),
        b"value"
    );
}

#[tokio::test]
async fn another_folder_in_its_place_is_an_outage_and_gets_no_keys() {
    let (temp, path, store) = store().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let elsewhere = temp.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    fs::create_dir(&path).unwrap();
    for error in [
        store.ping().await.unwrap_err(),
        store.get(&name("key")).await.unwrap_err(),
        store.create(&name("new"), &secret("value")).await.unwrap_err(),
        store.delete(&name("key")).await.unwrap_err(),
        store.list("", None, PLENTY).await.unwrap_err(),
    ] {
        let StoreError::Unreachable { source, .. } = error else {
            panic!("{error:?}")
        };
        let said = source.to_string();
        assert!(said.contains("another folder than at the start"), "{said}");
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);

    fs::remove_dir(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    store.get(&name("key")).await.unwrap();

    // Nor does a folder count that was made anew, whatever number it got.
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(store.get(&name("key")).await.unwrap_err().is_outage());
}

#[tokio::test]
async fn what_is_no_folder_is_refused_at_the_start() {
    let temp = TempDir::new().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "content").unwrap();
    let refusal = async |path: PathBuf| FsStore::connect(Config { path }).await.unwrap_err();

    let error = refusal(file.clone()).await;
    assert!(matches!(error, ConnectError::NotAFolder { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("{} exists and is not a folder", file.display())
    );
    let error = refusal(file.join("below")).await;
    assert!(matches!(error, ConnectError::Open { .. }), "{error:?}");
    let error = refusal(PathBuf::new()).await;
    assert!(matches!(error, ConnectError::NoPath), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_start_opens_no_key_however_many_there_are() {
    use rustix::fs::inotify;

    const KEYS: usize = 10_000;
    let temp = TempDir::new().unwrap();
    let first = temp.path().join("key-00000");
    fs::write(&first, "value").unwrap();
    for i in 1..KEYS {
        fs::hard_link(&first, temp.path().join(format!("key-{i:05}"))).unwrap();
    }
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, temp.path(), inotify::WatchFlags::OPEN).unwrap();
    let opened = || {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        let mut files = Vec::new();
        while let Ok(event) = events.next() {
            // The folder's own events have no name.
            files.extend(event.file_name().map(|name| name.to_str().unwrap().to_owned()));
        }
        files
    };

    let store = connect(temp.path()).await;
    store.ping().await.unwrap();
    assert_eq!(opened(), Vec::<String>::new());
    store.get(&name("key-00007")).await.unwrap();
    assert_eq!(opened(), ["key-00007"]);
}
