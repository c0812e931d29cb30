//! A terminal that a test types on and reads.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// The side of a terminal where a person sits.
pub(crate) struct Terminal(File);

/// A terminal, and the side of it that a program is given.
pub(crate) fn open() -> (Terminal, OwnedFd) {
    // No program may hold the side of the person, or the terminal is never closed.
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let program = File::options().read(true).write(true).open(name).unwrap();
    (Terminal(person.into()), program.into())
}

impl Terminal {
    pub(crate) fn into_file(self) -> File {
        self.0
    }

    /// Waits until what is typed is not shown.
    pub(crate) fn wait_for_no_echo(&self) {
        while tcgetattr(&self.0).unwrap().local_modes.contains(LocalModes::ECHO) {
            std::thread::yield_now();
        }
    }

    /// Types `text`.
    pub(crate) fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// What has been shown up to the first `text`.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(text) {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        String::from_utf8(shown).unwrap()
    }

    /// What has been shown until the last program has left.
    pub(crate) fn read_to_end(mut self) -> String {
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        // A terminal without programs fails to be read.
        while let Ok(length @ 1..) = self.0.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(shown).unwrap()
    }
}
