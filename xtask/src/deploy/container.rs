//! The executable alone, as in a container, which is tried as a root folder with nothing else in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{PATIENCE, Server, file_tail, free_port, run, wait_until};
use serde_json::Value;

use super::server::Running;
use super::{Work, as_root, printed};
use crate::cargo;

const FILE: &str = "deploy/container/Containerfile";

/// The SBOM against the schema of the standard, and against what cargo says by another way.
pub(super) fn sbom(work: &mut Work) -> Result<()> {
    let made = work.made()?;
    let script = "import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)";
    printed(
        Command::new(kes_peers::cyclonedx_python()?)
            .args(["-I", "-c", script])
            .arg(&made.artifacts.sbom),
    )?;
    let sbom: Value = serde_json::from_slice(&fs::read(&made.artifacts.sbom)?)?;
    let components = sbom["components"].as_array().context("no components")?;
    let mut told = Vec::new();
    for component in components {
        ensure!(
            component["licenses"].is_array(),
            "{} has no licence",
            component["name"]
        );
        let field = |name: &str| component[name].as_str().unwrap_or_default().to_owned();
        if component["scope"] == "required" && field("purl").starts_with("pkg:cargo/") {
            told.push(format!("{} v{}", field("name"), field("version")));
        }
    }
    let tree = printed(
        cargo::command("tree")
            .args([
                "--package",
                "kes-cli",
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "none",
                "--no-dedupe",
            ])
            .args(["--target", crate::dist::TARGET, "--locked", "--format", "{p}"])
            .current_dir(made.place.source()),
    )?;
    for line in tree.lines() {
        // The path of one of ours comes after the version.
        let name: Vec<&str> = line.split(' ').take(2).collect();
        let name = name.join(" ");
        let is_root = name.starts_with("kes-cli ");
        ensure!(is_root || told.contains(&name), "the SBOM does not have {name}");
    }
    Ok(())
}

/// What a static C library does instead of asking the plug-ins of the system.
pub(super) fn names(work: &mut Work) -> Result<()> {
    let root = work.empty("names")?;
    let made = work.made()?;
    let program = made.artifacts.executable.clone();
    let folder = work.empty("names-server")?;
    let running = Running::start(&program, &folder, |kes| Command::new(kes))?;
    fs::create_dir(root.join("etc"))?;
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost\n127.0.0.1 kes.internal\n",
    )?;
    fs::copy(&program, root.join("kes"))?;
    for file in ["admin.key", "admin.crt"] {
        fs::copy(folder.join(file), root.join(file))?;
    }
    let ask = |host: &str| {
        let mut command = as_root("chroot");
        command
            .arg(&root)
            .args(["/kes", "status", "--short", "-k"])
            .env("KES_SERVER", format!("https://{host}:{}", running.port()))
            .env("KES_CLIENT_KEY", "/admin.key")
            .env("KES_CLIENT_CERT", "/admin.crt");
        run(&mut command, PATIENCE)
    };
    for host in ["localhost", "kes.internal"] {
        ask(host)?.expect_success()?;
    }
    let said = ask("elsewhere.internal")?.expect_failure()?;
    ensure!(said.contains("elsewhere.internal"), "{said}");
    Ok(())
}

pub(super) fn lint(_: &mut Work) -> Result<()> {
    printed(
        Command::new(kes_peers::hadolint()?)
            .args(["--no-color", "--failure-threshold", "style", FILE])
            .current_dir(cargo::root()),
    )?;
    Ok(())
}

/// What the container file says, as far as we follow it.
#[derive(Debug, Default)]
struct Image {
    copies: Vec<(String, String)>,
    user: String,
    health: Vec<String>,
    command: Vec<String>,
}

