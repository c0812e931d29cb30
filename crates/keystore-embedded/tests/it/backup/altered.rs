//! Backups that were damaged on their way, or that somebody has altered with more or less knowledge.

use std::fs;

use kes_keystore::KeyStore as _;
use kes_keystore_embedded::restore;
use kes_seal::Seals;

use super::form::{Entry, Form};
use super::{World, checked, files, quiet, verified};
use crate::rig;
use crate::sim::Random;

#[tokio::test]
async fn a_backup_has_the_documented_form() {
    let world = World::new().await;
    world.fill(40).await;
    world.store.delete(&rig::name("key-0003")).await.unwrap();
    let backup = world.backup().await;
    let form = Form::read(&backup);
    assert_eq!(form.write(), fs::read(&backup).unwrap());
    assert_eq!(form.content_digest(), checked(&backup).digest);
    let names: Vec<_> = form.entries.iter().map(|entry| &*entry.name).collect();
    assert!(names.is_sorted() && names.len() == 40);
    let key = form.key().await;
    assert_eq!(key.store_id(), form.store_id);
    for Entry { name, sealed, .. } in &form.entries {
        let value = key.open_value(name, sealed).unwrap();
        assert_eq!(value.expose_secret(), rig::value_of(name).expose_secret());
    }
    // And one that is put together from what the document says is a backup.
    let again = world.folder.join("again");
    fs::write(&again, form.write_with(&key)).unwrap();
    verified(&again, one_seal()).await.unwrap();
}

#[tokio::test]
async fn each_flipped_bit_of_a_small_backup_is_refused() {
    let world = World::new().await;
    world.fill(2).await;
    world.store.delete(&rig::name("key-0001")).await.unwrap();
    let whole = fs::read(world.backup().await).unwrap();
    let altered = world.folder.join("altered");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&altered, bytes).unwrap();
            let result = verified(&altered, one_seal()).await;
            assert!(result.is_err(), "bit {bit} of byte {at}: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_small_backup_that_ends_too_early_is_refused_wherever_it_ends() {
    let world = World::new().await;
    world.fill(2).await;
    let whole = fs::read(world.backup().await).unwrap();
    let cut = world.folder.join("cut");
    for length in 0..whole.len() {
        fs::write(&cut, &whole[..length]).unwrap();
        assert!(verified(&cut, one_seal()).await.is_err(), "{length}");
    }
    fs::write(&cut, [&whole[..], &[0]].concat()).unwrap();
    assert!(verified(&cut, one_seal()).await.is_err(), "one byte more");
}

