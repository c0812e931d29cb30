//! Every command and configuration that the documents print is run.
//!
//! A fenced block says in its first line how:
//!
//! * ```` ```sh run ````: runs in a folder that all blocks of the document share, and must succeed;
//! * ```` ```sh serve=PORT ````: the same in the background; the next block runs once something listens on the port.
//!   With `once` it is stopped again at that point, else at the end of the document;
//! * ```` ```yaml config=FILE ````: is written to that file and checked with `kes server --check --strict`;
//! * ```` ```text said ````: each line is one that a program of the document has printed before; `…` in it stands for anything;
//! * ```` ```sh given ````: the lines `export NAME=…` that readers fill in with what they have; here the peers of the document have done it;
//! * ```` ```sh ci ````: what CI does itself;
//! * ```` ```sh by-hand ````: what CI cannot do, such as measuring on a quiet machine.
//!
//! What else a block can say:
//!
//! * `kept`: what it defines, variables and functions, all later blocks find, as in one terminal. It runs again before each of them;
//! * `pasted`: it runs after the lines that the servers before it have printed for pasting (`export …`), as a reader does it;
//! * `stop=PORT`: the server on that port is stopped first, as with Ctrl-C;
//! * `reloads`: it has the server take on its configuration anew; the next block runs once the server says that it has;
//! * `repo`: it runs in the repository;
//! * `leaves=NAME`: it makes this file or folder, which is removed at the end of the document and must not be there before.
//!
//! Every block finds the process id of the server that was started last as `KES_PID`. A block of shell or YAML that says nothing is
//! a mistake. A block inside of an HTML comment is run, and no reader sees it: it brings about what the text tells of.
//!
//! Links between documents lead somewhere ([`links`]), and what programs have written into them is what they would write today
//! ([`mod@reference`]).
//!
//! Two comments say more about a document:
//!
//! * `<!-- ci: peers=vault,moto -->`: what it needs running, and what the variables of its `given` blocks come from ([`peer`]);
//! * `<!-- ci: said -->` before a table: the code in the first column of each row is a text as in ```` ```text said ````.

mod block;
mod links;
mod peer;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{self, PATIENCE, Server, file_tail, wait_until};
use tempfile::TempDir;

use self::block::{Block, Document, Kind, documents, has_line};
use self::peer::Peers;
use crate::cargo;
use crate::pasted;
use crate::reference;
use crate::report::Report;

/// Building everything with optimisation is part of the README's first command.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs the blocks of the documents whose names contain `only`, or of all.
pub(crate) fn run(report: &mut Report, only: Option<&str>) {
    let mut prepared = None;
    report.step(
        "docs: the documents are read, the executables built",
        &mut prepared,
        |prepared| {
            let inherited = env::var_os("PATH").unwrap_or_default();
            let kes = cargo::build_kes()?;
            let search = search_path(&[&kes, &kes_peers::minio()?, &kes_peers::mc()?], &inherited)?;
            *prepared = Some((kes, search, documents()?));
            Ok(())
        },
        |_| String::new(),
    );
    let Some((kes, search, documents)) = prepared else {
        return;
    };
    if only.is_none() {
        report.step(
            "docs: every link leads somewhere",
            &mut (),
            |()| links::check(),
            |()| String::new(),
        );
        report.step(
            "docs: what is generated is as the programs are",
            &mut (),
            |()| reference::check(&kes),
            |()| String::new(),
        );
    }
    let wanted = |document: &Document| only.is_none_or(|part| document.name.contains(part));
    let documents: Vec<_> = documents.into_iter().filter(wanted).collect();
    if let (true, Some(only)) = (documents.is_empty(), only) {
        report.add(0, &[format!("docs: no document is called '{only}'")]);
    }
    for document in documents {
        let Document { name, peers, blocks } = document;
        let mut place = match Place::new(&search, &peers) {
            Ok(place) => place,
            Err(error) => {
                report.add(0, &[format!("docs: {name}: {error:#}")]);
                continue;
            }
        };
        for block in blocks.into_iter().filter(|block| block.kind != Kind::NotHere) {
            let passed = report.step(
                &format!("docs: {name}:{}", block.line),
                &mut place,
                |place| place.run(&block),
                Place::evidence,
            );
            if !passed {
                println!("docs: the rest of {name} builds on this, and is not run");
                break;
            }
        }
    }
}

