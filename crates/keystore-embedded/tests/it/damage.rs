//! Damaged files, and files that somebody has altered: what is read is right, or an error; nothing vanishes.
//!
//! `KES_DAMAGE=all` flips all eight bits of every byte where the ordinary run chooses one; for an optimised build.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests panic as the tests do"
)]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::{KeyStore, Maintenance as _, StoreError};
use kes_keystore_embedded::{Engine, Medium as _, Pages, Settings};
use kes_seal::{HeaderRecord, HeaderStore as _};
use redb::{Database, ReadableTable as _, TableDefinition};

use crate::rig::{self, name};
use crate::sim::{Disk, Random};

const PAGE: usize = 4096;

/// A page with its checksum.
const SLOT: usize = PAGE + 16;

/// A store as it is on the disk, and what it holds.
struct Sample {
    image: Vec<u8>,
    live: Vec<String>,
    deleted: Vec<String>,
}

impl Sample {
    /// A small store, closed in order or not.
    async fn small(closed: bool) -> Self {
        Self::of(5, closed).await
    }

    /// One whose tables have pages above their leaves.
    async fn large() -> Self {
        Self::of(300, true).await
    }

    async fn of(keys: usize, closed: bool) -> Self {
        let disk = Disk::new();
        let store = rig::create_on(&disk).await.unwrap();
        let mut live = Vec::new();
        for number in 0..keys {
            let text = format!("key-{number:03}-{}", "x".repeat(1 + number % 50));
            rig::create(&store, &text).await.unwrap();
            live.push(text);
        }
        let deleted = vec!["deleted-one".to_owned(), "deleted-two".to_owned()];
        for text in &deleted {
            rig::create(&store, text).await.unwrap();
            store.delete(&name(text)).await.unwrap();
        }
        let crashed = disk.crash(0);
        store.close().await;
        drop(store);
        Self {
            image: if closed { disk.image() } else { crashed },
            live,
            deleted,
        }
    }

    /// Opens a damaged copy and tries everything with it. Whether the damage was noticed.
    async fn survives(&self, image: Vec<u8>, what: &str) -> bool {
        let opened = within(what, rig::open_on(&Disk::holding(image))).await;
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                assert!(rig::chain(&error).contains("sim"), "{what}: no path in {error:?}");
                return true;
            }
        };
        let mut noticed = false;
        for text in &self.live {
            match within(what, rig::present(&store, text)).await {
                Ok(there) => assert!(there, "{what}: {text} has vanished"),
                Err(_) => noticed = true,
            }
        }
        for text in &self.deleted {
            match within(what, store.get(&name(text))).await {
                Err(StoreError::NotFound) => {}
                Err(_) => noticed = true,
                Ok(_) => panic!("{what}: {text} is back"),
            }
        }
        match within(what, rig::list(&store, "")).await {
            Ok(names) => assert_eq!(names, self.live, "{what}: the listing"),
            Err(_) => noticed = true,
        }
        noticed |= within(what, store.info()).await.is_err();
        noticed |= within(what, store.ping()).await.is_err();
        // No name that is taken can be taken again.
        let creates = self.live.iter().chain(&self.deleted).map(|text| {
            let store = &store;
            async move {
                (
                    text,
                    store.create(&name(text), &SecretBytes::copy_of(b"another")).await,
                )
            }
        });
        for (text, again) in within(what, futures_util::future::join_all(creates)).await {
            match again {
                Err(StoreError::Exists) => {}
                Ok(()) => panic!("{what}: {text} could be created anew"),
                Err(StoreError::NotFound) => panic!("{what}: {text} is not found by a create"),
                Err(_) => noticed = true,
            }
        }
        match within(what, rig::create(&store, "new")).await {
            Ok(()) => assert!(
                within(what, rig::present(&store, "new")).await.unwrap(),
                "{what}: the new key"
            ),
            Err(StoreError::Exists) => panic!("{what}: a new key exists"),
            Err(_) => noticed = true,
        }
        let undeletes = self.deleted.iter().map(|text| {
            let store = &store;
            async move { (text, store.undelete(&name(text)).await) }
        });
        for (text, undeleted) in within(what, futures_util::future::join_all(undeletes)).await {
            match undeleted {
                Ok(()) => noticed |= !within(what, rig::present(&store, text)).await.unwrap_or(false),
                Err(StoreError::NotFound) => panic!("{what}: the deleted {text} has vanished"),
                Err(_) => noticed = true,
            }
        }
        within(what, store.close()).await;
        noticed
    }

    /// Tries every one of `flips`, on all processors. The number of those that were noticed.
    fn survives_all(&self, flips: &[Flip]) -> usize {
        let next = AtomicUsize::new(0);
        let noticed = AtomicUsize::new(0);
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            while let Some(flip) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut image = self.image.clone();
                *image.get_mut(flip.byte).unwrap() ^= 1 << flip.bit;
                let what = format!(
                    "bit {} of byte {} of page {}",
                    flip.bit,
                    flip.byte % PAGE,
                    flip.byte / PAGE
                );
                if runtime.block_on(self.survives(image, &what)) {
                    noticed.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        noticed.into_inner()
    }

    /// Where the pages are, each with its checksum.
    fn pages(&self) -> impl Iterator<Item = Range<usize>> {
        let slots = (PAGE..self.image.len()).step_by(SLOT);
        std::iter::once(0..PAGE).chain(slots.map(|start| start..start + SLOT))
    }

    /// The used parts of pages: to the last byte that is not zero, and the checksum.
    fn used(&self) -> Vec<usize> {
        let mut used = Vec::new();
        for page in self.pages() {
            let (content, checksum) = self.image[page.clone()].split_at(PAGE);
            if let Some(last) = content.iter().rposition(|byte| *byte != 0) {
                used.extend(page.start..=page.start + last);
                used.extend(page.end - checksum.len()..page.end);
            }
        }
        used
    }
}

