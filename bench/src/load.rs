//! The load generators, which are programs of others: oha for connections that stay, fortio for handshakes.
//!
//! No single one does everything. oha resumes TLS sessions and cannot be told not to, so that its handshakes are not full
//! ones. fortio makes full ones, but takes its latencies from the moment of sending, needs several times oha's CPU time, and
//! has one request at a time on an HTTP/2 connection.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use kes_peers::install::{cargo_program, go_program};
use serde_json::Value;

use crate::process::{LOAD_CORE, pinned};
use crate::scenario::{Operation, Shape};
use crate::setup::Site;

const OHA: &str = "1.16.0";
const FORTIO: &str = "v1.68.0";

/// Where the load generators are.
#[derive(Debug)]
pub(crate) struct Generators {
    oha: PathBuf,
    fortio: PathBuf,
}

/// When requests are sent.
///
/// How many is given, not for how long: at the end of a time oha gives up the requests over HTTP/2 that are under way, and so
/// does not count the slowest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next one after the last one's answer.
    Closed { requests: u64 },
    /// So many a second, whatever becomes of them. Latencies count from when a request should have been sent.
    Open { requests: u64, rate: u32 },
}

/// What to send to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) operation: Operation,
    /// A file.
    pub(crate) body: &'a Path,
    pub(crate) shape: Shape,
    /// How long an answer must be.
    pub(crate) answer: usize,
}

/// What a load generator saw. All requests were answered with 200.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) latency: Latency,
}

/// In seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Generators {
    /// Finds the load generators in the user's cache, building what is missing.
    pub(crate) fn install() -> anyhow::Result<Self> {
        Ok(Self {
            oha: cargo_program("oha", OHA, &["--no-default-features", "--features", "rustls"])?,
            fortio: go_program("fortio.org/fortio", FORTIO)?,
        })
    }

    /// What the table says about the load.
    pub(crate) fn versions() -> String {
        format!("oha {OHA}; handshakes: fortio {FORTIO}")
    }

    pub(crate) fn run(&self, target: &Target<'_>, pace: Pace, site: &Site) -> anyhow::Result<Outcome> {
        match target.shape {
            Shape::Http1 { .. } | Shape::Http2 { .. } => self.oha(target, pace, site),
            Shape::Handshake { .. } => self.fortio(target, pace, site),
        }
    }

    fn oha(&self, target: &Target<'_>, pace: Pace, site: &Site) -> anyhow::Result<Outcome> {
        let mut command = pinned(LOAD_CORE, &self.oha);
        command.args(["--no-tui", "--worker-threads", "1", "--output-format", "json"]);
        command.arg("--cacert").arg(site.path("ca.pem"));
        command
            .arg("--cert")
            .arg(site.path("client.pem"))
            .arg("--key")
            .arg(site.path("client.key"));
        command.arg("-c").arg(target.shape.connections().to_string());
        if let Shape::Http2 { streams, .. } = target.shape {
            command.args(["--http2", "-p", &streams.to_string()]);
        }
        command.arg("-n").arg(pace.requests().to_string());
        if let Pace::Open { rate, .. } = pace {
            command.args(["-q", &rate.to_string(), "--latency-correction"]);
        }
        if target.operation != Operation::Version {
            command.args(["-m", "POST", "-D"]).arg(target.body);
        }
        command.arg(target.url());
        let output = command.output().context("starting oha")?;
        ensure!(
            output.status.success(),
            "oha failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout).context("reading the report of oha")?;
        let errors = report
            .pointer("/errorDistribution")
            .and_then(Value::as_object)
            .context("no errors in oha's report")?;
        ensure!(errors.is_empty(), "requests failed: {errors:?}");
        let requests = only_success(report.pointer("/statusCodeDistribution"))?;
        let size = number(&report, "/summary/sizePerRequest")?;
        ensure!(
            (size - target.answer as f64).abs() < 0.5,
            "answers of {size} bytes instead of {}",
            target.answer
        );
        Ok(Outcome {
            requests,
            per_second: number(&report, "/summary/requestsPerSec")?,
            latency: Latency {
                p50: number(&report, "/latencyPercentiles/p50")?,
                p99: number(&report, "/latencyPercentiles/p99")?,
                p999: number(&report, "/latencyPercentiles/p99.9")?,
            },
        })
    }

    fn fortio(&self, target: &Target<'_>, pace: Pace, site: &Site) -> anyhow::Result<Outcome> {
        let report = site.path("fortio.json");
        let mut command = pinned(LOAD_CORE, &self.fortio);
        // Off by default in programs of its age, on in today's Go.
        command.env("GODEBUG", "tlsmlkem=1");
        command.args([
            "load",
            "-quiet",
            "-keepalive=false",
            "-p",
            "50,99,99.9",
            "-r",
            "0.0001",
        ]);
        command.arg("-cacert").arg(site.path("ca.pem"));
        command
            .arg("-cert")
            .arg(site.path("client.pem"))
            .arg("-key")
            .arg(site.path("client.key"));
        command.args(["-c", &target.shape.connections().to_string()]);
        command.args(["-n", &pace.requests().to_string(), "-qps"]);
        match pace {
            Pace::Closed { .. } => command.arg("0"),
            Pace::Open { rate, .. } => command.arg(rate.to_string()),
        };
        if target.operation != Operation::Version {
            command.arg("-payload-file").arg(target.body);
        }
        command.arg("-json").arg(&report).arg(target.url());
        let output = command.output().context("starting fortio")?;
        ensure!(
            output.status.success(),
            "fortio failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value =
            serde_json::from_slice(&fs::read(report)?).context("reading the report of fortio")?;
        let requests = only_success(report.pointer("/RetCodes"))?;
        let percentile = |index| number(&report, &format!("/DurationHistogram/Percentiles/{index}/Value"));
        Ok(Outcome {
            requests,
            per_second: number(&report, "/ActualQPS")?,
            latency: Latency {
                p50: percentile(0)?,
                p99: percentile(1)?,
                p999: percentile(2)?,
            },
        })
    }
}

impl Pace {
    const fn requests(self) -> u64 {
        match self {
            Self::Closed { requests } | Self::Open { requests, .. } => requests,
        }
    }
}

impl Target<'_> {
    fn url(&self) -> String {
        format!("https://{}{}", self.addr, self.operation.path())
    }
}

/// How many requests were answered with 200.
///
/// # Errors
/// When one was answered with anything else.
fn only_success(statuses: Option<&Value>) -> anyhow::Result<u64> {
    let statuses = statuses
        .and_then(Value::as_object)
        .context("the report counts no answers")?;
    ensure!(statuses.len() == 1, "answers other than 200: {statuses:?}");
    statuses
        .get("200")
        .and_then(Value::as_u64)
        .with_context(|| format!("answers other than 200: {statuses:?}"))
}

fn number(report: &Value, pointer: &str) -> anyhow::Result<f64> {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("the report has no {pointer}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_failed_request_spoils_a_run() {
        assert_eq!(only_success(Some(&json!({ "200": 7 }))).unwrap(), 7);
        assert!(only_success(Some(&json!({ "200": 7, "503": 1 }))).is_err());
        assert!(only_success(Some(&json!({ "404": 7 }))).is_err());
        assert!(only_success(Some(&json!({}))).is_err());
    }
}
