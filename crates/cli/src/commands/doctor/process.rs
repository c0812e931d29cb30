//! The process that a server would be, started as this program was: limits, memory, user.

use rustix::process::{Resource, getrlimit};

use super::finding::Findings;
use super::subject::Subject;
use crate::memory;

/// Fewer open files are used up by a few hundred clients.
const FEW_FILES: u64 = 1024;

pub(super) fn check(_: &Subject, findings: &mut Findings) {
    if rustix::process::geteuid().is_root() {
        findings.note(
            "this runs as root: a server that does can do more than it needs, and whether another user can read the files is not seen",
            "run the server, and this, as a user of its own: `User=` in systemd, `sudo -u kes kes doctor …`",
        );
    }
    if memory::is_unlimited() {
        findings.ok("a server started like this locks its memory, so that no key is swapped out");
    } else if has_swap() {
        findings.warn(
            "memory cannot be locked, and this machine has swap space: keys could be written to disk",
            "`LimitMEMLOCK=infinity` in systemd, `setcap cap_ipc_lock=+ep` on the executable, or no swap",
        );
    } else {
        findings.fact("memory cannot be locked, but this machine has no swap space either");
    }
    let files = getrlimit(Resource::Nofile).maximum;
    match files {
        Some(files) if files < FEW_FILES => {
            findings.warn(
                format!("a process may open {files} files, and four fifths of them are connections"),
                "`LimitNOFILE=65536` in systemd, or `ulimit -n`",
            );
        }
        Some(files) => {
            findings.ok(format!(
                "a process may open {files} files: room for {} connections",
                files / 5 * 4
            ));
        }
        None => {
            findings.ok("a process may open any number of files");
        }
    }
    if getrlimit(Resource::Core).current != Some(0) {
        findings.fact("core dumps are enabled; the server keeps itself out of them");
    }
    match umask() {
        Some(umask) if umask & 0o007 == 0 => {
            findings.note(
                format!(
                    "the umask is {umask:04o}: files that others make here can be read and written by everybody"
                ),
                "`UMask=0077` in systemd, or `umask 077`. What this program makes has its mode whatever the umask is",
            );
        }
        Some(_) | None => {}
    }
}

fn has_swap() -> bool {
    // A line of titles, and one for each swap space.
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Read and not set: to set it is the only other way to learn it.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(umask.trim(), 8).ok()
}
