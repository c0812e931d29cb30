//! Where a document is followed: a terminal, servers in others, and the services that the document takes for granted. All of it runs
//! in a room (`room.sh`), so that lines are typed as they are printed, with the ports and the folders that they name.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{self, PATIENCE, Server, file_tail, wait_until};
use kes_peers::{Moto, Vault};

use super::pattern::{self, Values};
use super::table::{Row, Service, Way};

/// The folder that the reader is in, when the document begins.
const HOME: &str = "/reader";

/// The names of AWS that are asked for.
const AWS: &[&str] = &["iam.amazonaws.com", "secretsmanager.us-east-2.amazonaws.com"];

/// Calls to AWS that need no rights: those that make the user whom the document needs.
const FREE_CALLS: u32 = 3;

#[derive(Debug)]
pub(super) struct Place {
    servers: BTreeMap<u16, Server>,
    started: usize,
    values: Values,
    aws: Option<Moto>,
    vault: Option<Vault>,
    /// What only the driver writes.
    own: PathBuf,
}

/// What a line has left.
struct Typed {
    status: u8,
    shown: String,
    said: String,
}

impl Place {
    /// In a room where nothing has happened. `programs` are what the document has its reader install.
    pub(super) fn new(programs: &[PathBuf]) -> Result<Self> {
        let own = PathBuf::from("/tmp/driver");
        fs::create_dir(&own).context("this is not a room")?;
        let path = Path::new("/usr/local/bin");
        for program in programs {
            let name = program.file_name().context("a program has no name")?;
            let to = path.join(name);
            if to.symlink_metadata().is_ok() {
                fs::remove_file(&to)?;
            }
            if name == "kes" {
                // What it may do is set on the file.
                fs::copy(program, to)?;
            } else {
                // Some look for what belongs to them beside them, where a link does not lead.
                fs::write(&to, format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display()))?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(Self {
            servers: BTreeMap::new(),
            started: 0,
            values: Values::new(),
            aws: None,
            vault: None,
            own,
        })
    }

    /// Tries one row.
    pub(super) fn follow(&mut self, row: &Row) -> Result<()> {
        match row.way {
            Way::Typed => self.typed(row, row.text)?,
            Way::Instead { script, .. } => self.typed(row, script)?,
            Way::Serves(port) => self.serve(row, row.text, port)?,
            Way::InsteadServes { script, port, .. } => self.serve(row, script, port)?,
            Way::File { path, content, fill } => self.write(path, content, fill)?,
            Way::Service(Service::Aws) => self.start_aws()?,
            Way::Service(Service::Vault) => self.start_vault()?,
            Way::NotHere(_) => {}
        }
        for (script, prints) in row.then {
            let typed = self.type_line(script)?;
            ensure!(typed.status == 0, "{script}\n{}{}", typed.shown, typed.said);
            pattern::compare(prints, &typed.shown, &mut self.values).with_context(|| (*script).to_owned())?;
        }
        Ok(())
    }

    /// The ends of what the servers have printed.
    pub(super) fn evidence(&self) -> String {
        (1..=self.started)
            .map(|number| {
                file_tail(&self.file(number, "out"), 10) + &file_tail(&self.file(number, "err"), 20)
            })
            .collect()
    }

    fn typed(&mut self, row: &Row, script: &str) -> Result<()> {
        let typed = self.type_line(script)?;
        ensure!(
            typed.status == u8::from(row.fails),
            "ended with status {}:\n{}{}",
            typed.status,
            typed.shown,
            typed.said
        );
        // The program under test says nothing that is not written down.
        let silent = script.starts_with("kes ").then_some("");
        if let Some(expected) = row.prints.or(silent) {
            pattern::compare(expected, &typed.shown, &mut self.values)?;
        }
        if let Some(expected) = row.says.or(silent) {
            pattern::compare(expected, &typed.said, &mut self.values).context("on the other output")?;
        }
        Ok(())
    }

    /// Types a line on a terminal of which only the standard output is seen, and waits for its end. What it exports, and where it
    /// goes, is there for the next one.
    fn type_line(&self, script: &str) -> Result<Typed> {
        let (line, said, status) = (
            self.own.join("line"),
            self.own.join("said"),
            self.own.join("status"),
        );
        let state = self.state();
        fs::write(
            &line,
            format!(
                "{}\n{script}\nexport -p >{state}.part\nprintf 'cd %q\\n' \"$PWD\" >>{state}.part\nmv {state}.part {state}\n",
                self.before()
            ),
        )?;
        let mut command = Command::new("script");
        let inner = format!(
            "bash -eo pipefail {} 2>{}; echo $? >{}",
            line.display(),
            said.display(),
            status.display()
        );
        command.args(["--quiet", "--command", &inner, "/dev/null"]);
        let finished = process::run(self.reader(&mut command), PATIENCE)?;
        Ok(Typed {
            status: fs::read_to_string(status)?.trim().parse()?,
            shown: pattern::plain(&finished.stdout)?,
            said: pattern::plain(&String::from_utf8_lossy(&fs::read(&said)?))?,
        })
    }

    /// Types the line of a server on another terminal, and waits until it listens and has said what it must. One that had the port
    /// before is stopped.
    fn serve(&mut self, row: &Row, line: &str, port: u16) -> Result<()> {
        if let Some(server) = self.servers.remove(&port) {
            let status = server.stop()?;
            ensure!(status.success(), "the server on port {port} ended with {status}");
        }
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        ensure!(connect().is_none(), "something else listens on port {port}");
        self.started += 1;
        let (out, err) = (self.file(self.started, "out"), self.file(self.started, "err"));
        let mut command = Command::new("bash");
        command.args(["-ec", &format!("{}\nexec env {line}", self.before())]);
        let mut server = Server::start(line, self.reader(&mut command), &out, &err)?;
        let name = format!("port {port}");
        wait_until(&name, PATIENCE, || {
            server.check_alive()?;
            Ok(connect())
        })?;
        for (expected, file) in [(row.prints, &out), (row.says, &err)] {
            let Some(expected) = expected else { continue };
            let mut compared = Ok(());
            let said = wait_until("what the server says", PATIENCE, || {
                server.check_alive()?;
                let printed = pattern::plain(&String::from_utf8_lossy(&fs::read(file)?))?;
                compared = pattern::compare(expected, &printed, &mut self.values);
                // Nothing comes after the line that says that it is ready.
                Ok((compared.is_ok() || printed.contains("\n=> ")).then_some(()))
            });
            compared.and(said)?;
        }
        self.servers.insert(port, server);
        Ok(())
    }

    /// Writes a file, with what the document tells its reader to put in.
    fn write(&self, path: &str, content: &str, fill: &[(&str, &str)]) -> Result<()> {
        let mut content = content.to_owned();
        for (text, word) in fill {
            let filled = self.type_line(&format!("printf %s {word}"))?;
            ensure!(filled.status == 0, "{word}: {}", filled.said);
            ensure!(content.contains(text), "the file has no '{text}'");
            content = content.replace(text, filled.shown.trim_end());
        }
        let aside = self.own.join("content");
        fs::write(&aside, content)?;
        let copied = self.type_line(&format!(
            "mkdir -p \"$(dirname {path})\"\ncat {} >{path}",
            aside.display()
        ))?;
        ensure!(copied.status == 0, "{}", copied.said);
        Ok(())
    }

    fn start_aws(&mut self) -> Result<()> {
        let names: Vec<String> = AWS.iter().map(|name| format!("DNS:{name}")).collect();
        let made = self.type_line(&format!(
            "cd {}
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
               -keyout ca.key -out ca.pem
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=aws -keyout aws.key -out aws.csr
             printf 'subjectAltName={}\\n' >names
             openssl x509 -req -in aws.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out aws.pem
             cat ca.pem >>/etc/ssl/certs/ca-certificates.crt
             cd {HOME}
             export AWS_CA_BUNDLE={0}/ca.pem AWS_EC2_METADATA_DISABLED=true",
            self.own.display(),
            names.join(",")
        ))?;
        ensure!(made.status == 0, "{}{}", made.shown, made.said);
        let mut hosts = OpenOptions::new().append(true).open("/etc/hosts")?;
        for name in AWS {
            writeln!(hosts, "127.0.0.1 {name}")?;
        }
        self.aws = Some(Moto::enforcing_auth_over_tls(
            443,
            FREE_CALLS,
            &self.own.join("aws.pem"),
            &self.own.join("aws.key"),
        )?);
        Ok(())
    }

    fn start_vault(&mut self) -> Result<()> {
        let home = Path::new(HOME);
        let vault = Vault::start_tls_on(8200, &home.join("vault-tls.crt"), &home.join("vault-tls.key"))?;
        self.values
            .insert("UNSEAL_KEY".to_owned(), vault.unseal_key().to_owned());
        self.vault = Some(vault);
        Ok(())
    }

    /// What each terminal begins with: what has been exported, and what has been kept.
    fn before(&self) -> String {
        let kept: String = self
            .values
            .iter()
            .map(|(name, value)| format!("export {name}='{value}'\n"))
            .collect();
        // A `!` before a command would not end a script that it fails.
        let fails = "fails() { if \"$@\"; then echo \"did not fail: $*\" >&2; return 1; fi; }\n";
        format!("[ ! -f {0} ] || . {0}\n{kept}{fails}", self.state())
    }

    fn state(&self) -> String {
        self.own.join("state").display().to_string()
    }

    fn file(&self, server: usize, extension: &str) -> PathBuf {
        self.own.join(format!("server-{server}.{extension}"))
    }

    /// With the environment of somebody who has just logged in.
    fn reader<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env_clear()
            .current_dir(HOME)
            .env("HOME", HOME)
            .env("SHELL", "/bin/bash")
            .env("TERM", "dumb")
            .env("LANG", "C.UTF-8")
            .env(
                "PATH",
                "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
            )
    }
}