#[derive(Clone, Copy)]
struct Flip {
    byte: usize,
    bit: u8,
}

/// One bit of each byte, another one for each; or all of them.
fn flips(bytes: impl IntoIterator<Item = usize>) -> Vec<Flip> {
    let all = std::env::var("KES_DAMAGE").is_ok_and(|text| text == "all");
    bytes
        .into_iter()
        .flat_map(|byte| {
            let chosen = Random::new(byte as u64).below(8);
            (0..8_u8)
                .filter(move |bit| all || usize::from(*bit) == chosen)
                .map(move |bit| Flip { byte, bit })
        })
        .collect()
}

/// All eight bits of each byte.
fn all_flips(bytes: impl IntoIterator<Item = usize>) -> Vec<Flip> {
    bytes
        .into_iter()
        .flat_map(|byte| (0..8).map(move |bit| Flip { byte, bit }))
        .collect()
}

/// An operation on a damaged store has to end too.
async fn within<T>(what: &str, operation: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), operation)
        .await
        .unwrap_or_else(|_| panic!("{what}: no answer"))
}

#[tokio::test]
async fn every_bit_of_the_database_header_may_flip() {
    let sample = Sample::small(true).await;
    // Two slots of 128 bytes follow 64 bytes; the rest of the page is not used.
    let noticed = sample.survives_all(&all_flips(0..320));
    assert!(noticed > 300, "{noticed} noticed");
    sample.survives_all(&flips(320..PAGE));
}

#[tokio::test]
async fn every_bit_of_the_database_header_may_flip_after_a_crash() {
    let sample = Sample::small(false).await;
    let noticed = sample.survives_all(&all_flips(0..320));
    assert!(noticed > 300, "{noticed} noticed");
}

#[tokio::test]
async fn a_bit_of_every_byte_of_a_small_store_may_flip() {
    let sample = Sample::small(true).await;
    let mut live = Vec::new();
    let mut other = Vec::new();
    for page in sample.pages().skip(1) {
        let mut image = sample.image.clone();
        image[page.clone()].fill(0);
        let is_live = sample
            .survives(image, &format!("without the page at {}", page.start))
            .await;
        let bytes = sample.used().into_iter().filter(|byte| page.contains(byte));
        if is_live {
            live.extend(bytes);
        } else {
            other.extend(bytes);
        }
    }
    let live = flips(live);
    let noticed = sample.survives_all(&live);
    println!("{} flips, {noticed} noticed", live.len());
    assert!(live.len() > 2000, "{} flips", live.len());
    // Each byte is covered by a checksum.
    assert_eq!(noticed, live.len());

    let mut random = Random::new(rig::arbitrary());
    let sampled = (0..300).filter_map(|_| other.get(random.below(other.len())).copied());
    sample.survives_all(&flips(sampled));
}

