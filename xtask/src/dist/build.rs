//! The static executable, whose bytes do not say where it was built.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use kes_peers::process::run;

use super::{PATIENCE, Release, TARGET};
use crate::cargo;

/// Where a release is built.
///
/// Not in the checkout: what is built is a commit, in a folder that stays, where only files that differ from the commit before are
/// written. So only what has changed is compiled anew, in a new clone as well.
#[derive(Debug)]
pub(crate) struct Place {
    source: PathBuf,
    index: PathBuf,
    target: PathBuf,
}

impl Place {
    /// The one in the user's cache.
    pub(crate) fn usual() -> Result<Self> {
        let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| Path::new(folder).is_absolute()) {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        Ok(Self::in_folder(&base.join("kes/dist")))
    }

    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            source: folder.join("source"),
            index: folder.join("index"),
            target: folder.join("target"),
        }
    }

    /// The sources, as they are after a build.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Builds the executable and answers where it is.
    pub(crate) fn build(&self, release: &Release) -> Result<PathBuf> {
        // Two at once would each write the sources under the other.
        fs::create_dir_all(self.source.parent().context("a place is a folder")?)?;
        let lock = File::create(self.source.with_extension("lock"))?;
        lock.lock()?;
        self.check_out(release)?;
        let mut flags = vec![
            OsString::from("-Ctarget-feature=+crt-static"),
            remap(&self.source, "/kes"),
            remap(&self.target, "/target"),
        ];
        for folder in self.registries()? {
            flags.push(remap(&folder, "/crates"));
        }
        let output = cargo::command("build")
            .current_dir(&self.source)
            .args([
                "--locked",
                "--profile",
                "dist",
                "--package",
                "kes-cli",
                "--bin",
                "kes",
            ])
            // Said, although it is the host's: without it, build scripts and procedural macros would be linked statically, too.
            .args(["--target", TARGET])
            .args(["--message-format", "json-render-diagnostics"])
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")))
            .env("CARGO_INCREMENTAL", "0")
            .env("KES_COMMIT", &release.commit)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("starting cargo build")?;
        if !output.status.success() {
            bail!("kes does not build: {}", output.status);
        }
        cargo::executables(&output.stdout)
            .into_iter()
            .find(|(name, _)| name == "kes")
            .map(|(_, path)| path)
            .context("cargo build names no executable")
    }

    /// The folders that cargo unpacks crates into, one for each registry: their names depend on how a machine reaches it.
    fn registries(&self) -> Result<Vec<PathBuf>> {
        let mut fetch = cargo::command("fetch");
        fetch.args(["--locked", "--quiet"]).current_dir(&self.source);
        run(&mut fetch, PATIENCE)?.expect_success()?;
        let home = match env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        let folder = home.join("registry/src");
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let mut folders = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        folders.sort();
        Ok(folders)
    }

    /// Makes the folder of the sources that of the commit.
    fn check_out(&self, release: &Release) -> Result<()> {
        fs::create_dir_all(&self.source)?;
        // An index of its own: git remembers in it what it has written here, and leaves the checkout's alone.
        run(
            super::git_command()
                .arg("--work-tree")
                .arg(&self.source)
                .args(["read-tree", "--reset", "-u", &release.commit])
                .env("GIT_INDEX_FILE", &self.index),
            PATIENCE,
        )?
        .expect_success()?;
        Ok(())
    }
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}
