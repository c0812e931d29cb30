//! Every command and configuration that the documents print is run.
//!
//! A fenced block says in its first line how:
//!
//! * ```` ```sh run ````: runs in a folder that all blocks of the document share, and must succeed;
//! * ```` ```sh serve=PORT ````: the same in the background; the next block runs once something listens on the port.
//!   With `once` it is stopped again at that point, else at the end of the document;
//! * ```` ```yaml config=FILE ````: is written to that file and checked with `kes server --check --strict`;
//! * ```` ```sh ci ````: what CI does itself;
//! * ```` ```sh by-hand ````: what CI cannot do, such as measuring on a quiet machine.
//!
//! What else a block can say:
//!
//! * `pasted`: it runs after the lines that the servers before it have printed for pasting (`export …`), as a reader does it;
//! * `stop=PORT`: the server on that port is stopped first, as with Ctrl-C;
//! * `reloads`: it has the server take on its configuration anew; the next block runs once the server says that it has;
//! * `repo`: it runs in the repository;
//! * `leaves=NAME`: it makes this file or folder, which is removed at the end of the document and must not be there before.
//!
//! Every block finds the process id of the server that was started last as `KES_PID`. A block of shell or YAML that says nothing is
//! a mistake.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::cargo;
use crate::peers::Peers;
use crate::process::{self, PATIENCE, Server, file_tail, wait_until};
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
            let Peers { minio, mc } = Peers::install()?;
            let search = search_path(&[&cargo::build_kes()?, &minio, &mc])?;
            *prepared = Some((search, documents()?));
            Ok(())
        },
        |_| String::new(),
    );
    let Some((search, documents)) = prepared else {
        return;
    };
    let wanted = |document: &Document| only.is_none_or(|part| document.name.contains(part));
    let documents: Vec<_> = documents.into_iter().filter(wanted).collect();
    if let (true, Some(only)) = (documents.is_empty(), only) {
        report.add(0, &[format!("docs: no document is called '{only}'")]);
    }
    for document in documents {
        let Document { name, blocks } = document;
        let mut place = match Place::new(&search) {
            Ok(place) => place,
            Err(error) => return report.add(0, &[format!("docs: {error:#}")]),
        };
        for block in blocks.into_iter().filter(|block| block.kind != Kind::NotHere) {
            report.step(
                &format!("docs: {name}:{}", block.line),
                &mut place,
                |place| place.run(&block),
                Place::evidence,
            );
        }
    }
}

/// The folder and the background processes of one document.
struct Place {
    search: OsString,
    /// With their ports.
    servers: Vec<(u16, Server)>,
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
    fn new(search: &OsString) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kes-docs-")
            .tempdir()
            .context("making a temporary folder")?;
        Ok(Self {
            search: search.clone(),
            servers: Vec::new(),
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
        match &block.kind {
            Kind::Run => {
                let reloads = self.reloads();
                process::run(&mut self.shell(block)?, LIMIT)?.expect_success()?;
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
                let mut kes = Command::new("kes");
                kes.args(["server", "--check", "--strict", "--config", file]);
                process::run(self.surrounded(&mut kes), PATIENCE)?
                    .expect_success()
                    .map(drop)
            }
            Kind::NotHere => Ok(()),
        }
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
            Kind::Run | Kind::Config(_) | Kind::NotHere => block.text.clone(),
        };
        if block.pasted {
            let printed = fs::read_to_string(self.output()).unwrap_or_default();
            let lines = process::exports(&printed);
            ensure!(!lines.is_empty(), "no server has printed a line to paste");
            text.insert_str(0, &lines);
        }
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
        command
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
        file_tail(&self.output(), 30)
    }
}

/// One Markdown file and its blocks, in order.
#[derive(Debug)]
struct Document {
    name: String,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    /// Where it starts in the document, from 1.
    line: usize,
    kind: Kind,
    in_repository: bool,
    pasted: bool,
    reloads: bool,
    /// The port of a server to stop first.
    stop: Option<u16>,
    /// What it makes outside the document's folder.
    leaves: Option<String>,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Run,
    Serve {
        port: u16,
        once: bool,
    },
    Config(String),
    /// Left to CI itself, or to people.
    NotHere,
}