#[tokio::test]
async fn a_bit_anywhere_in_a_store_with_branches_may_flip() {
    let sample = Sample::large().await;
    let mut random = Random::new(rig::arbitrary());
    let used = sample.used();
    // Most where something is, some anywhere.
    let bytes: Vec<_> = (0..600)
        .map(|_| *used.get(random.below(used.len())).unwrap())
        .chain((0..100).map({
            let mut random = Random::new(rig::arbitrary());
            let len = sample.image.len();
            move |_| random.below(len)
        }))
        .collect();
    let noticed = sample.survives_all(&flips(bytes));
    assert!(noticed > 50, "{noticed} noticed");
}

#[tokio::test]
async fn a_file_may_end_or_go_on_anywhere() {
    for sample in [Sample::small(true).await, Sample::small(false).await] {
        let len = sample.image.len();
        let mut noticed = 0;
        for edge in sample.pages().map(|page| page.end).chain([0, 320, 336]) {
            for end in [edge.saturating_sub(1), edge, edge + 1] {
                if end < len {
                    let what = format!("cut off after {end} of {len} bytes");
                    noticed += usize::from(sample.survives(sample.image[..end].to_vec(), &what).await);
                }
            }
        }
        // Pages at the end may be of no use yet.
        assert!(noticed > 40, "{noticed} noticed");
        for more in [1, 512, SLOT - 1, SLOT, SLOT + 1, 16 * SLOT] {
            for byte in [0, 0xff] {
                let mut image = sample.image.clone();
                image.resize(len + more, byte);
                sample.survives(image, &format!("with {more} bytes more")).await;
            }
        }
        // A page that was never written, or written elsewhere.
        let mut random = Random::new(5);
        for page in sample.pages() {
            let mut image = sample.image.clone();
            image[page.clone()].fill(0);
            sample
                .survives(image, &format!("without the page at {}", page.start))
                .await;
            let mut image = sample.image.clone();
            let other = PAGE + random.below(len / SLOT) * SLOT;
            image.copy_within(other..other + page.len(), page.start);
            sample
                .survives(image, &format!("the page at {other} at {}", page.start))
                .await;
        }
    }
}

