//! Processes, and what ours print.

pub(crate) use kes_peers::process::{
    Finished, PATIENCE, Server, file_tail, free_port, http_status, run, tail, wait_until,
};

/// The lines that a program prints for pasting into a shell: those that export variables, each ended.
pub(crate) fn exports(text: &str) -> String {
    text.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("export "))
        .map(|line| format!("{line}\n"))
        .collect()
}
