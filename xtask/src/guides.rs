//! What others have published for the reference implementation, line by line against ours: what people have followed for years must
//! go on working, spellings of old releases included.
//!
//! A document is a table in `documents`: each of its commands and configurations, with the line where it is, how it is tried, and what
//! must come out. To add one, write a table like its neighbours and name it in `documents.rs`. A row that cannot be tried on one
//! machine says why, and is counted.
//!
//! A document is followed in a room of its own (`room.sh`): a network and a tree in which the lines are typed as they are printed, with
//! their ports and folders, on real programs. That takes root, or `sudo` without a password: without both, the documents are left out,
//! which is said and counted. (A user namespace would do for most of it, but nobody may lock memory in one.)

mod documents;
mod pattern;
mod place;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use kes_peers::{Moto, Vault};
use rustix::process::geteuid;

use self::place::Place;
use self::table::{Document, Way};
use crate::cargo;
use crate::report::Report;

/// The subcommand that follows a document in its room.
pub(crate) const INSIDE: &str = "guide-in-its-room";

/// Follows the documents whose names contain `only`, or all.
pub(crate) fn run(report: &mut Report, only: Option<&str>) {
    let wanted: Vec<&Document> = documents::ALL
        .iter()
        .copied()
        .filter(|document| only.is_none_or(|part| document.name.contains(part)))
        .collect();
    if let (true, Some(only)) = (wanted.is_empty(), only) {
        return report.add(0, &[format!("guides: no guide is called '{only}'")]);
    }
    if !may_be_root() {
        for document in wanted {
            report.leave_out(&format!(
                "guides: {}: a room takes root, or sudo without a password",
                document.name
            ));
        }
        return;
    }
    let mut programs = None;
    report.step(
        "guides: the programs are there",
        &mut programs,
        |programs| {
            *programs = Some(install()?);
            Ok(())
        },
        |_| String::new(),
    );
    let Some(programs) = programs else {
        return;
    };
    for document in wanted {
        if let Err(error) = enter(document, &programs, report) {
            report.add(0, &[format!("guides: {}: {error:#}", document.name)]);
        }
    }
}

/// What the documents have their readers install. In a room nothing can be fetched.
fn install() -> Result<Vec<PathBuf>> {
    let programs = vec![
        cargo::build_kes()?,
        kes_peers::minio()?,
        kes_peers::mc()?,
        kes_peers::aws_cli()?,
    ];
    drop((Moto::start()?, Vault::start()?));
    Ok(programs)
}

/// Follows a document in a room of its own, which is another process of this program.
fn enter(document: &Document, programs: &[PathBuf], report: &mut Report) -> Result<()> {
    println!("guides: {}: {}", document.name, document.title);
    let folder = tempfile::Builder::new().prefix("kes-guide-").tempdir()?;
    let (root, script, results) = (
        folder.path().join("root"),
        folder.path().join("room.sh"),
        folder.path().join("results"),
    );
    fs::create_dir(&root)?;
    fs::create_dir(&results)?;
    fs::write(&script, include_str!("guides/room.sh"))?;
    // A build may replace this program while it runs.
    let this = folder.path().join("xtask");
    fs::copy("/proc/self/exe", &this)?;
    let mut folders = vec![cargo::root(), folder.path()];
    folders.extend(programs.iter().filter_map(|program| program.parent()));
    let cache = cache()?;
    folders.push(&cache);

    let status = as_root()?
        .arg(format!("KES_GUIDES_FOLDERS={}", words(&folders)?))
        .arg(format!("XDG_CACHE_HOME={}", cache.display()))
        .args(["unshare", "--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "bash"])
        .args([&script, &root, &this])
        .args([INSIDE, document.name])
        .arg(&results)
        .args(programs)
        .status()
        .context("starting unshare")?;
    let read = |name: &str| fs::read_to_string(results.join(name)).unwrap_or_default();
    let passed = read("passed").lines().count();
    let failed: Vec<String> = read("failed").lines().map(str::to_owned).collect();
    for line in read("left out").lines() {
        report.leave_out(line);
    }
    report.add(passed, &failed);
    ensure!(
        status.success(),
        "the document could not be followed to its end: {status}"
    );
    Ok(())
}

fn may_be_root() -> bool {
    let asked = || Command::new("sudo").args(["-n", "true"]).output();
    geteuid().is_root() || asked().is_ok_and(|output| output.status.success())
}

/// A command that runs what follows it as root, after assignments of variables.
fn as_root() -> Result<Command> {
    if geteuid().is_root() {
        return Ok(Command::new("env"));
    }
    let mut command = Command::new("sudo");
    let path = env::var("PATH").context("reading PATH")?;
    command.args(["-n", "env", &format!("PATH={path}")]);
    Ok(command)
}

fn cache() -> Result<PathBuf> {
    match env::var_os("XDG_CACHE_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => Ok(folder.into()),
        None => Ok(PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache")),
    }
}

fn words(folders: &[&Path]) -> Result<String> {
    let words: Vec<&str> = folders.iter().filter_map(|folder| folder.to_str()).collect();
    ensure!(
        words.len() == folders.len() && words.iter().all(|word| !word.contains(char::is_whitespace)),
        "the folders {folders:?} have names that a shell script would not read"
    );
    Ok(words.join(" "))
}

/// Follows the document, in its room: prints each row with its result, and leaves the results in a folder.
pub(crate) fn inside(arguments: &[&str]) -> Result<()> {
    let [name, results, programs @ ..] = arguments else {
        bail!("'{INSIDE}' is for this program itself");
    };
    let document = documents::ALL
        .iter()
        .find(|document| document.name == *name)
        .with_context(|| format!("no guide is called '{name}'"))?;
    let programs: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    let results = Path::new(results);
    let mut place = Place::new(&programs)?;
    let mut report = Report::default();
    let (mut passed, mut failed, mut left_out) = (String::new(), String::new(), String::new());
    for (line, row) in document.rows() {
        let text = row.text.lines().next().unwrap_or_default();
        let step = format!("guides: {name}:{line}: {text}");
        if let Way::NotHere(because) = row.way {
            left_out += &format!("{step} ... {because}\n");
            continue;
        }
        if let Way::Instead { why, .. } | Way::InsteadServes { why, .. } = row.way {
            println!("    (in other words: {why})");
        }
        let went = report.step(&step, &mut place, |place| place.follow(row), Place::evidence);
        if !went {
            // The rest could only fail, too.
            failed += &format!("{step}\n");
            break;
        }
        passed += &format!("{step}\n");
    }
    for (file, text) in [("passed", passed), ("failed", failed), ("left out", left_out)] {
        fs::write(results.join(file), text)?;
    }
    Ok(())
}
