//! Two KES servers on one store, both known to MinIO.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use kes_peers::process::{PATIENCE, wait_until};
use serde_json::Value;

use super::objects::{self, read_again, round_trip};
use super::world::World;
use super::{Step, files, mc};

pub(super) const STEPS: &[Step] = &[
    ("a key made on one server works on the other", shared_store),
    ("one server is killed again and again under load", first_killed),
    (
        "the other server is killed again and again under load",
        second_killed,
    ),
    (
        "a deleted key is gone on the other server once its cache time is over",
        deleted_key,
    ),
];

/// The server whose cache keeps keys for minutes, and the one that forgets them soon.
const FIRST: usize = 0;
const SECOND: usize = 1;

fn shared_store(world: &mut World) -> Result<()> {
    world
        .as_admin
        .ok(world.server(FIRST)?, &["key", "create", "shared"])?;
    let ciphertext = sealed(world, FIRST, "shared")?;
    world
        .as_admin
        .ok(world.server(SECOND)?, &["key", "decrypt", "shared", &ciphertext])?;
    world.mc.bucket("shared", &["sse-kms", "shared"])?;
    round_trip(world, "m/shared/object", 1_000)?;
    Ok(())
}

fn first_killed(world: &mut World) -> Result<()> {
    killed_under_load(world, FIRST, "first")?;
    world.start_kes(FIRST)
}

fn second_killed(world: &mut World) -> Result<()> {
    killed_under_load(world, SECOND, "second")?;
    world.start_kes(SECOND)
}

/// Kills a server again and again while thousands of objects are being stored, and leaves it dead: all of them must arrive, and be
/// readable. There are more objects where it goes fast: until it has been killed often enough. A request that is under way when its server dies goes to the other one, and MinIO's client may have lost its
/// body by then; an object that is stored all the same is one that nobody can read.
fn killed_under_load(world: &mut World, index: usize, name: &str) -> Result<()> {
    const ENOUGH: usize = 6;
    let (mut kills, mut round) = (0, 0);
    while kills < ENOUGH {
        round += 1;
        if !world.server_mut(index)?.runs() {
            world.start_kes(index)?;
        }
        let killed = killed_under_one_load(world, index, &format!("{name}-{round}"))?;
        ensure!(killed > 0, "a load of 1,000 objects was over before one kill");
        kills += killed;
    }
    read_again(world, "m/shared/object")
}

/// How often it has been killed.
fn killed_under_one_load(world: &mut World, index: usize, name: &str) -> Result<usize> {
    const OBJECTS: usize = 1_000;
    let (folder, back) = (
        world.file(&format!("load-{name}")),
        world.file(&format!("back-{name}")),
    );
    files::folder(&folder, OBJECTS)?;
    let target = format!("m/shared/{name}");
    let client = world.mc.clone();
    let load = {
        let (folder, target) = (mc::utf8(&folder)?.to_owned(), target.clone());
        thread::spawn(move || client.run(&["mirror", &folder, &target]))
    };
    let mut kills = 0;
    loop {
        let before = world.audited("/v1/key/generate/shared")?;
        wait_until("the load to go on", PATIENCE, || {
            let done = world.audited("/v1/key/generate/shared")? - before;
            Ok(Some(()).filter(|()| done >= OBJECTS / 50 || load.is_finished()))
        })?;
        if load.is_finished() {
            break;
        }
        world.server_mut(index)?.kill()?;
        kills += 1;
        if load.is_finished() {
            break;
        }
        world.start_kes(index)?;
    }
    load.join()
        .map_err(|_| anyhow!("the load panicked"))??
        .expect_success()?;
    if world.server_mut(index)?.runs() {
        world.server_mut(index)?.kill()?;
    }
    world.mc.ok(&["mirror", &target, mc::utf8(&back)?])?;
    files::same_folder(&folder, &back)?;
    Ok(kills)
}

fn deleted_key(world: &mut World) -> Result<()> {
    world.mc.ok(&["admin", "kms", "key", "create", "m", "doomed"])?;
    world.mc.bucket("doomed", &["sse-kms", "doomed"])?;
    round_trip(world, "m/doomed/object", 1_000)?;
    // Both servers hold the key now, whichever of them MinIO has asked.
    let ciphertext = sealed(world, FIRST, "doomed")?;
    let decrypt = ["key", "decrypt", "doomed", ciphertext.as_str()];
    world.as_admin.ok(world.server(SECOND)?, &decrypt)?;
    world
        .as_admin
        .ok(world.server(FIRST)?, &["key", "rm", "doomed"])?;
    let gone = world
        .as_admin
        .run(world.server(FIRST)?, &decrypt)?
        .expect_failure()?;
    ensure!(
        gone.contains("key does not exist"),
        "the server that deleted the key says {gone}"
    );
    let gone = wait_until("the other server to forget the key", PATIENCE, || {
        Ok(world
            .as_admin
            .run(world.server(SECOND)?, &decrypt)?
            .expect_failure()
            .ok())
    })?;
    ensure!(
        gone.contains("key does not exist"),
        "the other server says {gone}"
    );
    // Whichever server MinIO asks.
    for _ in 0..4 {
        objects::unreadable(world, "m/doomed/object")?;
    }
    read_again(world, "m/shared/object")
}

/// The ciphertext of a new data key, made by one of the servers.
fn sealed(world: &World, index: usize, key: &str) -> Result<String> {
    let printed = world.as_admin.ok(world.server(index)?, &["key", "dek", key])?;
    let data_key: Value = serde_json::from_str(&printed).context("kes key dek prints no JSON")?;
    let ciphertext = data_key
        .get("ciphertext")
        .and_then(Value::as_str)
        .context("a data key has a ciphertext")?;
    Ok(ciphertext.to_owned())
}
