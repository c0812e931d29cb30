//! Each peer starts, answers as the key stores' tests expect of it, and ends with its owner.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

use std::path::Path;

use kes_peers::process::{PATIENCE, run};

mod commands;
mod debian;
mod kubernetes;
mod moto;
mod owner;
mod vault;

/// A certificate for 127.0.0.1 and its key, in the files `pem` and `key` of a folder.
fn certificate() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key -out pem"
                .split(' '),
        )
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .current_dir(folder.path());
    run(&mut openssl, PATIENCE).unwrap().expect_success().unwrap();
    folder
}

/// What `url` answers over TLS, asked by a client that believes `pem` of this folder.
fn curl(folder: &Path, url: &str, more: &[&str]) -> String {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--cacert", "pem", url])
        .args(more)
        .current_dir(folder);
    run(&mut curl, PATIENCE).unwrap().expect_success().unwrap()
}
