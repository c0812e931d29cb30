//! What is printed: Markdown, as it stands in `docs/performance.md`.

use std::fmt;
use std::fs;

use crate::compare::{Comparison, Plan};
use crate::load::{Generators, Latency};
use crate::memory;
use crate::scenario::Scenario;
use crate::setup::Binaries;

/// Most resident memory before the first request.
const IDLE_TARGET: u64 = 12_000_000;
/// Most resident memory after 64 connections of load.
const LOADED_TARGET: u64 = 25_000_000;
/// Longest time from the start to the first answer, in seconds.
const START_TARGET: f64 = 0.040;

/// All results.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    plan: Plan,
    pub(crate) comparisons: Vec<(&'static Scenario, Comparison)>,
    pub(crate) memory: Option<memory::Figures>,
}

impl Report {
    pub(crate) fn new(binaries: &Binaries, plan: Plan) -> Self {
        Self {
            machine: format!("{} Load: {}.", machine(binaries), Generators::versions()),
            plan,
            comparisons: Vec::new(),
            memory: None,
        }
    }
}

/// What was measured, and on what.
pub(crate) fn machine(binaries: &Binaries) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Commit {}, {model}, Linux {}, load average {} at the start.",
        binaries.commit,
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            pairs,
            seconds,
            rate,
            calibrate,
        } = self.plan;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{pairs} pairs, {seconds} s a run, open loop at {rate} requests/s.\n"
        )?;
        if calibrate {
            writeln!(f, "**Calibration: the null server in both places.**\n")?;
        }
        if !self.comparisons.is_empty() {
            writeln!(
                f,
                "| operation | requests/s | null server | p50 / p99 / p99.9, ms | null server | CPU per request, µs | null server | ratio (interval) | target | |"
            )?;
            writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")?;
        }
        for (
            scenario,
            Comparison {
                ours,
                null,
                ratio,
                open_loop,
            },
        ) in &self.comparisons
        {
            let mark = if *open_loop { "" } else { " ¹" };
            writeln!(
                f,
                "| {} | {:.0} | {:.0} | {}{mark} | {}{mark} | {:.2} | {:.2} | {:.3} ({:.3} to {:.3}) | {:.2} | {} |",
                scenario.title,
                ours.per_second,
                null.per_second,
                Milliseconds(ours.latency),
                Milliseconds(null.latency),
                ours.cpu,
                null.cpu,
                ratio.median,
                ratio.low,
                ratio.high,
                scenario.target,
                met(ratio.low < scenario.target),
            )?;
        }
        if let Some((_, comparison)) = self.comparisons.first() {
            let confidence = comparison.ratio.confidence * 100.0;
            writeln!(
                f,
                "\nThe interval holds the median ratio with {confidence:.0} %. A target is met when the interval begins below it."
            )?;
        }
        if self
            .comparisons
            .iter()
            .any(|(_, comparison)| !comparison.open_loop)
        {
            writeln!(f, "¹ Closed loop.")?;
        }
        if let Some(memory) = &self.memory {
            writeln!(f, "\n{memory}")?;
        }
        Ok(())
    }
}

impl fmt::Display for memory::Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let (median, worst) = self.first_answer;
        let (ours, null) = self.per_connection;
        writeln!(f, "| | measured | target | |")?;
        writeln!(f, "|---|---:|---:|---|")?;
        writeln!(
            f,
            "| resident memory, idle, without memory locking | {} | {} | {} |",
            megabytes(self.idle.resident),
            megabytes(IDLE_TARGET),
            met(self.idle.resident <= IDLE_TARGET),
        )?;
        if let Some(locked) = self.idle_locked {
            writeln!(
                f,
                "| the same with memory locking | {} | | |",
                megabytes(locked.resident)
            )?;
        }
        writeln!(
            f,
            "| resident memory after 64 connections of generate | {} (peak {}) | {} | {} |",
            megabytes(self.after_load.resident),
            megabytes(self.after_load.peak),
            megabytes(LOADED_TARGET),
            met(self.after_load.resident <= LOADED_TARGET),
        )?;
        writeln!(
            f,
            "| start to first answer, {} keys in the store | {:.1} ms (worst {:.1} ms) | {:.0} ms | {} |",
            memory::KEYS,
            median * 1e3,
            worst * 1e3,
            START_TARGET * 1e3,
            met(median <= START_TARGET),
        )?;
        write!(
            f,
            "| resident memory of an idle connection, {} of them | {:.1} kB (null server {:.1} kB) | | |",
            self.connections,
            ours / 1e3,
            null / 1e3,
        )
    }
}

struct Milliseconds(Latency);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p99, p999 } = self.0;
        write!(f, "{:.2} / {:.2} / {:.2}", p50 * 1e3, p99 * 1e3, p999 * 1e3)
    }
}

pub(crate) const fn met(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}
