//! Passwords of private keys: from the environment, or from the terminal without echo.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::output::to_stderr;

/// The terminal of the process, if it has one.
const TERMINAL: &str = "/dev/tty";
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
    let terminal = File::open(TERMINAL).map_err(|_| no_terminal())?;
    let echoing = tcgetattr(&terminal).context("cannot read the state of the terminal")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let prompt = prompt.to_owned();
    let password = runtime.block_on(async {
        // Ctrl-C raises the signal before the terminal shows again what is typed; so the signal must not end the process.
        let _interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let reading = tokio::task::spawn_blocking(move || {
            let config = rpassword::ConfigBuilder::new()
                .output_writer(io::stderr())
                .build();
            rpassword::prompt_password_with_config(prompt, config)
        });
        tokio::select! {
            password = reading => password?,
            _ = terminate.recv() => {
                // The thread that reads ends with the process, and leaves the terminal as it is.
                tcsetattr(&terminal, OptionalActions::Now, &echoing)?;
                to_stderr("\n");
                Err(io::ErrorKind::Interrupted.into())
            }
        }
    });
    runtime.shutdown_background();
    password.map(Zeroizing::new).context("cannot read the password")
}

fn has_terminal() -> bool {
    File::open(TERMINAL).is_ok()
}

fn no_terminal() -> anyhow::Error {
    anyhow!("a password is needed, but there is no terminal to ask for it and {PASSWORD} is not set")
}
