//! `kes status --health`: whether a server on this machine is ready, asked without a certificate.
//!
//! For the health check of a container that has no other program in it. What it asks is the listener of the section `health` of
//! the configuration.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

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
    let answer = exchange(address, PATIENCE).with_context(|| {
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

fn exchange(address: SocketAddr, patience: Duration) -> io::Result<Vec<u8>> {
    let started = Instant::now();
    let left = || match patience.saturating_sub(started.elapsed()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!("GET /v1/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Who sends a byte now and then is waited for no longer than who sends nothing.
    while answer.len() < LIMIT {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend(piece.iter().take(read)),
            // The second is what the system calls a time that is over.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Longer than a server waits for its key store before it says that it is not ready; whoever runs the check has a limit, too.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer is two lines and some headers.
const LIMIT: usize = 64 * 1024;
/// How much of an error is shown.
const MESSAGE: usize = 200;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_that_drips_is_not_waited_for_beyond_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dripping = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Until the other end is gone.
            while stream.write_all(b"H").is_ok() {
                thread::yield_now();
                let mut nothing = [0; 1];
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                let _ = stream.read(&mut nothing);
            }
        });
        let outcome = exchange(address, Duration::from_millis(300));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
        dripping.join().unwrap();
    }
}
