//! What a release consists of, and the files of `deploy/`, used as their readers would use them: packages are installed and removed,
//! the executable runs where nothing else is, rules and manifests are judged by the programs that they are for.

#[expect(clippy::indexing_slicing, reason = "of JSON: what is not there is null")]
mod container;
#[expect(clippy::indexing_slicing, reason = "of JSON: what is not there is null")]
mod kubernetes;
#[expect(clippy::indexing_slicing, reason = "of JSON: what is not there is null")]
mod monitoring;
mod packages;
mod server;
mod systemd;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use kes_peers::process::{PATIENCE, run};

use crate::cargo;
use crate::dist::{self, Artifacts, Place, Release};
use crate::report::Report;

/// What the steps work with.
#[derive(Debug)]
struct Work {
    /// For what they write.
    folder: tempfile::TempDir,
    release: Option<Made>,
    /// The executable of the checkout, as the other tests use it.
    kes: Option<PathBuf>,
}

/// A release that has been made.
#[derive(Debug)]
struct Made {
    release: Release,
    artifacts: Artifacts,
    /// The executable as it was built.
    built: PathBuf,
    place: Place,
}

impl Work {
    fn made(&self) -> Result<&Made> {
        self.release.as_ref().context("there is no release: see above")
    }

    /// The executable, built when it is first asked for.
    fn kes(&mut self) -> Result<PathBuf> {
        if self.kes.is_none() {
            self.kes = Some(cargo::build_kes()?);
        }
        self.kes.clone().context("there is no executable")
    }

    /// An empty folder of this name.
    fn empty(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

type Step = (&'static str, fn(&mut Work) -> Result<()>);

const STEPS: [Step; 17] = [
    ("release: everything is made", make),
    ("release: made a second time, it has the same bytes", make_again),
    (
        "release: the executable is static and does not say where it was built",
        is_static,
    ),
    (
        "release: the SBOM is valid, and has what cargo has",
        container::sbom,
    ),
    (
        "release: names are resolved where there is only /etc/hosts",
        container::names,
    ),
    (
        "package: deb is installed, upgraded, removed and purged",
        packages::deb,
    ),
    ("package: rpm is installed, upgraded and removed", packages::rpm),
    ("container: the file has no findings", container::lint),
    (
        "container: it serves, and its health check sees that",
        container::serves,
    ),
    ("systemd: the unit and the user are understood", systemd::verify),
    ("systemd: the unit is closed", systemd::security),
    (
        "systemd: the server stays within the unit's system calls, and says when it is ready, reloads and stops",
        systemd::calls,
    ),
    (
        "kubernetes: the API server accepts the manifests, and the pod under the strictest standard",
        kubernetes::manifests,
    ),
    ("kubernetes: the configuration is one", kubernetes::configuration),
    (
        "prometheus: the rules are valid, and do what their tests say",
        monitoring::rules,
    ),
    (
        "grafana: the dashboard is valid, and its queries are",
        monitoring::dashboard,
    ),
    (
        "monitoring: every metric that is asked for exists",
        monitoring::names,
    ),
];

/// Runs the steps whose names contain `only`, or all.
pub(crate) fn run_steps(report: &mut Report, only: Option<&str>) {
    let mut work = match tempfile::tempdir() {
        Ok(folder) => Work {
            folder,
            release: None,
            kes: None,
        },
        Err(error) => return report.add(0, &[format!("deploy: {error}")]),
    };
    let mut found = false;
    for (name, step) in STEPS {
        if only.is_some_and(|part| !name.contains(part)) {
            continue;
        }
        found = true;
        let needs_release = ["release", "package", "container"]
            .iter()
            .any(|area| name.starts_with(area));
        report.step(
            &format!("deploy: {name}"),
            &mut work,
            |work| {
                if needs_release && work.release.is_none() {
                    make(work)?;
                }
                if name == STEPS[0].0 { Ok(()) } else { step(work) }
            },
            |_| String::new(),
        );
    }
    if let (false, Some(only)) = (found, only) {
        report.add(0, &[format!("deploy: no step is called '{only}'")]);
    }
}

/// Builds the executable, and makes everything out of it.
fn make(work: &mut Work) -> Result<()> {
    let (release, place) = (Release::of_head()?, Place::usual()?);
    let built = place.build(&release)?;
    let artifacts = dist::assemble(&release, &built, &place, &work.folder.path().join("release"))?;
    work.release = Some(Made {
        release,
        artifacts,
        built,
        place,
    });
    Ok(())
}

/// The executable is built once here; `cargo xtask dist --twice` builds it twice.
fn make_again(work: &mut Work) -> Result<()> {
    let made = work.made()?;
    let again = work.folder.path().join("again");
    dist::assemble(&made.release, &made.built, &made.place, &again)?;
    let mut compared = 0;
    for entry in fs::read_dir(&made.artifacts.folder)? {
        let entry = entry?;
        let other = again.join(entry.file_name());
        let same = fs::read(entry.path())? == fs::read(&other).context("made once only")?;
        ensure!(
            same,
            "{} has other bytes the second time",
            entry.file_name().display()
        );
        compared += 1;
    }
    ensure!(compared == 5, "{compared} files, not 5");
    printed(
        Command::new("sha256sum")
            .args(["--check", "--quiet", dist::SUMS])
            .current_dir(&again),
    )?;
    Ok(())
}

fn is_static(work: &mut Work) -> Result<()> {
    let made = work.made()?;
    let ldd = run(Command::new("ldd").arg(&made.artifacts.executable), PATIENCE)?;
    let said = format!("{}{}", ldd.stdout, ldd.stderr);
    ensure!(
        said.contains("statically linked") || said.contains("not a dynamic executable"),
        "ldd: {said}"
    );
    let version = printed(Command::new(&made.artifacts.executable).arg("--version"))?;
    let expected = format!("kes {} (commit={})", made.release.version, made.release.commit);
    ensure!(version.starts_with(&expected), "{version}");
    let bytes = fs::read(&made.artifacts.executable)?;
    let home = std::env::var("HOME").unwrap_or_default();
    for path in [home.as_str(), &cargo::root().to_string_lossy()] {
        // That of root is a part of many a word.
        if path.len() > 1 && contains(&bytes, format!("{path}/").as_bytes()) {
            bail!("the executable has the path {path}/ in it");
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What a command prints that must succeed.
fn printed(command: &mut Command) -> Result<String> {
    run(command, PATIENCE)?.expect_success()
}

/// A command that may change its root folder. Who is not root is that in a namespace of their own; to be several users there takes
/// subordinate ids (`/etc/subuid`).
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--map-auto", "--", program]);
    command
}