/// Every byte of the header, of its generation and of a value; and which part it is that the error names.
#[tokio::test]
async fn a_flipped_bit_in_a_sealed_part_is_an_error_that_names_the_part() {
    let sample = Sample::small(true).await;
    let engine = raw(&Disk::holding(sample.image.clone())).await;
    let record = engine.load_header().await.unwrap().unwrap();
    let text = sample.live.last().unwrap();
    let sealed = engine.get(&name(text)).await.unwrap().value;
    engine.close().await;
    drop(engine);

    for part in [&record.header, &record.generation] {
        for (at, flip) in sample.flips_in(part).await {
            let error = rig::open_on(&Disk::holding(sample.with(flip))).await;
            let Err(error) = error else {
                panic!("byte {at} of the header or generation does not matter")
            };
            assert!(rig::chain(&error).contains("sim"), "{error:?}");
        }
    }
    for (at, flip) in sample.flips_in(sealed.expose_secret()).await {
        let store = rig::open_on(&Disk::holding(sample.with(flip))).await.unwrap();
        let error = store.get(&name(text)).await.unwrap_err();
        let StoreError::Corrupt { reason } = &error else {
            panic!("byte {at} of the value: {error:?}");
        };
        assert!(reason.contains(text.as_str()), "no key in {reason:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_damaged_value_leaves_the_other_keys_readable() {
    let sample = Sample::large().await;
    let text = sample.live.get(150).unwrap();
    let engine = raw(&Disk::holding(sample.image.clone())).await;
    let sealed = engine.get(&name(text)).await.unwrap().value;
    engine.close().await;
    let (_, flip) = sample.flips_in(sealed.expose_secret()).await.swap_remove(10);
    let store = rig::open_on(&Disk::holding(sample.with(flip))).await.unwrap();
    let mut lost = 0;
    for text in &sample.live {
        match rig::present(&store, text).await {
            Ok(there) => assert!(there, "{text} has vanished"),
            Err(error) => {
                lost += 1;
                let error = rig::chain(&error);
                assert!(error.contains(text.as_str()), "{error}");
            }
        }
    }
    assert!((1..40).contains(&lost), "{lost} keys are lost with one page");
    match rig::list(&store, "").await {
        Ok(names) => assert_eq!(names, sample.live),
        Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}"),
    }
    rig::create(&store, "new").await.unwrap();
    store.delete(&name(sample.live.first().unwrap())).await.unwrap();
    store.close().await;
}

impl Sample {
    fn with(&self, flip: Flip) -> Vec<u8> {
        let mut image = self.image.clone();
        image[flip.byte] ^= 1 << flip.bit;
        image
    }

    /// A flip in each byte of `part`, where it is in use; pages of earlier commits hold copies of it.
    async fn flips_in(&self, part: &[u8]) -> Vec<(usize, Flip)> {
        let places: Vec<_> = self
            .image
            .windows(part.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == part)
            .map(|(place, _)| place)
            .collect();
        let mut used = None;
        for place in places {
            let flip = Flip { byte: place, bit: 0 };
            if self
                .survives(self.with(flip), "looking for the copy in use")
                .await
            {
                assert!(used.is_none(), "two copies are in use");
                used = Some(place);
            }
        }
        let place = used.unwrap();
        let bytes = place..place + part.len();
        let first = bytes.start;
        flips(bytes)
            .into_iter()
            .map(|flip| (flip.byte - first, flip))
            .collect()
    }
}

/// The tables without their seal.
async fn raw(disk: &Disk) -> Engine {
    let settings = Settings {
        path: Path::new("sim").to_owned(),
        undelete: Duration::ZERO,
    };
    Engine::open_on(Arc::new(disk.clone()), settings, rig::clock())
        .await
        .unwrap()
}

/// A store with the keys `alpha` and `beta`.
async fn store_with_two() -> Disk {
    let disk = Disk::new();
    let store = rig::create_on(&disk).await.unwrap();
    rig::create(&store, "alpha").await.unwrap();
    rig::create(&store, "beta").await.unwrap();
    store.close().await;
    disk
}

/// The sealed value of `text`.
async fn sealed(disk: &Disk, text: &str) -> SecretBytes {
    let engine = raw(disk).await;
    let value = engine.get(&name(text)).await.unwrap().value;
    engine.close().await;
    value
}

/// Puts `value` in the place of the sealed value of `text`, with all that the engine itself checks.
async fn replace(disk: &Disk, text: &str, value: &SecretBytes) {
    let engine = raw(disk).await;
    engine.delete(&name(text)).await.unwrap();
    engine.create(&name(text), value).await.unwrap();
    engine.close().await;
}

async fn assert_that_alpha_does_not_open(disk: &Disk) {
    let store = rig::open_on(disk).await.unwrap();
    let error = store.get(&name("alpha")).await.unwrap_err();
    let StoreError::Corrupt { reason } = &error else {
        panic!("{error:?}")
    };
    assert!(reason.contains("alpha"), "no key in {reason:?}");
    assert!(
        matches!(rig::create(&store, "alpha").await, Err(StoreError::Exists)),
        "the name stays taken"
    );
    assert!(
        rig::present(&store, "beta").await.unwrap(),
        "the other key is readable"
    );
    store.close().await;
}

#[tokio::test]
async fn a_value_copied_to_another_name_does_not_open() {
    let disk = store_with_two().await;
    let value = sealed(&disk, "beta").await;
    replace(&disk, "alpha", &value).await;
    assert_that_alpha_does_not_open(&disk).await;
}

#[tokio::test]
async fn a_value_of_another_store_does_not_open() {
    let (disk, other) = (store_with_two().await, store_with_two().await);
    let value = sealed(&other, "alpha").await;
    replace(&disk, "alpha", &value).await;
    assert_that_alpha_does_not_open(&disk).await;
    // The same way with its own value works, so it was not the way.
    let own = store_with_two().await;
    let value = sealed(&own, "alpha").await;
    replace(&own, "alpha", &value).await;
    let store = rig::open_on(&own).await.unwrap();
    assert!(rig::present(&store, "alpha").await.unwrap());
}

/// The pages of a store for redb, without what the store knows about its first page.
#[derive(Debug)]
struct Tables(Pages);

impl redb::StorageBackend for Tables {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

/// Changes the row `key` of `table`, as somebody with a tool could.
fn alter(disk: &Disk, table: &str, key: &str, change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) {
    let pages = Tables(Pages::over(Arc::new(disk.clone())));
    let database = Database::builder().create_with_backend(pages).unwrap();
    let mut transaction = database.begin_write().unwrap();
    transaction.set_two_phase_commit(true);
    {
        let table = TableDefinition::<&[u8], &[u8]>::new(table);
        let mut table = transaction.open_table(table).unwrap();
        let row = table.get(key.as_bytes()).unwrap().map(|row| row.value().to_vec());
        match change(row) {
            Some(row) => table.insert(key.as_bytes(), &row[..]).map(drop).unwrap(),
            None => table.remove(key.as_bytes()).map(drop).unwrap(),
        }
    }
    transaction.commit().unwrap();
}

async fn header(disk: &Disk) -> HeaderRecord {
    let engine = raw(disk).await;
    let record = engine.load_header().await.unwrap().unwrap();
    engine.close().await;
    record
}

/// Puts a header and a generation record in the place of those that are there.
async fn put(disk: &Disk, header: &HeaderRecord, generation: &HeaderRecord) {
    let engine = raw(disk).await;
    let before = engine.load_header().await.unwrap();
    let new = HeaderRecord {
        header: header.header.clone(),
        generation: generation.generation.clone(),
    };
    engine.replace_header(before.as_ref(), &new).await.unwrap();
    engine.close().await;
}

/// Opening is refused, and nothing on the disk changes.
async fn assert_refused(disk: &Disk, says: &[&str]) {
    let before = disk.image();
    let error = rig::open_on(disk).await.map(drop).unwrap_err();
    let text = rig::chain(&error);
    for word in says.iter().chain(&["sim"]) {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert!(disk.image() == before, "a refused store was changed: {text}");
}

#[tokio::test]
async fn an_older_header_or_generation_put_back_is_refused() {
    let disk = store_with_two().await;
    let old = header(&disk).await;
    let store = rig::open_sealed_on(&disk, vec![rig::seal(2), rig::seal(1)])
        .await
        .unwrap();
    store.close().await;
    let new = header(&disk).await;
    assert!(old.header != new.header && old.generation != new.generation);

    put(&disk, &old, &new).await;
    assert_refused(&disk, &["an older header or generation record"]).await;
    put(&disk, &new, &old).await;
    assert_refused(&disk, &["an older header or generation record"]).await;
    put(&disk, &new, &new).await;
    let store = rig::open_on(&disk).await.unwrap();
    assert!(rig::present(&store, "alpha").await.unwrap());
}

#[tokio::test]
async fn a_header_of_another_store_or_none_is_refused() {
    let (disk, other) = (store_with_two().await, store_with_two().await);
    let (own, others) = (header(&disk).await, header(&other).await);
    put(&disk, &others, &own).await;
    assert_refused(&disk, &["the generation record is damaged"]).await;
    put(&disk, &own, &others).await;
    assert_refused(&disk, &["the generation record is damaged"]).await;
    put(&disk, &own, &own).await;
    for part in ["header", "generation"] {
        let without = Disk::holding(disk.image());
        alter(&without, part, part, |_| None);
        assert_refused(&without, &["header"]).await;
    }
    // The same way with nothing altered works, so it was not the way.
    alter(&disk, "header", "header", |row| row);
    let store = rig::open_on(&disk).await.unwrap();
    assert!(rig::present(&store, "alpha").await.unwrap());
}

#[tokio::test]
async fn header_and_generation_of_another_store_open_none_of_the_values() {
    let (disk, other) = (store_with_two().await, store_with_two().await);
    let others = header(&other).await;
    put(&disk, &others, &others).await;
    let store = rig::open_on(&disk).await.unwrap();
    for text in ["alpha", "beta"] {
        let error = store.get(&name(text)).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_newer_or_damaged_format_is_refused() {
    let disk = store_with_two().await;
    alter(&disk, "meta", "format", |row| {
        let mut row = row.unwrap();
        *row.get_mut(7).unwrap() += 1;
        Some(row)
    });
    // It does not have the check of the new number.
    assert_refused(&disk, &["'format'"]).await;
    alter(&disk, "meta", "format", |_| None);
    assert_refused(&disk, &["format"]).await;
}

#[tokio::test]
async fn what_is_not_a_store_is_refused() {
    let mut random = Random::new(3);
    let noise: Vec<_> = (0..10_000).map(|_| random.below(256).to_le_bytes()[0]).collect();
    for image in [
        Vec::new(),
        vec![0],
        b"keystore:\n".to_vec(),
        vec![0; PAGE],
        vec![0; 100 * PAGE],
        noise,
    ] {
        assert_refused(&Disk::holding(image), &[]).await;
    }
    // A database, but not of ours.
    let disk = Disk::new();
    let database = Database::builder().create_with_backend(Tables(Pages::over(Arc::new(disk.clone()))));
    drop(database.unwrap());
    assert_refused(&disk, &[]).await;
}
