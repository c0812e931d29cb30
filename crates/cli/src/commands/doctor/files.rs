//! The files: who can read and change them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kes_config::KeyStoreSettings;
use kes_config::keystore::{Embedded, Fs, Jwt, SealSettings, Vault, VaultLogin};
use rustix::fs::Access;

use super::finding::Findings;
use super::subject::Subject;

/// How many files of a folder are looked at.
const MOST_ENTRIES: usize = 10_000;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Whoever reads it can do what only the server may.
    Secret,
    /// It may have secrets in it.
    Configuration,
    /// Everybody may read it.
    Public,
}

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(settings) = &subject.settings else { return };
    let mut files: Vec<(PathBuf, String, Content)> = vec![
        (subject.path.clone(), String::new(), Content::Configuration),
        (settings.tls.key.clone(), "tls.key".to_owned(), Content::Secret),
        (settings.tls.cert.clone(), "tls.cert".to_owned(), Content::Public),
    ];
    let key = subject.keystore_key();
    match &settings.keystore {
        KeyStoreSettings::Embedded(Embedded {
            path,
            seals,
            undelete: _,
        }) => {
            for seal in seals {
                if let SealSettings::File(file) = seal {
                    files.push((file.clone(), format!("{key}.seal"), Content::Secret));
                }
            }
            if path.exists() {
                files.push((path.clone(), format!("{key}.path"), Content::Secret));
            } else {
                findings
                    .note(
                        "there is no key store yet: the server makes an empty one when it starts",
                        "if there should be one, find it before the server starts: its disk may not be mounted",
                    )
                    .file(path.display())
                    .at(subject, &format!("{key}.path"));
            }
            folder(
                subject,
                path.parent().unwrap_or(Path::new(".")),
                &format!("{key}.path"),
                findings,
            );
            if seals_beside(path, seals) {
                findings
                    .note(
                        "the seal is in the same folder as the key store: whoever gets a copy of the folder gets the keys",
                        "keep the seal elsewhere, and its copies apart from the backups",
                    )
                    .at(subject, &format!("{key}.seal"));
            }
        }
        KeyStoreSettings::Fs(Fs { path }) => keys(subject, path, &format!("{key}.path"), findings),
        KeyStoreSettings::Vault(vault) => {
            let Vault { login, tls, .. } = &**vault;
            if let Some(client) = &tls.client {
                files.push((client.key.clone(), format!("{key}.tls.key"), Content::Secret));
                files.push((client.cert.clone(), format!("{key}.tls.cert"), Content::Public));
            }
            match login {
                VaultLogin::Token { file } => {
                    files.push((file.clone(), format!("{key}.token.file"), Content::Secret));
                }
                VaultLogin::Kubernetes {
                    jwt: Jwt::File(file), ..
                } => files.push((file.clone(), format!("{key}.kubernetes.jwt"), Content::Secret)),
                VaultLogin::Kubernetes {
                    jwt: Jwt::Token(_), ..
                }
                | VaultLogin::AppRole { .. }
                | VaultLogin::Cert { .. } => {}
            }
        }
        KeyStoreSettings::Aws(_)
        | KeyStoreSettings::Fortanix(_)
        | KeyStoreSettings::Gemalto(_)
        | KeyStoreSettings::Gcp(_)
        | KeyStoreSettings::Azure(_)
        | KeyStoreSettings::Entrust(_) => {}
    }
    for (path, key, content) in files {
        file(subject, &path, &key, content, findings);
    }
    if findings.is_fine() {
        findings.ok("nobody else can read what is secret, or change what the server reads");
    }
}

/// Looks at one file, and at the folder that it is in.
fn file(subject: &Subject, path: &Path, key: &str, content: Content, findings: &mut Findings) {
    let Ok(metadata) = path.metadata() else {
        // For the certificate that is told elsewhere.
        if content == Content::Secret {
            findings
                .error(
                    "the file is not there, or cannot be looked at",
                    "put it there, and let the server's user read it",
                )
                .file(path.display())
                .at(subject, key);
        }
        return;
    };
    let mode = metadata.mode() & 0o777;
    let shown = path.display();
    if content == Content::Secret && mode & 0o004 != 0 {
        findings
            .error(
                format!("everybody on this machine can read what is secret (mode {mode:04o})"),
                format!("chmod 600 {shown}"),
            )
            .file(&shown)
            .at(subject, key);
    } else if content == Content::Secret && mode & 0o040 != 0 {
        findings
            .note(
                format!(
                    "the group {} can read what is secret (mode {mode:04o})",
                    metadata.gid()
                ),
                format!("if that group is not made for this: chmod 600 {shown}"),
            )
            .file(&shown)
            .at(subject, key);
    } else if content == Content::Configuration && mode & 0o004 != 0 && has_secrets(subject) {
        findings
            .warn(
                format!(
                    "everybody on this machine can read the configuration, which has credentials in it (mode {mode:04o})"
                ),
                format!("chmod 600 {shown}, or put the credentials into environment variables"),
            )
            .file(&shown);
    }
    if mode & 0o002 != 0 {
        findings
            .error(
                format!("everybody on this machine can change the file (mode {mode:04o})"),
                format!("chmod o-w {shown}"),
            )
            .file(&shown);
    }
    owner(&metadata, path, findings);
    if let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        if let Ok(metadata) = parent.metadata() {
            let mode = metadata.mode();
            // With the sticky bit nobody replaces the files of others.
            if mode & 0o002 != 0 && mode & 0o1000 == 0 {
                findings
                    .error(
                        format!(
                            "everybody on this machine can replace {} in its folder (mode {:04o})",
                            shown,
                            mode & 0o7777
                        ),
                        format!("chmod o-w {}", parent.display()),
                    )
                    .file(parent.display());
            }
        }
    }
}

