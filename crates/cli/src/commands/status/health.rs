//! `kes status --health`: whether a server on this machine is ready, asked without a certificate.
//!
//! For the health check of a container that has no other program in it. What it asks is the listener of the section `health` of
//! the configuration.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Asks the listener at `address`, such as `127.0.0.1:7374`.
pub(super) fn run(address: &str, output: &mut Output) -> Outcome {
    let plain = address.strip_prefix("http://").unwrap_or(address);
    let Ok(address) = plain.trim_end_matches('/').parse::<SocketAddr>() else {
        return Err(Failure::Usage(format!(
            "invalid value '{address}' for '--health': it is the IP address and the port of the section `health` of the server's \
             configuration, such as 127.0.0.1:7374"
        )));
    };
    ask(address)?;
    output.line("ready")
}

fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let answer = exchange(address).with_context(|| {
        format!("no answer from {address}: the server is not running, or its configuration has no section `health` with this address")
    })?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .ok_or_else(|| anyhow!("{address} answers something that is not HTTP"))?;
    if status != "200" {
        let message: String = body.chars().filter(|c| !c.is_control()).take(MESSAGE).collect();
        bail!("the server at {address} is not ready: status {status}: {message}");
    }
    Ok(())
}

fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /v1/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Longer than a server waits for its key store before it says that it is not ready; whoever runs the check has a limit, too.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer is two lines and some headers.
const LIMIT: u64 = 64 * 1024;
/// How much of an error is shown.
const MESSAGE: usize = 200;
