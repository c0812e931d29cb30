//! How many connections the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Without any limit by the system, as many as one machine can have to one address.
const UNLIMITED: u64 = 65_536;

/// Lets this process have as many open files as the system allows it, and returns how many of them may be connections: the
/// rest is for the key store, logs and files.
pub(super) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If it cannot be raised, the limit stays what it is.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
    connections(getrlimit(Resource::Nofile).current)
}

fn connections(files: Option<u64>) -> usize {
    let files = files.unwrap_or(UNLIMITED).max(16);
    usize::try_from(files / 5 * 4).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_of_the_files_are_connections() {
        assert_eq!(connections(Some(1000)), 800);
        assert_eq!(connections(Some(0)), 12);
        assert!(connections(None) > 50_000);
    }
}
