//! Programs of Debian's packages, used without installing them and without being root.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::install::{BUILD_LIMIT, once};
use crate::process::run;

/// The files of some Debian packages, unpacked into the cache. No script of theirs has run.
///
/// ```no_run
/// let prometheus = kes_peers::Debian::unpack(&["prometheus"])?;
/// prometheus.command("promtool")?.arg("--version").status()?;
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// Unpacks these packages and nothing else: the first gives the programs, the others are what it needs and a small system may
    /// lack. `name=version` asks for one version; Debian keeps only the newest of a release, so that is rarely wise.
    ///
    /// The packages are those of the system's own `/etc/apt`, with lists fetched anew into a folder of ours.
    ///
    /// # Errors
    ///
    /// If this is not Debian or one of its kin, or a package cannot be had.
    pub fn unpack(packages: &[&str]) -> Result<Self> {
        let first = packages.first().context("no package is named")?;
        let mut hash = DefaultHasher::new();
        packages.hash(&mut hash);
        let name = format!("debian-{}-{:016x}", first.replace('=', "-"), hash.finish());
        let folder = once(&name, COMPLETE, |aside| {
            let apt = Apt::updated()?;
            apt.download(packages)?;
            let root = aside.join("root");
            for package in apt.downloaded()? {
                run(
                    Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root),
                    BUILD_LIMIT,
                )?
                .expect_success()?;
            }
            // Programs that look beside themselves, as fish does, take /usr for their prefix and want its etc.
            if root.join("etc").is_dir() && root.join("usr").is_dir() && !root.join("usr/etc").exists() {
                symlink("../etc", root.join("usr/etc"))?;
            }
            Ok(fs::write(aside.join(COMPLETE), packages.join("\n"))?)
        })?;
        Ok(Self {
            root: folder.join("root"),
        })
    }

    /// Where the files are: a package's `/usr/share/x` is `usr/share/x` in here.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the program of this name is.
    ///
    /// # Errors
    ///
    /// If the packages have none.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        for folder in [
            "usr/bin",
            "bin",
            "usr/sbin",
            "sbin",
            "usr/lib/systemd",
            "lib/systemd",
        ] {
            let program = self.root.join(folder).join(name);
            if program.is_file() {
                return Ok(program);
            }
        }
        bail!("no program '{name}' in {}", self.root.display())
    }

    /// The program of this name, told where the libraries of the packages are. What it starts is told the same.
    ///
    /// # Errors
    ///
    /// If the packages have none.
    pub fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.program(name)?);
        let libraries = self.libraries()?;
        if !libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(command)
    }

    /// The folders with libraries in the form of `LD_LIBRARY_PATH`; empty if there are none.
    ///
    /// # Errors
    ///
    /// If the folders cannot be read.
    pub fn libraries(&self) -> Result<OsString> {
        let mut folders = Vec::new();
        for parent in ["usr/lib", "lib"] {
            let Ok(entries) = fs::read_dir(self.root.join(parent)) else {
                continue;
            };
            for entry in entries {
                let path = entry?.path();
                // The folder of an architecture, such as x86_64-linux-gnu, and systemd's own in there.
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() && name.contains("-linux-gnu") {
                    folders.extend(Some(path.join("systemd")).filter(|folder| folder.is_dir()));
                    folders.push(path);
                }
            }
        }
        folders.sort();
        Ok(env::join_paths(folders)?)
    }
}

/// `apt-get` with lists and a cache of its own: no root, nobody's lock, and lists that are as new as the packages.
struct Apt {
    folder: tempfile::TempDir,
}

impl Apt {
    fn updated() -> Result<Self> {
        let apt = Self {
            folder: tempfile::tempdir()?,
        };
        for folder in ["state/lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(apt.folder.path().join(folder))?;
        }
        run(apt.command().arg("update"), BUILD_LIMIT)
            .context("asking apt-get for packages, which needs Debian or one of its kin")?
            .expect_success()?;
        Ok(apt)
    }

    fn download(&self, packages: &[&str]) -> Result<()> {
        run(self.command().arg("download").args(packages), BUILD_LIMIT)?.expect_success()?;
        Ok(())
    }

    fn downloaded(&self) -> Result<Vec<PathBuf>> {
        let mut packages = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("packages"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                packages.push(path);
            }
        }
        packages.sort();
        Ok(packages)
    }

    fn command(&self) -> Command {
        let at = |name: &str, folder: &str| {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.folder.path().join(folder));
            option
        };
        let mut command = Command::new("apt-get");
        command
            .arg("--quiet=2")
            .arg("-o")
            .arg(at("Dir::State", "state"))
            .arg("-o")
            .arg(at("Dir::Cache", "cache"))
            // Else root hands the download to a user who may not enter the folder.
            .args(["-o", "APT::Sandbox::User=root"])
            .args(["-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3"])
            // A list that cannot be had would only be a warning, and the package unknown.
            .args(["-o", "APT::Update::Error-Mode=any"])
            .env("LC_ALL", "C")
            .current_dir(self.folder.path().join("packages"));
        command
    }
}

/// The file that says that all packages have been unpacked.
const COMPLETE: &str = "packages";
