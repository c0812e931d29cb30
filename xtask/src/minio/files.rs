//! Files to store, and whether they come back byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A file of `length` bytes that do not compress or repeat, different for each `seed`.
pub(super) fn write(path: &Path, length: usize, seed: u64) -> Result<()> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64: good enough to tell any two places of a file apart.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// A new folder of `count` small files of different lengths, the empty one among them.
pub(super) fn folder(path: &Path, count: usize) -> Result<()> {
    fs::create_dir_all(path)?;
    for index in 0..count {
        write(&path.join(format!("object-{index:04}")), index * 7, index as u64)?;
    }
    Ok(())
}

/// Fails unless both files have the same bytes.
pub(super) fn same(left: &Path, right: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    ensure!(
        read(left)? == read(right)?,
        "{} and {} differ",
        left.display(),
        right.display()
    );
    Ok(())
}

/// Fails unless both folders have the same files with the same bytes.
pub(super) fn same_folder(left: &Path, right: &Path) -> Result<()> {
    let (ours, theirs) = (names(left)?, names(right)?);
    ensure!(
        ours == theirs,
        "{} has {} files, {} has {}",
        left.display(),
        ours.len(),
        right.display(),
        theirs.len()
    );
    ours.iter()
        .try_for_each(|name| same(&left.join(name), &right.join(name)))
}

/// Whether any file below a folder contains these bytes.
pub(super) fn contain(folder: &Path, needle: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            contain(&path, needle)?
        } else {
            fs::read(&path)?
                .windows(needle.len())
                .any(|window| window == needle)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