#[tokio::test]
async fn an_altered_large_backup_is_refused_and_leaves_nothing_behind() {
    let world = World::new().await;
    world.fill(700).await;
    let whole = fs::read(world.backup().await).unwrap();
    assert!(whole.len() > 300_000);
    let (altered, restored) = (world.folder.join("altered"), world.folder.join("restored.redb"));
    let mut random = Random::new(4);
    for round in 0..200 {
        let mut bytes = whole.clone();
        let at = random.below(bytes.len());
        match round % 4 {
            0 => bytes.truncate(at),
            1 => {
                bytes.remove(at);
            }
            2 => bytes.insert(at, 1),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        fs::write(&altered, bytes).unwrap();
        let result = verified(&altered, one_seal()).await;
        assert!(result.is_err(), "round {round}, byte {at}: {result:?}");
        if round % 10 < 4 {
            let result = restore(&altered, rig::config(&restored), world.clock.clone(), quiet()).await;
            assert!(result.is_err(), "round {round}, byte {at}: {result:?}");
            assert_eq!(files(&world.folder), ["altered", "backup", "keys.redb"]);
        }
    }
}

/// What somebody without the root key can make of backups.
#[tokio::test]
async fn what_another_has_put_together_is_refused() {
    let (world, other) = (World::new().await, World::new().await);
    for world in [&world, &other] {
        world.fill(4).await;
    }
    let (form, old) = (
        Form::read(&world.backup().await),
        Form::read(&other.backup().await),
    );
    world.store.delete(&rig::name("key-0002")).await.unwrap();
    let newer = Form::read(&world.backup_as("newer").await);

    let forge = |alter: fn(&mut Form, &Form, &Form)| {
        let mut forged = form.clone();
        alter(&mut forged, &old, &newer);
        forged.write()
    };
    for (what, bytes, text) in [
        (
            "an entry left out",
            forge(|form, _, _| drop(form.entries.remove(1))),
            "altered, or put together",
        ),
        (
            "an entry brought back",
            forge(|form, _, newer| {
                let entry = form.entries[2].clone();
                *form = newer.clone();
                form.entries[2] = entry;
            }),
            "altered, or put together",
        ),
        (
            "two values swapped",
            forge(|form, _, _| swap_values(form)),
            "the value of key 'key-0000'",
        ),
        (
            "a value of another store",
            forge(|form, other, _| form.entries[0].sealed.clone_from(&other.entries[0].sealed)),
            "the value of key 'key-0000'",
        ),
        (
            "all entries of another store",
            forge(|form, other, _| form.entries.clone_from(&other.entries)),
            "the value of key 'key-0000'",
        ),
        (
            "the beginning of another store",
            forge(|form, other, _| {
                form.store_id = other.store_id;
                form.record = other.record.clone();
            }),
            "the value of key 'key-0000'",
        ),
        (
            "the id of another store",
            forge(|form, other, _| form.store_id = other.store_id),
            "but its header is that of store",
        ),
        (
            "the tag of another backup",
            forge(|form, _, newer| form.tag.clone_from(&newer.tag)),
            "altered, or put together",
        ),
        (
            "no tag",
            forge(|form, _, _| form.tag.clear()),
            "altered, or put together",
        ),
    ] {
        assert_refused(&world, &bytes, what, text).await;
    }
}

/// What even the holder of the root key cannot make a reader believe, and what a broken program might write.
#[tokio::test]
async fn a_value_opens_under_its_name_only_whoever_has_made_the_backup() {
    let (world, other) = (World::new().await, World::new().await);
    for world in [&world, &other] {
        world.fill(4).await;
    }
    let form = Form::read(&world.backup().await);
    let key = form.key().await;

    let mut swapped = form.clone();
    swap_values(&mut swapped);
    let bytes = swapped.write_with(&key);
    assert_refused(&world, &bytes, "swapped", "the value of key 'key-0000'").await;

    let mut moved = form.clone();
    moved.entries[3].name = "key-0004".to_owned();
    let bytes = moved.write_with(&key);
    assert_refused(&world, &bytes, "moved", "the value of key 'key-0004'").await;

    let mut mixed = form.clone();
    let others = Form::read(&other.backup().await);
    mixed.entries[2].sealed.clone_from(&others.entries[2].sealed);
    let bytes = mixed.write_with(&key);
    assert_refused(&world, &bytes, "mixed", "the value of key 'key-0002'").await;

    let mut order = form.clone();
    order.entries.swap(0, 1);
    let bytes = order.write_with(&key);
    assert_refused(&world, &bytes, "order", "order of names").await;

    let mut twice = form.clone();
    twice.entries.insert(1, twice.entries[0].clone());
    let bytes = twice.write_with(&key);
    assert_refused(&world, &bytes, "twice", "order of names").await;

    let mut header = form.clone();
    header.record.generation.clone_from(&others.record.generation);
    let bytes = header.write_with(&key);
    assert_refused(&world, &bytes, "the generation of another store", "generation").await;
}

#[tokio::test]
async fn an_older_header_is_refused_in_a_backup_too() {
    let world = World::new().await;
    world.fill(1).await;
    let old = Form::read(&world.backup().await);
    let both = vec![rig::seal(2), rig::seal(1)];
    world.store.reconfigure(both, rig::UNDELETE).await.unwrap();
    let mut form = Form::read(&world.backup().await);
    let key = form.key().await;
    form.record.header.clone_from(&old.record.header);
    let bytes = form.write_with(&key);
    assert_refused(&world, &bytes, "an older header", "header").await;
}

fn swap_values(form: &mut Form) {
    let [first, second, ..] = &mut *form.entries else {
        panic!("there are two values");
    };
    std::mem::swap(&mut first.sealed, &mut second.sealed);
}

async fn assert_refused(world: &World, bytes: &[u8], what: &str, text: &str) {
    let forged = world.folder.join("forged");
    fs::write(&forged, bytes).unwrap();
    let before = files(&world.folder);
    let error = verified(&forged, one_seal()).await.expect_err(what);
    let shown = rig::chain(&error);
    assert!(
        shown.contains(text) && shown.contains("forged"),
        "{what}: {shown}"
    );
    let to = rig::config(&world.folder.join("restored.redb"));
    let error = restore(&forged, to, world.clock.clone(), quiet())
        .await
        .expect_err(what);
    assert_eq!(rig::chain(&error), shown);
    assert_eq!(files(&world.folder), before, "{what}");
}

fn one_seal() -> Seals {
    vec![rig::seal(1)]
}
