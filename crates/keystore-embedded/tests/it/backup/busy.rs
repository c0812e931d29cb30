//! A backup of a store that many write to at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, Maintenance as _};
use kes_keystore_embedded::{EmbeddedStore, restore};

use super::form::Form;
use super::{World, quiet};
use crate::rig;

const WRITERS: usize = 64;

/// A write that was acknowledged: when it was begun and when it was acknowledged, in the order of all such events.
struct Write {
    name: String,
    is_delete: bool,
    begun: u64,
    ended: u64,
}

/// What all writers share.
struct Busy {
    store: EmbeddedStore,
    events: AtomicU64,
    writes: AtomicU64,
    is_over: AtomicBool,
}

impl Busy {
    fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    /// Creates keys, and deletes every third one again.
    async fn write(&self, writer: usize) -> Vec<Write> {
        let mut done = Vec::new();
        for number in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("writer-{writer:02}-{number:05}");
            let begun = self.event();
            rig::create(&self.store, &name).await.unwrap();
            done.push(Write {
                name: name.clone(),
                is_delete: false,
                begun,
                ended: self.event(),
            });
            if number % 3 == 0 {
                let begun = self.event();
                self.store.delete(&rig::name(&name)).await.unwrap();
                done.push(Write {
                    name,
                    is_delete: true,
                    begun,
                    ended: self.event(),
                });
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
        done
    }

    async fn until_more_were_written(&self, more: u64) {
        let target = self.writes.load(Ordering::SeqCst) + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.writes.load(Ordering::SeqCst) < target {
            assert!(Instant::now() < deadline, "the writers do not go on");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_while_64_write_is_one_point_in_time_and_all_values_open_elsewhere() {
    let world = World::new().await;
    world.fill(600).await;
    let World {
        folder,
        store,
        clock,
        _temp,
    } = world;
    let busy = Arc::new(Busy {
        store,
        events: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move { busy.write(writer).await })
        })
        .collect();
    busy.until_more_were_written(200).await;

    let asked = busy.event();
    let mut backup = busy.store.backup().await.unwrap();
    let begun = busy.event();
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next().await {
        bytes.extend_from_slice(&piece.unwrap());
        // The store goes on under the snapshot.
        busy.until_more_were_written(40).await;
    }
    busy.is_over.store(true, Ordering::SeqCst);
    let mut writes = Vec::new();
    for writer in writers {
        writes.extend(writer.await.unwrap());
    }
    let path = folder.join("backup");
    std::fs::write(&path, bytes).unwrap();

    // There is a moment before which everything that was acknowledged is in the backup, and after which nothing that was
    // begun is: no write that is in it was begun after one that is not was acknowledged.
    let form = Form::read(&path);
    let state = |name: &str| {
        let found = form.entries.binary_search_by(|entry| (*entry.name).cmp(name));
        found.ok().map(|at| form.entries[at].deleted.is_some())
    };
    let is_in = |write: &Write| match state(&write.name) {
        None => false,
        Some(is_deleted) => is_deleted || !write.is_delete,
    };
    let (inside, outside): (Vec<_>, Vec<_>) = writes.iter().partition(|write| is_in(write));
    assert!(
        inside.len() > 100 && outside.len() > 100,
        "{}, {}",
        inside.len(),
        outside.len()
    );
    let last_in = inside.iter().map(|write| write.begun).max().unwrap();
    let first_out = outside.iter().map(|write| write.ended).min().unwrap();
    assert!(last_in < first_out, "{last_in}, {first_out}");
    assert!(inside.iter().all(|write| write.begun < begun));
    assert!(outside.iter().all(|write| write.ended > asked));

    let config = rig::config(&folder.join("restored.redb"));
    let report = restore(&path, config.clone(), clock.clone(), quiet())
        .await
        .unwrap();
    assert_eq!(report.digest, form.content_digest());
    let restored = EmbeddedStore::open(config, clock).await.unwrap();
    let live = form.entries.iter().filter(|entry| entry.deleted.is_none());
    let live = live.map(|entry| entry.name.clone());
    assert!(rig::contents(&restored).await.into_iter().eq(live));
    restored.close().await;
    busy.store.close().await;
}
