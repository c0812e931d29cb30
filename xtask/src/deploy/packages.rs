//! The packages in a small root folder: Debian's programs for users and groups, a shell, and nothing of KES.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::Debian;
use kes_peers::process::{Finished, PATIENCE, run};

use super::{Work, as_root, printed};
use crate::dist;

/// The system that a package is installed into.
#[derive(Debug)]
struct System {
    root: PathBuf,
}

impl System {
    /// One that makes users by `useradd`, or by `systemd-sysusers` if these packages have it.
    fn new(work: &Work, name: &str, more: &[&str]) -> Result<Self> {
        let root = work.empty(name)?;
        let packages = [BASE, more].concat();
        let base = Debian::unpack(&packages)?;
        printed(
            Command::new("cp")
                .args(["--archive", "--no-target-directory"])
                .arg(base.root())
                .arg(&root),
        )?;
        for folder in ["dev", "etc", "tmp", "var/lib/dpkg/updates", "var/lib/dpkg/info"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // No device, so that it takes no root to make it: scripts only write to it.
        fs::write(root.join("dev/null"), "")?;
        // A package of Debian's has these made by its script.
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\n")?;
        fs::write(
            root.join("var/lib/dpkg/status"),
            "Package: passwd\nStatus: install ok installed\nMaintainer: nobody <nobody@localhost>\nArchitecture: amd64\n\
             Version: 1:4.13\nDescription: what the package needs before it is unpacked\n\n",
        )?;
        Ok(Self { root })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn has(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// The numbers of the service's user and group.
    fn user(&self) -> Result<(u32, u32)> {
        let passwd = fs::read_to_string(self.at("etc/passwd"))?;
        let line = passwd.lines().find(|line| line.starts_with("kes:"));
        let fields: Vec<&str> = line.context("there is no user kes")?.split(':').collect();
        let [_, _, uid, gid, _, home, shell, ..] = fields[..] else {
            anyhow::bail!("not a line of /etc/passwd: {fields:?}");
        };
        ensure!(
            home == "/var/lib/kes" && shell.ends_with("nologin"),
            "the user kes can log in: {fields:?}"
        );
        Ok((uid.parse()?, gid.parse()?))
    }

    /// What is there after an installation.
    fn check_installed(&self) -> Result<()> {
        let (uid, gid) = self.user()?;
        for (path, owner, group, mode) in [
            ("usr/bin/kes", 0, 0, 0o755),
            ("usr/lib/systemd/system/kes.service", 0, 0, 0o644),
            ("usr/lib/sysusers.d/kes.conf", 0, 0, 0o644),
            ("usr/share/man/man1/kes-server.1.gz", 0, 0, 0o644),
            ("usr/share/bash-completion/completions/kes", 0, 0, 0o644),
            ("usr/share/fish/vendor_completions.d/kes.fish", 0, 0, 0o644),
            ("usr/share/doc/kes/third-party-licenses.gz", 0, 0, 0o644),
            ("etc/kes", 0, gid, 0o750),
            ("etc/kes/config.yml", 0, gid, 0o640),
            ("var/lib/kes", uid, gid, 0o700),
        ] {
            let metadata =
                fs::symlink_metadata(self.at(path)).with_context(|| format!("looking at /{path}"))?;
            let found = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
            ensure!(
                found == (owner, group, mode),
                "/{path}: owner, group and mode are {found:?}, and mode {mode:o} of {owner}:{group} was expected"
            );
        }
        let mut version = as_root("chroot");
        version.arg(&self.root).args(["/usr/bin/kes", "--version"]);
        printed(&mut version)?;
        Ok(())
    }

    /// What an operator has there after a while.
    fn use_it(&self) -> Result<()> {
        fs::write(self.at("etc/kes/config.yml"), EDITED)?;
        fs::write(self.at("var/lib/kes/keys.redb"), "keys")?;
        Ok(())
    }

    fn check_used(&self, config: &str) -> Result<()> {
        ensure!(
            fs::read_to_string(self.at(config)).with_context(|| format!("reading /{config}"))? == EDITED,
            "/{config} is not what the operator has written"
        );
        self.check_keys()
    }

    fn check_keys(&self) -> Result<()> {
        ensure!(
            fs::read(self.at("var/lib/kes/keys.redb")).is_ok_and(|keys| keys == b"keys"),
            "the keys have gone"
        );
        Ok(())
    }

    fn check_removed(&self) -> Result<()> {
        for path in [
            "usr/bin/kes",
            "usr/lib/systemd/system/kes.service",
            "usr/share/doc/kes",
        ] {
            ensure!(!self.has(path), "/{path} is still there");
        }
        self.check_keys()
    }
}

/// The same release once more, with another number and another configuration in it.
fn next(work: &Work, kind: &str) -> Result<PathBuf> {
    let made = work.made()?;
    let mut release = made.release.clone();
    release.version = "99.0.0".to_owned();
    let stage = dist::Stage::fill(&release, &made.artifacts.executable, "")?;
    stage.append("config.yml", "# New in this version.\n")?;
    stage.package(kind, &release, &work.empty(&format!("next-{kind}"))?)
}

pub(super) fn deb(work: &mut Work) -> Result<()> {
    let system = System::new(work, "debian", &["systemd-standalone-sysusers"])?;
    let dpkg = |arguments: &[&str], package: &Path| -> Result<Finished> {
        let mut command = as_root("dpkg");
        command
            .arg("--root")
            .arg(&system.root)
            .args(["--force-confold", "--log=/dev/null"])
            .args(arguments)
            .arg(package)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DPKG_COLORS", "never");
        run(&mut command, PATIENCE)
    };
    let first = work.made()?.artifacts.deb.clone();
    dpkg(&["--install"], &first)?.expect_success()?;
    system.check_installed()?;
    ensure!(
        system.has("usr/share/zsh/vendor-completions/_kes"),
        "no completions for zsh"
    );
    system.use_it()?;
    dpkg(&["--install"], &next(work, "deb")?)?.expect_success()?;
    system.check_used("etc/kes/config.yml")?;
    let name = Path::new("kes");
    dpkg(&["--remove"], name)?.expect_success()?;
    system.check_removed()?;
    system.check_used("etc/kes/config.yml")?;
    dpkg(&["--purge"], name)?.expect_success()?;
    ensure!(
        !system.has("etc/kes/config.yml"),
        "the configuration is still there after a purge"
    );
    system.check_removed()
}

pub(super) fn rpm(work: &mut Work) -> Result<()> {
    let system = System::new(work, "rpm", &[])?;
    let tools = Debian::unpack(RPM)?;
    let libraries = tools.libraries()?;
    let rpm = |arguments: &[&str], package: &Path| -> Result<Finished> {
        let mut command = as_root("env");
        let mut path = std::ffi::OsString::from("LD_LIBRARY_PATH=");
        path.push(&libraries);
        command
            .arg(path)
            .arg(tools.program("rpm")?)
            .arg("--root")
            .arg(&system.root)
            .args(arguments)
            .arg(package)
            .env("RPM_CONFIGDIR", tools.root().join("usr/lib/rpm"))
            .env("HOME", work.folder.path());
        run(&mut command, PATIENCE)
    };
    let first = work.made()?.artifacts.rpm.clone();
    // What the package needs was not installed by rpm here.
    rpm(&["--install", "--nodeps"], &first)?.expect_success()?;
    system.check_installed()?;
    ensure!(
        system.has("usr/share/zsh/site-functions/_kes"),
        "no completions for zsh"
    );
    let needs = rpm(&["--query", "--package", "--requires"], &first)?.expect_success()?;
    ensure!(needs.contains("shadow-utils"), "it needs: {needs}");
    system.use_it()?;
    rpm(&["--upgrade", "--nodeps"], &next(work, "rpm")?)?.expect_success()?;
    system.check_used("etc/kes/config.yml")?;
    rpm(&["--erase"], Path::new("kes"))?.expect_success()?;
    system.check_removed()?;
    system.check_used("etc/kes/config.yml.rpmsave")
}

const EDITED: &str = "address: 127.0.0.1:7373\n";

/// A shell, `id`, `useradd` and what they need.
const BASE: &[&str] = &[
    "passwd",
    "dash",
    "coreutils",
    "libc6",
    "libgcc-s1",
    "gcc-12-base",
    "libacl1",
    "libattr1",
    "libaudit1",
    "libbz2-1.0",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libgmp10",
    "libpam0g",
    "libpcre2-8-0",
    "libselinux1",
    "libsemanage2",
    "libsepol2",
];

const RPM: &[&str] = &[
    "rpm",
    "rpm-common",
    "librpm9",
    "librpmio9",
    "librpmbuild9",
    "librpmsign9",
    "libarchive13",
    "libdbus-1-3",
    "libelf1",
    "libfsverity0",
    "liblua5.3-0",
    "libpopt0",
    "libsqlite3-0",
    "debugedit",
];
