//! Passwords of private keys: from the environment, or from the terminal without echo.

use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::environment::Environment;

const PASSWORD: &str = "MINIO_KMS_KES_KEY_PASSWORD";

/// The password that the private key at `path` is encrypted with.
pub(crate) fn of_key(path: &Path, environment: &Environment) -> anyhow::Result<Zeroizing<String>> {
    match environment.get_exact(PASSWORD) {
        Some(password) => Ok(Zeroizing::new(password.to_owned())),
        None => ask(&format!("Enter password for {}: ", path.display())),
    }
}

/// A password to encrypt a new private key with.
pub(crate) fn new(environment: &Environment) -> anyhow::Result<Zeroizing<String>> {
    let password = if has_terminal() {
        let password = ask("Enter password for private key: ")?;
        if *password != *ask("Confirm password for private key: ")? {
            bail!("the passwords are not the same");
        }
        password
    } else {
        let password = environment.get_exact(PASSWORD).ok_or_else(no_terminal)?;
        Zeroizing::new(password.to_owned())
    };
    if password.is_empty() {
        bail!("the password is empty");
    }
    Ok(password)
}

/// Asks on the standard error output and reads from the terminal, whatever the standard input and output are.
fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if !has_terminal() {
        return Err(no_terminal());
    }
    // Ctrl-C raises the signal before the terminal shows again what is typed; so the signal must not end the process.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let interrupt = signal(SignalKind::interrupt())?;
    let config = rpassword::ConfigBuilder::new()
        .output_writer(io::stderr())
        .build();
    let password = rpassword::prompt_password_with_config(prompt, config);
    drop((interrupt, entered));
    password.map(Zeroizing::new).context("cannot read the password")
}

fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

fn no_terminal() -> anyhow::Error {
    anyhow!("a password is needed, but there is no terminal to ask for it and {PASSWORD} is not set")
}
