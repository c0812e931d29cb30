//! What is printed: Markdown, as it stands in `docs/performance.md`.

use std::fmt;

use super::rates::{CALLERS, Rates};
use super::{Plan, million, served};
use crate::report::met;
use crate::stats::{Interval, median, quantile};

/// Least creates of many callers, as a multiple of one caller's.
const GROWTH_TARGET: f64 = 10.0;
/// Longest median of a read, in seconds.
const READ_TARGET: f64 = 100e-6;
/// Longest time to open a store, in seconds.
const OPEN_TARGET: f64 = 0.200;
/// Longest time for a page of a listing, in seconds.
const PAGE_TARGET: f64 = 0.010;
/// Most resident memory over a server with an empty store.
const MEMORY_TARGET: u64 = 40_000_000;

/// How it was measured.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) plan: Plan,
    /// One small durable write, in seconds.
    pub(super) sync: f64,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { rounds, seconds, .. } = self.plan;
        let sync = self.sync * 1e3;
        writeln!(
            f,
            "{rounds} rounds, writes for {seconds} s each. A write of 4 KiB and `fdatasync` take {sync:.2} ms on this disk."
        )
    }
}

/// The head of the table about the large store.
#[derive(Debug)]
pub(super) struct Heading(pub(super) Plan);

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} keys | measured | target | |", self.0.keys)?;
        write!(f, "|---|---:|---:|---|")
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            embedded,
            fs,
            one_over_fs,
            many_over_fs,
        } = self;
        writeln!(
            f,
            "| creates per second, each durable when acknowledged | embedded | fs | embedded over fs (interval) | target | |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---|")?;
        writeln!(
            f,
            "| 1 caller | {:.0} | {:.0} | {} | | |",
            embedded.one,
            fs.one,
            Ratio(*one_over_fs)
        )?;
        writeln!(
            f,
            "| {CALLERS} callers | {:.0} | {:.0} | {} | | |",
            embedded.many,
            fs.many,
            Ratio(*many_over_fs)
        )?;
        write!(
            f,
            "| {CALLERS} callers over 1 (interval) | {} | {} | | {GROWTH_TARGET:.0} | {} |",
            Ratio(embedded.ratio),
            Ratio(fs.ratio),
            met(embedded.ratio.high >= GROWTH_TARGET),
        )
    }
}

impl fmt::Display for million::Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keys: _,
            size,
            filled,
            reads,
            reads_from_disk,
            opened,
            opened_after_kill,
            acknowledged,
        } = self;
        writeln!(
            f,
            "| get of a key picked at random | {}, p99 {} | median {:.0} µs | {} |",
            micros(median(reads)),
            micros(quantile(reads, 0.99)),
            READ_TARGET * 1e6,
            met(median(reads) < READ_TARGET),
        )?;
        writeln!(
            f,
            "| the same, nothing of the file in the system's memory | {}, p99 {} | | |",
            micros(median(reads_from_disk)),
            micros(quantile(reads_from_disk, 0.99)),
        )?;
        for (what, times) in [("a clean stop", opened), ("kill -9", opened_after_kill)] {
            writeln!(
                f,
                "| open after {what} | {} | {:.0} ms | {} |",
                MedianWorst(times),
                OPEN_TARGET * 1e3,
                met(quantile(times, 1.0) < OPEN_TARGET),
            )?;
        }
        writeln!(
            f,
            "| creates acknowledged before kill -9 and there after it | {acknowledged} of {acknowledged} | all | met |"
        )?;
        write!(
            f,
            "| filling the store; its size | {filled:.0} s; {} | | |",
            megabytes(*size)
        )
    }
}

impl fmt::Display for served::Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pages,
            page_cpu,
            idle,
            after_use,
            after_backup,
            backup,
            backed_up,
            verified,
            restored,
        } = self;
        writeln!(
            f,
            "| page of a listing of all keys through the API, {} of them | {}; CPU time of the server {:.1} ms | {:.0} ms | {} |",
            pages.len(),
            MedianWorst(pages),
            page_cpu * 1e3,
            PAGE_TARGET * 1e3,
            met(quantile(pages, 1.0) < PAGE_TARGET),
        )?;
        let over = after_use.resident.saturating_sub(idle.resident);
        writeln!(
            f,
            "| resident memory over a server with an empty store ({}), {} keys cached | {} | {} | {} |",
            megabytes(idle.resident),
            served::CACHE,
            megabytes(over),
            megabytes(MEMORY_TARGET),
            met(over <= MEMORY_TARGET),
        )?;
        writeln!(
            f,
            "| the same after a backup (most at any time {}) | {} | | |",
            megabytes(after_backup.peak.saturating_sub(idle.resident)),
            megabytes(after_backup.resident.saturating_sub(idle.resident)),
        )?;
        let rate = |what: &str, time: &f64| {
            let (size, rate) = (megabytes(*backup), *backup as f64 / 1e6 / time);
            format!("| {what}, {size} | {rate:.0} MB/s ({time:.1} s) | | |")
        };
        writeln!(f, "{}", rate("`kes store backup`", backed_up))?;
        writeln!(f, "{}", rate("verification of the backup", verified))?;
        write!(f, "{}", rate("restoration of it", restored))
    }
}

struct Ratio(Interval);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval {
            median,
            low,
            high,
            confidence: _,
        } = self.0;
        write!(f, "{median:.2} ({low:.2} to {high:.2})")
    }
}

struct MedianWorst<'a>(&'a [f64]);

impl fmt::Display for MedianWorst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, worst) = (median(self.0), quantile(self.0, 1.0));
        write!(f, "{:.1} ms (worst {:.1} ms)", median * 1e3, worst * 1e3)
    }
}

fn micros(seconds: f64) -> String {
    format!("{:.1} µs", seconds * 1e6)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
