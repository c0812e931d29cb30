//! The deb and rpm packages.
//!
//! nfpm makes both out of one description, `deploy/package/nfpm.yaml`, and takes every time in them from us. `cargo-deb` and
//! `cargo-generate-rpm` are two programs with two descriptions, and take longer to compile than this takes in all.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use kes_peers::process::run;

use super::{PATIENCE, Release};
use crate::cargo;

/// A folder with everything that goes into a package.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// Fills one. Manual pages and completions are what the executable itself says.
    pub(crate) fn fill(release: &Release, executable: &Path, licenses: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::copy(executable, at("kes"))?;
        fs::set_permissions(at("kes"), fs::Permissions::from_mode(0o755))?;
        for (file, name) in FILES {
            fs::copy(cargo::root().join(file), at(name)).with_context(|| format!("copying {file}"))?;
        }
        fs::write(at("third-party-licenses"), licenses)?;
        fs::create_dir(at("completion"))?;
        for shell in ["bash", "zsh", "fish"] {
            let mut command = Command::new(at("kes"));
            command.args(["completion", shell]);
            let script = run(&mut command, PATIENCE)?.expect_success()?;
            fs::write(at(&format!("completion/kes.{shell}")), script)?;
        }
        run(Command::new(at("kes")).arg("man").arg(at("man")), PATIENCE)?.expect_success()?;
        let mut compressed = vec![at("third-party-licenses"), at("CHANGELOG.md")];
        for entry in fs::read_dir(at("man"))? {
            compressed.push(entry?.path());
        }
        // Without name and time in it.
        run(Command::new("gzip").arg("-9n").args(&compressed), PATIENCE)?.expect_success()?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(release.time);
        set_times(folder.path(), time)?;
        Ok(Self { folder })
    }

    /// Writes something at the end of a file.
    pub(crate) fn append(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(file);
        let old = fs::read_to_string(&path)?;
        Ok(fs::write(path, old + text)?)
    }

    /// Makes the package of this kind, `deb` or `rpm`, in `target`.
    pub(crate) fn package(&self, kind: &str, release: &Release, target: &Path) -> Result<PathBuf> {
        let name = match kind {
            "deb" => format!("kes_{}-1_amd64.deb", release.version),
            _ => format!("kes-{}-1.x86_64.rpm", release.version),
        };
        let path = target.join(name);
        run(
            Command::new(kes_peers::nfpm()?)
                .args(["package", "--packager", kind, "--config", "nfpm.yaml", "--target"])
                .arg(&path)
                .current_dir(self.folder.path())
                .env("ARCH", "amd64")
                .env("VERSION", &release.version)
                .env("MAINTAINER", MAINTAINER)
                // Of all that has no time of its own.
                .env("SOURCE_DATE_EPOCH", release.time.to_string()),
            PATIENCE,
        )?
        .expect_success()?;
        ensure!(path.is_file(), "nfpm has made no {}", path.display());
        Ok(path)
    }
}

/// Files are as old as the commit, whoever has copied them when.
fn set_times(path: &Path, time: SystemTime) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            set_times(&entry?.path(), time)?;
        }
    }
    File::open(path)?.set_modified(time)?;
    Ok(())
}

/// What is taken as it is, and its name in the folder.
const FILES: [(&str, &str); 10] = [
    ("LICENSE", "LICENSE"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("deploy/systemd/kes.service", "kes.service"),
    ("deploy/systemd/kes.sysusers", "kes.sysusers"),
    ("deploy/package/nfpm.yaml", "nfpm.yaml"),
    ("deploy/package/config.yml", "config.yml"),
    ("deploy/package/preinstall.sh", "preinstall.sh"),
    ("deploy/package/postinstall.sh", "postinstall.sh"),
    ("deploy/package/preremove.sh", "preremove.sh"),
    ("deploy/package/postremove.sh", "postremove.sh"),
];

const MAINTAINER: &str = "The KES authors <kes@localhost>";