/// The folder and the background processes of one document.
struct Place {
    search: OsString,
    peers: Peers,
    /// With their ports.
    servers: Vec<(u16, Server)>,
    /// What stands before each block: what earlier ones have defined.
    kept: String,
    /// What has been printed by blocks that ran to their end.
    said: String,
    left: Vec<Left>,
    folder: TempDir,
}

/// What a block has made outside the folder of its document, removed on drop.
struct Left(PathBuf);

impl Left {
    /// Fails if it is there before the block has run.
    fn by_a_block(path: PathBuf) -> Result<Self> {
        ensure!(
            !path.exists(),
            "the document makes {}, which is there already: move it away",
            path.display()
        );
        Ok(Self(path))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let removed = if self.0.is_dir() {
            fs::remove_dir_all(&self.0)
        } else {
            fs::remove_file(&self.0)
        };
        // A block that has failed may have made nothing.
        if let Err(error) = removed
            && self.0.exists()
        {
            println!("docs: {} is left behind: {error}", self.0.display());
        }
    }
}

impl Place {
    fn new(search: &OsString, peers: &[peer::Kind]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kes-docs-")
            .tempdir()
            .context("making a temporary folder")?;
        let peers = Peers::start(peers, folder.path())?;
        Ok(Self {
            search: search_path(&peers.programs(), search)?,
            peers,
            servers: Vec::new(),
            kept: String::new(),
            said: String::new(),
            left: Vec::new(),
            folder,
        })
    }

    fn run(&mut self, block: &Block) -> Result<()> {
        if let Some(port) = block.stop {
            let index = self.servers.iter().position(|(served, _)| *served == port);
            let index = index.with_context(|| format!("the document serves nothing on port {port}"))?;
            let status = self.servers.remove(index).1.stop()?;
            ensure!(status.success(), "the server stopped with {status}");
        }
        if let Some(name) = &block.leaves {
            self.left
                .push(Left::by_a_block(self.folder_of(block).join(name))?);
        }
        let ended = self.run_kind(block);
        if block.kept {
            self.kept.push_str(&block.text);
        }
        ended
    }

    fn run_kind(&mut self, block: &Block) -> Result<()> {
        match &block.kind {
            Kind::Run => {
                let reloads = self.reloads();
                self.run_shell(&mut self.shell(block)?, LIMIT)?;
                if block.reloads {
                    wait_until("the server to say that it has reloaded", PATIENCE, || {
                        Ok((self.reloads() > reloads).then_some(()))
                    })?;
                }
                Ok(())
            }
            Kind::Serve { port, once } => {
                let server = self.serve(block, *port)?;
                if *once {
                    server.stop()?;
                } else {
                    self.servers.push((*port, server));
                }
                Ok(())
            }
            Kind::Config(file) => {
                fs::write(self.folder.path().join(file), &block.text)?;
                let mut kes = Command::new("bash");
                let text = format!("{}kes server --check --strict --config {file}", self.kept);
                kes.args(["-euo", "pipefail", "-c", &text]);
                self.surrounded(&mut kes);
                self.run_shell(&mut kes, PATIENCE)
            }
            Kind::Given => self.peers.must_give(&block.text),
            Kind::Said(texts) => {
                // A server logs a moment after it answers.
                let mut missing = Vec::new();
                let found = wait_until("the texts to be printed", PATIENCE, || {
                    let said = self.all_said();
                    missing = texts.iter().filter(|text| !has_line(&said, text)).collect();
                    Ok(missing.is_empty().then_some(()))
                });
                found.with_context(|| format!("nothing has printed {missing:#?}"))
            }
            Kind::NotHere => Ok(()),
        }
    }

    /// Runs a block to its end, and keeps what it prints.
    fn run_shell(&mut self, shell: &mut Command, limit: Duration) -> Result<()> {
        let finished = process::run(shell, limit)?;
        for printed in [&finished.stdout, &finished.stderr] {
            self.said.push_str(printed);
        }
        finished.expect_success().map(drop)
    }

    /// What all programs have printed so far.
    fn all_said(&self) -> String {
        let served = fs::read(self.output()).unwrap_or_default();
        // Quoted in a log line, quotes have a backslash.
        format!("{}{}", self.said, String::from_utf8_lossy(&served)).replace("\\\"", "\"")
    }