impl Image {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(cargo::root().join(FILE))?.replace("\\\n", " ");
        let mut image = Self::default();
        for line in text.lines() {
            let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words =
                |rest: &str| serde_json::from_str::<Vec<String>>(rest).with_context(|| line.to_owned());
            match instruction {
                "COPY" => {
                    let mut paths = rest.split(' ').filter(|word| !word.starts_with("--"));
                    let (from, to) = (paths.next(), paths.next());
                    image.copies.push((
                        from.context("COPY what?")?.to_owned(),
                        to.context("COPY where?")?.to_owned(),
                    ));
                }
                "USER" => rest.clone_into(&mut image.user),
                "HEALTHCHECK" => {
                    let (_, check) = rest.split_once("CMD ").context("a check without a command")?;
                    image.health = words(check)?;
                }
                "ENTRYPOINT" => image.command = words(rest)?,
                "CMD" => image.command.extend(words(rest)?),
                "#" | "" | "FROM" | "LABEL" | "EXPOSE" => {}
                other => anyhow::bail!("the test does not know the instruction {other}"),
            }
        }
        Ok(image)
    }
}

/// The files of the image in a root folder, its command and its check in there, as its user.
pub(super) fn serves(work: &mut Work) -> Result<()> {
    let image = Image::read()?;
    let root = work.empty("image")?;
    // Others have to be able to enter it.
    fs::set_permissions(work.folder.path(), fs::Permissions::from_mode(0o755))?;
    let kes = work.made()?.artifacts.executable.clone();
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for (from, to) in &image.copies {
        let to = inside(to);
        fs::create_dir_all(to.parent().context("COPY to a folder")?)?;
        match from.as_str() {
            "kes" => {
                fs::copy(&kes, to)?;
            }
            // Nothing is asked here that has a certificate of theirs.
            "ca-certificates.crt" => fs::write(to, "")?,
            other => anyhow::bail!("{other} is not in the context that the file tells of"),
        }
    }
    let (port, health) = (free_port()?, free_port()?);
    volumes(&kes, &root, port, health)?;
    let owner = image.user.split(':').next().unwrap_or_default().parse::<u32>()?;
    ensure!(owner != 0, "the image runs as root");
    let inner = |words: &[String]| {
        let mut command = as_root("chroot");
        if rustix::process::geteuid().is_root() {
            command.arg(format!("--userspec={}", image.user));
        }
        command.arg(&root).args(words).env_clear().env("PATH", PATH);
        command
    };
    if rustix::process::geteuid().is_root() {
        give(&root.join("etc/kes"), owner)?;
        give(&root.join("var/lib/kes"), owner)?;
    }
    let check: Vec<String> = image
        .health
        .iter()
        .map(|word| word.replace("127.0.0.1:7374", &format!("127.0.0.1:{health}")))
        .collect();
    let said = run(&mut inner(&check), PATIENCE)?.expect_failure()?;
    ensure!(said.contains("no answer"), "before the server runs: {said}");
    let log = work.folder.path().join("image.log");
    let mut server = Server::start("kes", &mut inner(&image.command), &log, &log)?;
    wait_until("the health check to succeed", PATIENCE, || {
        server.check_alive()?;
        Ok(run(&mut inner(&check), PATIENCE)?.success.then_some(()))
    })
    .with_context(|| file_tail(&log, 30))?;
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    run(&mut inner(&check), PATIENCE)?.expect_failure()?;
    Ok(())
}

/// What an operator mounts: the configuration, and a folder for the key store.
fn volumes(kes: &Path, root: &Path, port: u16, health: u16) -> Result<()> {
    let data = root.join("var/lib/kes");
    fs::create_dir_all(&data)?;
    fs::create_dir_all(root.join("etc/kes"))?;
    printed(
        Command::new(kes)
            .arg("init")
            .arg(&data)
            .args(["--addr", &format!("127.0.0.1:{port}")]),
    )?;
    let config = fs::read_to_string(data.join("config.yml"))?.replace(&*root.to_string_lossy(), "");
    fs::write(
        root.join("etc/kes/config.yml"),
        format!("{config}health:\n  address: 127.0.0.1:{health}\n"),
    )?;
    Ok(())
}

fn give(path: &Path, owner: u32) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    chown(path, Some(owner), Some(owner)).with_context(|| format!("giving {} away", path.display()))
}

/// Where `chroot` is, for an environment that has nothing else.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