fn documents() -> Result<Vec<Document>> {
    let mut files = vec![
        "README.md".into(),
        "ARCHITECTURE.md".into(),
        "CONTRIBUTING.md".into(),
        "SECURITY.md".into(),
    ];
    markdown_below(Path::new("docs"), &mut files)?;
    let documents = files.iter().map(|file: &PathBuf| {
        let name = file.display().to_string();
        let text = fs::read_to_string(cargo::root().join(file)).with_context(|| format!("reading {name}"))?;
        let blocks = blocks(&text).with_context(|| name.clone())?;
        Ok(Document { name, blocks })
    });
    documents.collect()
}

fn markdown_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(cargo::root().join(folder)).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(folder.join(entry?.file_name())))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        if cargo::root().join(&name).is_dir() {
            markdown_below(&name, files)?;
        } else if name.extension().is_some_and(|extension| extension == "md") {
            files.push(name);
        }
    }
    Ok(())
}

/// The shell and YAML blocks of a document.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut body = String::new();
        for (line, _) in lines.by_ref().take_while(|(line, _)| line.trim() != "```") {
            body.push_str(line.get(indent..).unwrap_or_else(|| line.trim_start()));
            body.push('\n');
        }
        let mut words = info.split_whitespace();
        let language = words.next().unwrap_or_default();
        if matches!(language, "sh" | "shell" | "bash" | "console" | "yaml" | "yml") {
            blocks.push(block(number, words, body).with_context(|| format!("line {number}: ```{info}"))?);
        }
    }
    Ok(blocks)
}

fn block<'a>(line: usize, words: impl Iterator<Item = &'a str>, text: String) -> Result<Block> {
    let (mut kind, mut once, mut in_repository) = (None, false, false);
    let (mut pasted, mut reloads, mut stop, mut leaves) = (false, false, None, None);
    for word in words {
        match word.split_once('=') {
            None if word == "run" => kind = Some(Kind::Run),
            None if word == "ci" || word == "by-hand" => kind = Some(Kind::NotHere),
            None if word == "once" => once = true,
            None if word == "repo" => in_repository = true,
            None if word == "pasted" => pasted = true,
            None if word == "reloads" => reloads = true,
            Some(("stop", port)) => stop = Some(port.parse()?),
            Some(("leaves", name)) => leaves = Some(name.to_owned()),
            Some(("serve", port)) => {
                kind = Some(Kind::Serve {
                    port: port.parse()?,
                    once: false,
                })
            }
            Some(("config", file)) => kind = Some(Kind::Config(file.to_owned())),
            _ => bail!("'{word}' means nothing here"),
        }
    }
    let mut kind = kind.context("does not say how it is run")?;
    if let Kind::Serve { once: stopped, .. } = &mut kind {
        *stopped = once;
    }
    Ok(Block {
        line,
        kind,
        in_repository,
        pasted,
        reloads,
        stop,
        leaves,
        text,
    })
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

fn search_path(programs: &[&Path]) -> Result<OsString> {
    let own = programs
        .iter()
        .filter_map(|program| program.parent())
        .map(Path::to_owned);
    let inherited = env::var_os("PATH").unwrap_or_default();
    env::join_paths(own.chain(env::split_paths(&inherited))).context("the search path for programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_what_is_to_be_done() {
        let text = "a\n```sh run\nls\n```\n\n1. b\n   ```yaml config=kes.yml\n   a:\n     b\n   ```\n```text\nx\n```\n\
                    ```sh serve=7373 once repo\nx\n```\n\
                    ```sh run pasted reloads stop=7373 leaves=data\nx\n```\n";
        let blocks = blocks(text).unwrap();
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| (block.line, block.text.as_str(), block.in_repository))
            .collect();
        assert_eq!(
            seen,
            [
                (2, "ls\n", false),
                (7, "a:\n  b\n", false),
                (14, "x\n", true),
                (17, "x\n", false)
            ]
        );
        assert!(blocks[3].pasted && blocks[3].reloads && blocks[3].stop == Some(7373));
        assert_eq!(blocks[3].leaves.as_deref(), Some("data"));
        assert_eq!(blocks[1].kind, Kind::Config("kes.yml".to_owned()));
        assert_eq!(
            blocks[2].kind,
            Kind::Serve {
                port: 7373,
                once: true
            }
        );
    }

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
    fn a_block_that_says_nothing_is_a_mistake() {
        assert!(blocks("```sh\nls\n```\n").is_err());
        assert!(blocks("```yaml typo\na: b\n```\n").is_err());
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