    fn serve(&self, block: &Block, port: u16) -> Result<Server> {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        ensure!(
            connect().is_err(),
            "something else listens on port {port}, which the document uses"
        );
        let mut server = Server::start(
            "the block",
            &mut self.shell(block)?,
            &self.output(),
            &self.output(),
        )?;
        wait_until(&format!("port {port} to be served"), LIMIT, || {
            server.check_alive()?;
            Ok(connect().ok())
        })?;
        Ok(server)
    }

    fn shell(&self, block: &Block) -> Result<Command> {
        let mut shell = Command::new("bash");
        // A block that serves ends with the command that does: it replaces the shell, so that signals reach it.
        let mut text = match block.kind {
            Kind::Serve { .. } => exec_last(&block.text),
            Kind::Run | Kind::Config(_) | Kind::Given | Kind::Said(_) | Kind::NotHere => block.text.clone(),
        };
        if block.pasted {
            // A server prints a moment after it listens, and in its last line that it does.
            let lines = wait_until("a server to print lines to paste", PATIENCE, || {
                let printed = fs::read_to_string(self.output()).unwrap_or_default();
                let lines = pasted::exports(&printed);
                Ok(Some(lines).filter(|lines| !lines.is_empty() && printed.contains("\n=> ")))
            })?;
            text.insert_str(0, &lines);
        }
        text.insert_str(0, &self.kept);
        shell.args(["-euo", "pipefail", "-c", &text]);
        if block.in_repository {
            shell.current_dir(cargo::root()).env("PATH", &self.search);
        } else {
            self.surrounded(&mut shell);
        }
        if let Some((_, server)) = self.servers.last() {
            shell.env("KES_PID", server.id().to_string());
        }
        Ok(shell)
    }

    fn folder_of(&self, block: &Block) -> &Path {
        if block.in_repository {
            cargo::root()
        } else {
            self.folder.path()
        }
    }

    fn surrounded<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        // What whoever runs this has set for services of their own is no business of the documents.
        for (name, _) in env::vars_os() {
            let name_of = |prefixes: &[&str]| {
                name.to_str()
                    .is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            };
            if name_of(&["AWS_", "BAO_", "KES_", "MINIO_", "VAULT_"]) {
                command.env_remove(name);
            }
        }
        command
            .envs(self.peers.variables())
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("MC_CONFIG_DIR", self.folder.path().join(".mc"))
            .env("PATH", &self.search)
    }

    /// How often servers have said that they have reloaded their configuration.
    fn reloads(&self) -> usize {
        let printed = fs::read_to_string(self.output()).unwrap_or_default();
        printed.matches("Server has reloaded its configuration").count()
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("servers.log")
    }

    fn evidence(&self) -> String {
        format!(
            "{}--- end of what blocks printed\n{}",
            file_tail(&self.output(), 30),
            process::tail(&self.said, 30)
        )
    }
}

/// Puts `exec` before the last command of a script; a command may span lines that end in a backslash.
fn exec_last(script: &str) -> String {
    let lines: Vec<&str> = script.trim_end().lines().collect();
    let continued = |index: usize| lines.get(index).is_some_and(|line| line.ends_with('\\'));
    let mut last = lines.len().saturating_sub(1);
    while last > 0 && continued(last - 1) {
        last -= 1;
    }
    // Assignments before the command are its environment, which `exec` takes from `env` only.
    let prefix = |index| if index == last { "exec env " } else { "" };
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}\n", prefix(index)))
        .collect()
}

/// The folders of the programs, and then `others`.
fn search_path(programs: &[&Path], others: &OsString) -> Result<OsString> {
    let own = programs
        .iter()
        .filter_map(|program| program.parent())
        .map(Path::to_owned);
    env::join_paths(own.chain(env::split_paths(others))).context("the search path for programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_block_leaves_goes_away_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let left = Left::by_a_block(path.clone()).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Left::by_a_block(path.clone()).is_err());
        assert!(path.exists());
        drop(left);
        assert!(!path.exists());
    }

    #[test]
    fn the_command_that_serves_replaces_the_shell() {
        assert_eq!(
            exec_last("cd x\nA=1 \\\n  serve y\n"),
            "cd x\nexec env A=1 \\\n  serve y\n"
        );
        assert_eq!(exec_last("serve y\n"), "exec env serve y\n");
    }
}
