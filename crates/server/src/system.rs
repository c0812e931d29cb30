//! What the operating system says about this process.

use std::fs;
use std::thread;

/// What the process uses. Each number is at least 1: clients take a zero for "not reported".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Processors of the machine.
    pub(crate) cpus: usize,
    /// Processors that this process may use.
    pub(crate) usable_cpus: usize,
    /// Threads of this process.
    pub(crate) threads: u64,
    /// Bytes of anonymous memory.
    pub(crate) heap: u64,
    /// Bytes of the main thread's stack.
    pub(crate) stack: u64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let usable_cpus = thread::available_parallelism().map_or(1, usize::from);
        Self {
            cpus: online_cpus().unwrap_or(usable_cpus),
            usable_cpus,
            threads: field("Threads").max(1),
            heap: (field("RssAnon") << 10).max(1),
            stack: (field("VmStk") << 10).max(1),
        }
    }
}

/// Counts a list such as `0-3,8`.
fn online_cpus() -> Option<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    list.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

/// The operating system in Go's spelling, which clients know.
pub(crate) const fn os() -> &'static str {
    std::env::consts::OS
}

/// The processor architecture in Go's spelling.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_zero() {
        let Usage {
            cpus,
            usable_cpus,
            threads,
            heap,
            stack,
        } = Usage::now();
        assert!(cpus >= usable_cpus && usable_cpus > 0 && threads > 0 && heap > 1 && stack > 1);
    }
}
