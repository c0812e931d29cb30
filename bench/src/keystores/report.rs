//! What is printed: Markdown, as it stands in `docs/performance.md`.

use std::fmt;

use super::{CONNECTIONS, Figures};
use crate::report::met;
use crate::stats::{median, quantile};

/// The most that a cold data key may take, as a multiple of the bare call.
const TARGET: f64 = 1.2;

/// The head of the table.
#[derive(Debug)]
pub(super) struct Heading {
    pub(super) keys: usize,
    pub(super) crowd: usize,
}

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, crowd } = self;
        writeln!(
            f,
            "{keys} keys, one after the other; then {crowd} keys, {CONNECTIONS} connections that ask for all of them at once.\n"
        )?;
        writeln!(
            f,
            "| key store | bare `get`, median (p99), ms | cold generate, median (p99), ms | ratio | target | | {crowd} cold keys at once, s | bare, s |"
        )?;
        write!(f, "|---|---:|---:|---:|---:|---|---:|---:|")
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            bare,
            served,
            crowd_bare,
            crowd_served,
        } = self;
        let ratio = median(served) / median(bare);
        write!(
            f,
            "| {service} | {} | {} | {ratio:.2} | {TARGET} | {} | {crowd_served:.2} | {crowd_bare:.2} |",
            times(bare),
            times(served),
            met(ratio <= TARGET),
        )
    }
}

fn times(seconds: &[f64]) -> String {
    format!(
        "{:.2} ({:.2})",
        median(seconds) * 1e3,
        quantile(seconds, 0.99) * 1e3
    )
}
