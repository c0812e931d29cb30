//! The unit for systemd, which is not run here: what it says is judged by systemd's own programs, and the server is watched to see
//! whether it keeps to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use kes_peers::Debian;
use kes_peers::process::{PATIENCE, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::server::Running;
use super::{Work, printed};
use crate::cargo;

const UNIT: &str = "deploy/systemd/kes.service";

fn tools() -> Result<Debian> {
    Debian::unpack(SYSTEMD)
}

/// A root folder with the unit where the packages put it.
fn root(work: &mut Work) -> Result<std::path::PathBuf> {
    let root = work.empty("systemd")?;
    for folder in ["usr/bin", "bin", "usr/lib/sysusers.d", "etc"] {
        fs::create_dir_all(root.join(folder))?;
    }
    // systemd's own units, which ours names.
    printed(
        Command::new("cp")
            .args(["--recursive", "--no-target-directory"])
            .arg(tools()?.root().join("lib/systemd"))
            .arg(root.join("usr/lib/systemd")),
    )?;
    fs::copy(
        cargo::root().join(UNIT),
        root.join("usr/lib/systemd/system/kes.service"),
    )?;
    fs::copy(
        cargo::root().join("deploy/systemd/kes.sysusers"),
        root.join("usr/lib/sysusers.d/kes.conf"),
    )?;
    fs::copy(work.kes()?, root.join("usr/bin/kes"))?;
    fs::copy("/bin/kill", root.join("bin/kill"))?;
    Ok(root)
}

pub(super) fn verify(work: &mut Work) -> Result<()> {
    let root = root(work)?;
    let tools = tools()?;
    let analyze = |folder: &Path| {
        let mut command = tools.command("systemd-analyze")?;
        command
            .args(["verify", "--man=no", "--recursive-errors=no", "--root"])
            .arg(folder)
            .arg("kes.service");
        run(&mut command, PATIENCE)
    };
    let finished = analyze(&root)?;
    ensure!(
        finished.success && finished.stderr.trim().is_empty(),
        "systemd-analyze verify: {}{}",
        finished.stdout,
        finished.stderr
    );
    // So that this proves something.
    let unit = root.join("usr/lib/systemd/system/kes.service");
    let text = fs::read_to_string(&unit)?;
    fs::write(
        &unit,
        text.replace("ProtectSystem=strict", "ProtectSystem=perhaps"),
    )?;
    let finished = analyze(&root)?;
    ensure!(
        finished.stderr.contains("protect system"),
        "a wrong value is not found: {}",
        finished.stderr
    );
    printed(
        tools
            .command("systemd-sysusers")?
            .args(["--dry-run", "--root"])
            .arg(&root)
            .arg("kes.conf"),
    )?;
    Ok(())
}

/// systemd's own score: 0 is closed, 10 open.
pub(super) fn security(_: &mut Work) -> Result<()> {
    let mut command = tools()?.command("systemd-analyze")?;
    let threshold = format!("--threshold={EXPOSURE}");
    printed(
        command
            .args(["security", "--offline=yes", "--no-pager", &threshold])
            .arg(cargo::root().join(UNIT)),
    )?;
    Ok(())
}

/// The server under `strace`, from its start over requests and a reload to its end.
pub(super) fn calls(work: &mut Work) -> Result<()> {
    let allowed = allowed()?;
    let folder = work.empty("calls")?;
    let strace = Debian::unpack(&["strace", "libunwind8"])?;
    let trace = folder.join("trace");
    let socket = folder.join("notify");
    let manager = UnixDatagram::bind(&socket).context("listening as systemd does")?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let (program, libraries) = (strace.program("strace")?, strace.libraries()?);
    let running = Running::start(&work.kes()?, &folder, |kes| {
        let mut command = Command::new(&program);
        command
            .env("LD_LIBRARY_PATH", libraries)
            .env("NOTIFY_SOCKET", &socket)
            .args(["-f", "-qq", "-e", "signal=none", "-o"])
            .arg(&trace)
            .arg(kes);
        command
    })?;
    expect(&manager, "READY=1")?;
    running.admin(&["key", "create", "my-key"])?;
    running.admin(&["key", "dek", "my-key"])?;
    running.admin(&["store", "backup", "keys.backup"])?;
    running.metrics()?;
    // strace is the child that we know; the server is that of strace.
    let children = format!("/proc/{0}/task/{0}/children", running.server.id());
    let child = fs::read_to_string(children)?;
    let server = child
        .trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .context("strace has no child")?;
    kill_process(server, Signal::HUP)?;
    expect(&manager, "RELOADING=1")?;
    expect(&manager, "READY=1")?;
    kill_process(server, Signal::TERM)?;
    expect(&manager, "STOPPING=1")?;
    let log = running.log();
    let mut running = running;
    wait_until("the server to end", PATIENCE, || {
        Ok(running.server.check_alive().is_err().then_some(()))
    })
    .with_context(|| kes_peers::process::file_tail(&log, 20))?;

    let trace = fs::read_to_string(&trace)?;
    let mut called = BTreeSet::new();
    for line in trace.lines() {
        // The number of the thread comes first; what goes on with a call that was begun is not another.
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        called.insert(name);
        let is_both = arguments.contains("PROT_WRITE") && arguments.contains("PROT_EXEC");
        ensure!(!is_both, "memory that is written and executed: {line}");
        if name == "socket" {
            let family = ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"]
                .iter()
                .any(|family| arguments.starts_with(family));
            ensure!(family, "a socket that the unit does not allow: {line}");
        }
    }
    ensure!(called.len() > 30, "strace has seen only {called:?}");
    let refused: Vec<_> = called.iter().filter(|call| !allowed.contains(**call)).collect();
    ensure!(
        refused.is_empty(),
        "system calls that the unit refuses: {refused:?}"
    );
    Ok(())
}

/// Waits for a message with this line.
fn expect(manager: &UnixDatagram, line: &str) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = manager
            .recv(&mut message)
            .with_context(|| format!("waiting for {line}"))?;
        let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
        if text.lines().any(|said| said == line) {
            return Ok(());
        }
        let is_other = text
            .lines()
            .any(|said| said.starts_with("WATCHDOG") || said.starts_with("STATUS"));
        if !is_other {
            bail!("{line} was expected, not '{text}'");
        }
    }
}

