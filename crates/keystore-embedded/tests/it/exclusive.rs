//! What is refused when a store is opened: a second process, a wrong seal, no seal. Each says what is wrong, and nothing
//! changes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kes_keystore::KeyStore as _;
use kes_keystore_embedded::{Config, ConnectError, EmbeddedStore};
use kes_seal::{KeySeal, Seal};
use tempfile::TempDir;

use crate::rig::{self, Process};

const TEST: &str = "exclusive::child_process";
const HAS_IT: &str = "@has it";
const REFUSED: &str = "@refused: ";

/// What runs in the other process; does nothing in this one.
#[tokio::test]
async fn child_process() {
    let Some((role, path)) = Process::role() else {
        return;
    };
    match role.as_str() {
        "open" => match EmbeddedStore::open(rig::config(&path), rig::clock()).await {
            Ok(store) => {
                println!("{HAS_IT}");
                std::io::stdin().read_line(&mut String::new()).unwrap();
                store.close().await;
                println!("{HAS_IT} no more");
            }
            Err(error) => println!("{REFUSED}{}", rig::chain(&error)),
        },
        _ => panic!("no such role: {role}"),
    }
}

/// A store with one key, closed.
async fn store() -> (TempDir, PathBuf) {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("keys.redb");
    let store = EmbeddedStore::create(rig::config(&path), rig::clock())
        .await
        .unwrap();
    rig::create(&store, "there").await.unwrap();
    store.close().await;
    (temp, path)
}