fn owner(metadata: &Metadata, path: &Path, findings: &mut Findings) {
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 && own != 0 {
        findings
            .warn(
                format!(
                    "the file belongs to user {}, who can change it, and is neither root nor who runs this ({own})",
                    metadata.uid()
                ),
                "run this as the user of the server, or give the file to that user",
            )
            .file(path.display());
    }
}

/// Whether a credential stands in the file itself, as far as it can be told: not what comes from a variable.
fn has_secrets(subject: &Subject) -> bool {
    let Ok(text) = kes_tls::read_file(&subject.path) else {
        return false;
    };
    let Ok(text) = std::str::from_utf8(&text) else {
        return false;
    };
    text.lines().any(|line| {
        let Some((key, value)) = line.split_once([':', '=']) else {
            return false;
        };
        let (key, value) = (key.trim(), value.trim().trim_matches(['"', '\'']));
        let is_secret = [
            "secret",
            "password",
            "secretkey",
            "secret_key",
            "token",
            "jwt",
            "key",
        ]
        .contains(&key);
        // The name of a file is none.
        let is_file = value.contains('/') || value.contains('.');
        is_secret && !value.is_empty() && !value.starts_with(['#', '{', '[', '$', '&', '*']) && !is_file
    })
}

fn seals_beside(path: &Path, seals: &[SealSettings]) -> bool {
    let folder = |path: &Path| path.parent().and_then(|parent| parent.canonicalize().ok());
    let own = folder(path);
    own.is_some()
        && seals
            .iter()
            .any(|seal| matches!(seal, SealSettings::File(file) if folder(file) == own))
}

/// A folder that the server writes to.
fn folder(subject: &Subject, path: &Path, key: &str, findings: &mut Findings) {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    if !path.is_dir() {
        findings
            .error(
                "there is no such folder",
                format!("mkdir -m 700 {}", path.display()),
            )
            .file(path.display())
            .at(subject, key);
        return;
    }
    if let Err(error) = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        findings
            .error(
                format!("who runs this cannot write to the folder: {error}"),
                "give the folder to the user of the server, or run this as that user",
            )
            .file(path.display())
            .at(subject, key);
    }
}

/// The folder of a key store without encryption: every file in it is a key.
fn keys(subject: &Subject, path: &Path, key: &str, findings: &mut Findings) {
    let Ok(metadata) = path.metadata() else {
        findings
            .note(
                "there is no such folder yet: the server makes it when it starts",
                "if there should be one, find it before the server starts: its disk may not be mounted",
            )
            .file(path.display())
            .at(subject, key);
        return;
    };
    if !metadata.is_dir() {
        findings
            .error("this is not a folder", "name the folder with the keys")
            .file(path.display())
            .at(subject, key);
        return;
    }
    folder(subject, path, key, findings);
    let mode = metadata.mode() & 0o777;
    let is_closed = mode & 0o005 == 0;
    if mode & 0o002 != 0 {
        findings
            .error(
                format!("everybody on this machine can make and remove keys (mode {mode:04o})"),
                format!("chmod 700 {}", path.display()),
            )
            .file(path.display())
            .at(subject, key);
    }
    let open = path.read_dir().into_iter().flatten().flatten();
    let open = open.take(MOST_ENTRIES).filter(|entry| {
        entry
            .metadata()
            .is_ok_and(|file| file.is_file() && file.mode() & 0o004 != 0)
    });
    let open = open.count();
    if open > 0 && !is_closed {
        findings
            .error(
                format!("everybody on this machine can read {open} keys in the folder"),
                format!(
                    "chmod 700 {0}; chmod 600 {0}/*. Then think about who may have copies",
                    path.display()
                ),
            )
            .file(path.display())
            .at(subject, key);
    } else if !is_closed {
        findings
            .warn(
                format!("everybody on this machine can look into the folder of the keys (mode {mode:04o})"),
                format!("chmod 700 {}", path.display()),
            )
            .file(path.display())
            .at(subject, key);
    }
    findings
        .note(
            "keys are stored without encryption: whoever reads the disk has them",
            "for more than a try, use keystore.embedded, or a service; `kes migrate` moves the keys",
        )
        .at(subject, key);
}
