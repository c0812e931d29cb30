//! Storing objects through MinIO and reading them back.

use std::path::PathBuf;

use anyhow::Result;

use super::files;
use super::mc::{self, Mc};
use super::world::World;

/// Stores a new object, reads it back, compares, and answers what `stat` says of its encryption.
pub(super) fn round_trip(world: &World, target: &str, length: usize) -> Result<(String, String)> {
    let sent = write(world, target, length)?;
    world.mc.put(&sent, target)?;
    read_again(world, target)?;
    world.mc.encryption(target)
}

/// Reads an object stored before and compares it with what was sent.
pub(super) fn read_again(world: &World, target: &str) -> Result<()> {
    read_again_as(&world.mc, world, target)
}

/// The same as another user of MinIO.
pub(super) fn read_again_as(mc: &Mc, world: &World, target: &str) -> Result<()> {
    let back = world.file("back");
    mc.get(target, &back)?;
    files::same(&sent(world, target), &back)
}

/// Fails if an object can be read.
pub(super) fn unreadable(world: &World, target: &str) -> Result<()> {
    world
        .mc
        .run(&["cp", target, mc::utf8(&world.file("back"))?])?
        .expect_failure()
        .map(drop)
}

/// Makes the file that is to be stored as `target`.
pub(super) fn write(world: &World, target: &str, length: usize) -> Result<PathBuf> {
    let path = sent(world, target);
    let seed = target.bytes().fold(length as u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    });
    files::write(&path, length, seed)?;
    Ok(path)
}

fn sent(world: &World, target: &str) -> PathBuf {
    world.file(&format!("sent-{}", target.replace('/', "-")))
}
