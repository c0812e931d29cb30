//! What tests need and the repository does not have: fetched or built once, kept in the user's cache folder.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::run;

/// How long one step of a build may take: the longest of them compiles a million lines of Go on two busy cores.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// A program of the Go package `package` at `version`, such as `github.com/minio/mc`. Its name is the last part of the package's.
///
/// # Errors
///
/// If it is not in the cache and cannot be built.
pub fn go_program(package: &str, version: &str) -> Result<PathBuf> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let folder = once(&format!("{name}-{version}"), name, |aside| {
        run(
            go(aside)
                .args(["install", &format!("{package}@{version}")])
                .env("GOBIN", aside),
            BUILD_LIMIT,
        )?
        .expect_success()?;
        Ok(())
    })?;
    Ok(folder.join(name))
}

/// A program of the Rust package `package` at `version`, of the same name, built with these `options` of `cargo install`.
///
/// # Errors
///
/// If it is not in the cache and cannot be built.
pub fn cargo_program(package: &str, version: &str, options: &[&str]) -> Result<PathBuf> {
    let program = format!("bin/{package}");
    let folder = once(&format!("{package}-{version}"), &program, |aside| {
        run(
            Command::new("cargo")
                .args(["install", "--locked", "--quiet", "--version", version, package])
                .args(options)
                .arg("--root")
                .arg(aside),
            BUILD_LIMIT,
        )?
        .expect_success()?;
        Ok(())
    })?;
    Ok(folder.join(program))
}

/// A program of ours on Go libraries: `name` in `version`, made from `sources`, which are file names and texts, once `prepare` has put
/// beside them what else it needs.
pub(crate) fn go_source(
    name: &str,
    version: &str,
    sources: &[(&str, &str)],
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    // A change of the sources is another program. Another hash after an update of Rust only means another build.
    let mut hash = DefaultHasher::new();
    sources.hash(&mut hash);
    let folder = once(
        &format!("{name}-{version}-{:016x}", hash.finish()),
        name,
        |aside| {
            let work = tempfile::tempdir()?;
            for (file, text) in sources {
                fs::write(work.path().join(file), text)?;
            }
            prepare(work.path())?;
            run(
                go(work.path())
                    .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
                    .args([aside.join(name).as_path(), Path::new(".")]),
                BUILD_LIMIT,
            )?
            .expect_success()?;
            Ok(())
        },
    )?;
    Ok(folder.join(name))
}

/// The Go command, run in `folder`, with nothing of the user's settings that would change what is built.
pub(crate) fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .current_dir(folder);
    command
}

/// The folder `name` of the cache, made by `build` if `proof` is not in it.
///
/// Built aside and renamed, so that an interrupted build is never taken for a finished one. Two processes that need the same thing
/// build it once: the second waits for the first.
pub(crate) fn once(name: &str, proof: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    once_in(&cache()?, name, proof, |aside| {
        // Past the capture of the test harness: somebody who waits for minutes must see why.
        let _ = writeln!(io::stderr(), "building {name}, once");
        build(aside)
    })
}

fn once_in(
    cache: &Path,
    name: &str,
    proof: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = cache.join(name);
    if folder.join(proof).exists() {
        return Ok(folder);
    }
    let path = cache.join(format!("{name}.lock"));
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    if folder.join(proof).exists() {
        return Ok(folder);
    }
    // Nobody else has it: what is there is of a build that was interrupted.
    let aside = cache.join(format!("{name}.part"));
    remove(&aside)?;
    fs::create_dir(&aside).with_context(|| format!("making {}", aside.display()))?;
    if let Err(error) = build(&aside) {
        remove(&aside)?;
        return Err(error.context(format!("building {name}")));
    }
    remove(&folder)?;
    fs::rename(&aside, &folder).with_context(|| format!("keeping {}", folder.display()))?;
    Ok(folder)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let folder = base.join("kes-peers");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn what_many_need_at_once_is_built_once() {
        let cache = tempfile::tempdir().unwrap();
        let builds = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folder = once_in(cache.path(), "thing-1", "bin/thing", |aside| {
                        builds.fetch_add(1, Ordering::Relaxed);
                        fs::create_dir(aside.join("bin"))?;
                        Ok(fs::write(aside.join("bin/thing"), "made")?)
                    })
                    .unwrap();
                    assert_eq!(fs::read(folder.join("bin/thing")).unwrap(), b"made");
                });
            }
        });
        assert_eq!(builds.into_inner(), 1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_that_is_taken_for_a_finished_one() {
        let cache = tempfile::tempdir().unwrap();
        let error = once_in(cache.path(), "thing-1", "thing", |aside| {
            fs::write(aside.join("thing"), "half")?;
            anyhow::bail!("no network")
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "building thing-1: no network");
        once_in(cache.path(), "thing-1", "thing", |aside| {
            Ok(fs::write(aside.join("thing"), "whole")?)
        })
        .unwrap();
        assert_eq!(fs::read(cache.path().join("thing-1/thing")).unwrap(), b"whole");
        assert!(!cache.path().join("thing-1.part").exists());
    }

    #[test]
    fn what_is_damaged_or_left_of_an_interrupted_build_is_built_again() {
        let cache = tempfile::tempdir().unwrap();
        for folder in ["thing-1", "thing-1.part"] {
            fs::create_dir(cache.path().join(folder)).unwrap();
            fs::write(cache.path().join(folder).join("other"), "").unwrap();
        }
        once_in(cache.path(), "thing-1", "thing", |aside| {
            Ok(fs::write(aside.join("thing"), "")?)
        })
        .unwrap();
        assert!(!cache.path().join("thing-1/other").exists());
    }
}