/// What opening it is refused with. The file keeps its bytes and its times.
async fn refused(config: Config) -> String {
    let state = || {
        let metadata = fs::metadata(&config.path).unwrap();
        (
            fs::read(&config.path).unwrap(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.mode(),
        )
    };
    let before = state();
    let folder = config.path.parent().unwrap();
    let opened = EmbeddedStore::open(config.clone(), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    let text = rig::chain(&opened);
    assert!(state() == before, "the file was changed: {text}");
    // What connects to a store that may be absent does not make a new one.
    let connected = EmbeddedStore::connect(config.clone(), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(rig::chain(&connected), text);
    let created = EmbeddedStore::create(config.clone(), rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    assert!(rig::chain(&created).contains("keys.redb"), "{created}");
    assert!(state() == before, "the file was changed: {text}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing is beside it");
    text
}

#[tokio::test]
async fn a_second_process_is_refused_at_once_and_the_first_goes_on() {
    let (_temp, path) = store().await;
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    let before = fs::read(&path).unwrap();
    let refusal = {
        let mut process = Process::start(&[], TEST, "open", &path);
        loop {
            let line = process.line().unwrap();
            assert!(!line.contains(HAS_IT), "two processes have it");
            if let Some((_, text)) = line.split_once(REFUSED) {
                break text.to_owned();
            }
        }
    };
    let expected = in_use(&path);
    assert_eq!(refusal, expected);
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
    rig::create(&store, "more").await.unwrap();

    // The same in one process.
    assert_eq!(refused(rig::config(&path)).await, expected);
    store.close().await;

    // Closed, another one can have it at once.
    let mut process = Process::start(&[], TEST, "open", &path);
    process.read_until(HAS_IT);
    assert_eq!(refused(rig::config(&path)).await, expected);
    process
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(b"enough\n")
        .unwrap();
    process.read_until(HAS_IT);
    process.succeeds();
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert!(rig::present(&store, "more").await.unwrap());
}

fn in_use(path: &Path) -> String {
    format!(
        "the key store {} is in use by another process: stop that one first, or give each server a store of its own",
        path.display()
    )
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_the_store_to_the_next() {
    let (_temp, path) = store().await;
    let mut process = Process::start(&[], TEST, "open", &path);
    process.read_until(HAS_IT);
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert!(rig::present(&store, "there").await.unwrap());
}

fn check_of(seal: &dyn Seal) -> String {
    seal.id().check.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_wrong_seal_is_told_which_one_is_needed_and_which_was_given() {
    let (_temp, path) = store().await;
    let (right, wrong, another) = (rig::seal(1), rig::seal(2), rig::seal(3));
    let text = refused(Config {
        seals: vec![wrong.clone(), another.clone()],
        ..rig::config(&path)
    })
    .await;
    assert_eq!(
        text,
        format!(
            "Embedded: {0} is sealed with key {1}, but what was given is \
             key {2} (environment variable SEAL_2) and key {3} (environment variable SEAL_3); nothing was changed: \
             give the seal that it was sealed with",
            path.display(),
            check_of(&*right),
            check_of(&*wrong),
            check_of(&*another),
        )
    );
    assert!(!text.contains(&rig::seal_text(2)), "a secret: {text}");
    let store = EmbeddedStore::open(rig::config(&path), rig::clock())
        .await
        .unwrap();
    assert!(rig::present(&store, "there").await.unwrap());
}

#[tokio::test]
async fn without_a_seal_nothing_is_opened_or_made() {
    let (temp, path) = store().await;
    let text = refused(Config {
        seals: Vec::new(),
        ..rig::config(&path)
    })
    .await;
    let expected = format!("Embedded: {0}: no seal is configured", path.display());
    assert_eq!(text, expected);
    let absent = temp.path().join("absent.redb");
    let config = Config {
        seals: Vec::new(),
        ..rig::config(&absent)
    };
    let error = EmbeddedStore::connect(config, rig::clock())
        .await
        .map(drop)
        .unwrap_err();
    assert!(rig::chain(&error).contains("seal"), "{error:?}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_seal_file_says_what_is_wrong_with_it() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("seal.key");
    let shown = path.display().to_string();
    let refused = || {
        let error = KeySeal::from_file(&path).map(drop).unwrap_err();
        let text = rig::chain(&error);
        assert!(text.contains(&shown), "no path in {text:?}");
        assert!(
            !text.contains(rig::seal_text(1).trim_end()),
            "a secret in {text:?}"
        );
        text
    };
    let write = |text: &[u8], mode| {
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(refused().contains("No such file"), "{}", refused());

    let good = format!("{}\n", rig::seal_text(1));
    for mode in [0o604, 0o602, 0o640, 0o620, 0o610, 0o601, 0o777] {
        write(good.as_bytes(), mode);
        let expected = format!(
            "the seal file {shown} is accessible to group or others (mode {mode:04o}): run `chmod 600 {shown}`, \
             and replace the seal if somebody may have read it"
        );
        assert_eq!(refused(), expected);
    }
    let bytes = fs::read(&path).unwrap();
    assert!(bytes == good.as_bytes(), "it was left alone");
    for mode in [0o600, 0o400] {
        write(good.as_bytes(), mode);
        assert!(KeySeal::from_file(&path).is_ok(), "{mode:o}");
    }

    let short = &rig::seal_text(1)[4..];
    for bad in [
        "",
        "\n",
        short,
        "not base64 at all, is it?",
        &good.repeat(2),
        &"A".repeat(100_000),
    ] {
        write(bad.as_bytes(), 0o600);
        let text = refused();
        assert!(text.contains("32"), "what it should be: {text}");
    }
    write(&[0xff; 44], 0o600);
    refused();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
}

/// Whoever opens a store removes what crashes have left beside it, and must not take what is being made for that.
#[test]
fn a_store_is_made_while_others_look_for_it() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("keys.redb");
    let made = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                while !made.load(Ordering::SeqCst) {
                    let _ = runtime.block_on(EmbeddedStore::open(rig::config(&path), rig::clock()));
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(async {
            for _ in 0..100 {
                let store = EmbeddedStore::create(rig::config(&path), rig::clock()).await?;
                store.close().await;
                fs::remove_file(&path).unwrap();
            }
            Ok::<_, ConnectError>(())
        });
        made.store(true, Ordering::SeqCst);
        result.unwrap();
    });
}
