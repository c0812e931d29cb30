//! `cargo xtask dist`: what a release consists of, made from a commit. The same commit gives the same bytes.

mod build;
mod licenses;
mod packages;
#[expect(clippy::indexing_slicing, reason = "of JSON: what is not there is null")]
mod sbom;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kes_peers::process::run;

pub(crate) use self::build::Place;
pub(crate) use self::packages::Stage;
use crate::cargo;

/// How long a command may take that does not compile anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What a release is made from, and is called.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) version: String,
    /// The whole hash.
    pub(crate) commit: String,
    /// When it was made, in seconds since 1970. No other time gets into a release.
    pub(crate) time: u64,
}

/// The one platform whose standard library every machine that builds has.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

impl Release {
    /// The commit that is checked out. What is not committed is no part of it.
    pub(crate) fn of_head() -> Result<Self> {
        let commit = git(&["rev-parse", "HEAD"])?;
        let time = match env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        let manifest = git(&["show", "HEAD:Cargo.toml"])?;
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
            .context("Cargo.toml has no version")?;
        Ok(Self {
            version: version.to_owned(),
            time: time
                .parse()
                .with_context(|| format!("the time of the release is no number: '{time}'"))?,
            commit,
        })
    }
}

/// What a finished release is.
#[derive(Debug)]
pub(crate) struct Artifacts {
    pub(crate) folder: PathBuf,
    pub(crate) executable: PathBuf,
    pub(crate) sbom: PathBuf,
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// The command.
pub(crate) fn command(arguments: &[&str]) -> Result<()> {
    let twice = match arguments {
        [] => false,
        ["--twice"] => true,
        [other, ..] => bail!("no such option: '{other}'"),
    };
    let release = Release::of_head()?;
    if !git(&["status", "--porcelain"])?.is_empty() {
        println!("not committed, and no part of this release:");
        println!("{}", git(&["status", "--short"])?);
    }
    let place = Place::usual()?;
    let executable = place.build(&release)?;
    if twice {
        let elsewhere = tempfile::tempdir()?;
        let again = Place::in_folder(elsewhere.path()).build(&release)?;
        ensure!(
            fs::read(&executable)? == fs::read(&again)?,
            "built twice, the executable has other bytes the second time"
        );
        println!("built twice, in different folders: the same bytes");
    }
    let folder = cargo::target_folder()?.join("packages");
    let artifacts = assemble(&release, &executable, &place, &folder)?;
    println!("{}", fs::read_to_string(artifacts.folder.join(SUMS))?.trim_end());
    println!("in {}", artifacts.folder.display());
    Ok(())
}

/// Makes everything of a release out of its executable, which was built in `place`, in `folder`, which is emptied before.
pub(crate) fn assemble(
    release: &Release,
    executable: &Path,
    place: &Place,
    folder: &Path,
) -> Result<Artifacts> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder)?;
    let name = format!("kes-{}-linux-amd64", release.version);
    let program = folder.join(&name);
    fs::copy(executable, &program).context("copying the executable")?;
    let metadata = sbom::Metadata::read(place.source())?;
    let sbom = folder.join(format!("{name}.cdx.json"));
    fs::write(&sbom, metadata.sbom(release)?)?;
    let licenses = licenses::collect(&metadata)?;
    let stage = Stage::fill(release, &program, &licenses)?;
    let (deb, rpm) = (
        stage.package("deb", release, folder)?,
        stage.package("rpm", release, folder)?,
    );
    let sums = run(
        Command::new("sha256sum")
            .args([&program, &sbom, &deb, &rpm].map(|path| path.file_name().unwrap_or_default()))
            .current_dir(folder),
        PATIENCE,
    )?
    .expect_success()?;
    fs::write(folder.join(SUMS), sums)?;
    Ok(Artifacts {
        folder: folder.to_owned(),
        executable: program,
        sbom,
        deb,
        rpm,
    })
}

/// The file with the checksums.
pub(crate) const SUMS: &str = "SHA256SUMS";

fn git(arguments: &[&str]) -> Result<String> {
    let finished = run(git_command().args(arguments), PATIENCE)?;
    Ok(finished.expect_success()?.trim_end().to_owned())
}

/// Git in the checkout, which may belong to somebody else, as where CI mounts it: who runs this has its code run anyway.
fn git_command() -> Command {
    let mut safe = OsString::from("safe.directory=");
    safe.push(cargo::root());
    let mut command = Command::new("git");
    command.arg("-c").arg(safe).current_dir(cargo::root());
    command
}