/// The system calls that are left of the unit's groups.
fn allowed() -> Result<BTreeSet<String>> {
    let unit = fs::read_to_string(cargo::root().join(UNIT))?;
    let mut allowed = BTreeSet::new();
    for filter in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        match filter.strip_prefix('~') {
            Some(refused) => {
                for call in members(refused)? {
                    allowed.remove(&call);
                }
            }
            None => allowed.extend(members(filter)?),
        }
    }
    // systemd itself needs it to start the program, and always allows it.
    allowed.insert("execve".to_owned());
    Ok(allowed)
}

/// The calls of a group such as `@system-service`, those of the groups in it included.
fn members(group: &str) -> Result<BTreeSet<String>> {
    let mut command = tools()?.command("systemd-analyze")?;
    let printed = printed(command.args(["--no-pager", "syscall-filter", group]))?;
    let mut calls = BTreeSet::new();
    for line in printed.lines().skip(1).map(str::trim) {
        if line.starts_with('@') {
            calls.extend(members(line)?);
        } else if !line.is_empty() && !line.starts_with('#') {
            calls.insert(line.to_owned());
        }
    }
    ensure!(!calls.is_empty(), "systemd-analyze knows no calls of {group}");
    Ok(calls)
}

/// Tenths: 1.7 or better, which systemd calls OK.
const EXPOSURE: &str = "17";

const SYSTEMD: &[&str] = &[
    "systemd",
    "libsystemd0",
    "libapparmor1",
    "libargon2-1",
    "libcryptsetup12",
    "libdevmapper1.02.1",
    "libfdisk1",
    "libip4tc2",
    "libjson-c5",
    "libkmod2",
    "libmount1",
    "libseccomp2",
];
