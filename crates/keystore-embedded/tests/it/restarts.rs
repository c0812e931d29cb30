//! What is left of a process when the machine goes on: no crash takes away what is still in memory.

use kes_keystore::KeyStore as _;
use rustix::io::Errno;

use crate::rig;
use crate::sim::{Disk, Effect, Failure};

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
