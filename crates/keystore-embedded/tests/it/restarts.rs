//! What is left of a process when the machine goes on: no crash takes away what is still in memory. And of its writer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kes_keystore::KeyStore as _;
use kes_keystore_embedded::{Config, EmbeddedStore, Medium};
use rustix::io::Errno;

use crate::rig;
use crate::sim::{Disk, Effect, Failure, Kind};

/// How the process ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// In order; the disk is well again only then.
    Closed,
    /// With `kill -9`; the disk was well again at once.
    Killed,
}

#[tokio::test]
async fn what_was_refused_is_not_there_after_a_restart_either() {
    let mut refused = 0;
    for end in [End::Closed, End::Killed] {
        for effect in Effect::ALL {
            for number in 0.. {
                match restart(number, effect, end).await {
                    Some(is_refused) => refused += u32::from(is_refused),
                    None => break,
                }
            }
        }
    }
    assert!(refused > 40, "{refused} creates were refused");
}

/// Has the change with this number after the first create fail. Whether that was an error; `None` when there is no such
/// change.
async fn restart(number: u64, effect: Effect, end: End) -> Option<bool> {
    let disk = Disk::new();
    let store = rig::create_on(&disk).await.unwrap();
    rig::create(&store, "before").await.unwrap();
    let failing = disk.changes() + number;
    disk.fail(Failure {
        changes: match end {
            End::Closed => failing..u64::MAX,
            End::Killed => failing..failing + 1,
        },
        only: None,
        error: Errno::IO,
        effect,
    });
    let is_refused = rig::create(&store, "refused").await.is_err();
    if disk.changes() <= failing {
        return None;
    }
    disk.heal();
    let context = format!("change {number} {effect:?} {end:?}");
    if let End::Closed = end {
        store.close().await;
    }
    let next = rig::open_on(&disk).await.unwrap();
    let found = rig::contents(&next).await;
    assert!(found.contains("before"), "{context}");
    let is_there = found.contains("refused");
    assert_ne!(is_there, is_refused, "{context}");
    rig::create(&next, "after")
        .await
        .unwrap_or_else(|error| panic!("{context}: {}", rig::chain(&error)));
    for seed in 0..4 {
        let crashed = rig::open_on(&Disk::holding(disk.crash(seed))).await;
        let crashed = crashed.unwrap_or_else(|error| panic!("{context}: {}", rig::chain(&error)));
        let kept = rig::contents(&crashed).await;
        assert!(
            kept.contains("before") && kept.contains("after"),
            "{context}: {kept:?}"
        );
        assert_eq!(kept.contains("refused"), is_there, "{context}");
        crashed.close().await;
    }
    next.close().await;
    // What the killed process does no more: nothing of it reaches the disk that is looked at.
    drop(store);
    Some(is_refused)
}

#[tokio::test]
async fn a_file_that_cannot_be_cut_shorter_is_no_reason_to_refuse_what_is_in_it() {
    let disk = Disk::new();
    let config = Config {
        undelete: Duration::ZERO,
        ..rig::config(Path::new("sim"))
    };
    let store = EmbeddedStore::create_on(Arc::new(disk.clone()), config, rig::clock()).await;
    let store = store.unwrap();
    let names: Vec<_> = (0..3000).map(|number| format!("key-{number:04}")).collect();
    let created = join_all(names.iter().map(|name| rig::create(&store, name))).await;
    assert!(created.iter().all(Result::is_ok));
    disk.fail(Failure {
        changes: 0..u64::MAX,
        only: Some(Kind::SetSize),
        error: Errno::IO,
        effect: Effect::None,
    });
    for some in names.chunks(10) {
        let deleted = join_all(some.iter().map(async |name| store.delete(&rig::name(name)).await)).await;
        for (name, result) in some.iter().zip(deleted) {
            result.unwrap_or_else(|error| panic!("{name}: {}", rig::chain(&error)));
        }
    }
    disk.heal();
    rig::create(&store, "after").await.unwrap();
    for seed in 0..4 {
        let crashed = rig::open_on(&Disk::holding(disk.crash(seed))).await.unwrap();
        assert_eq!(rig::contents(&crashed).await.len(), 1);
        crashed.close().await;
    }
    store.close().await;
}

/// A disk whose program has a defect, once it is told so.
#[derive(Debug)]
struct Defective {
    disk: Disk,
    panics: AtomicBool,
    is_released: AtomicBool,
}

impl Medium for Defective {
    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(offset, bytes)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.disk.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn is_in_place(&self) -> io::Result<()> {
        assert!(!self.panics.load(Ordering::SeqCst), "a defect");
        Ok(())
    }

    fn release(&self) {
        self.is_released.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    let medium = Arc::new(Defective {
        disk: Disk::new(),
        panics: AtomicBool::new(false),
        is_released: AtomicBool::new(false),
    });
    let config = rig::config(Path::new("sim"));
    let store = EmbeddedStore::create_on(Arc::clone(&medium) as _, config, rig::clock()).await;
    let store = store.unwrap();
    rig::create(&store, "before").await.unwrap();
    medium.panics.store(true, Ordering::SeqCst);
    let names: Vec<_> = (0..10).map(|number| format!("key-{number}")).collect();
    for result in join_all(names.iter().map(|name| rig::create(&store, name))).await {
        let error = rig::chain(&result.unwrap_err());
        assert!(error.contains("the store is closed"), "{error}");
    }
    assert!(rig::present(&store, "before").await.unwrap(), "reads go on");
    store.close().await;
    assert!(medium.is_released.load(Ordering::SeqCst));
    rig::present(&store, "before").await.unwrap_err();
    let next = rig::open_on(&medium.disk).await.unwrap();
    assert_eq!(rig::list(&next, "").await.unwrap(), ["before"]);
    next.close().await;
}
