//! A program on a terminal of its own, and what a person sees on it.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use kes_testkit::PATIENCE;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use vt100::{Parser, Screen};

use crate::terminal;

/// A program that leads the session of a terminal, as one does that a person has started there.
pub(crate) struct Session {
    child: Child,
    person: File,
    shown: Receiver<Vec<u8>>,
    parser: Parser,
    /// How the terminal was before the program.
    before: Termios,
}

impl Session {
    /// Starts `program` on a terminal of so many columns and lines.
    pub(crate) fn start(program: &Command, size: (u16, u16)) -> Self {
        Self::start_with(program, size, true)
    }

    /// The same, perhaps without a keyboard: with a terminal that is there to be looked at only.
    pub(crate) fn start_with(program: &Command, (columns, lines): (u16, u16), has_keyboard: bool) -> Self {
        let (terminal, side) = terminal::open();
        let person = terminal.into_file();
        tcsetwinsize(&person, size(columns, lines)).unwrap();
        let before = tcgetattr(&person).unwrap();
        // Not a group's leader yet, it becomes the program itself.
        let mut command = Command::new("setsid");
        command
            .args(has_keyboard.then_some("--ctty"))
            .arg(program.get_program())
            .args(program.get_args());
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("TERM", "xterm-256color")
            .env("PATH", path);
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(directory) = program.get_current_dir() {
            command.current_dir(directory);
        }
        command
            .stdin(if has_keyboard {
                side.try_clone().unwrap().into()
            } else {
                Stdio::null()
            })
            .stdout(side.try_clone().unwrap())
            .stderr(side);
        let child = command.spawn().unwrap();
        let mut reader = person.try_clone().unwrap();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal without programs fails to be read.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            person,
            shown,
            parser: parser(columns, lines),
            before,
        }
    }

    /// Waits until the screen is as `done` wants it.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self.parser.screen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) if !left.is_zero() => self.parser.process(&bytes),
                Ok(_) | Err(_) => panic!("{what}: not on the screen:\n{}", self.text()),
            }
        }
    }

    /// Waits until `text` is on the screen.
    #[track_caller]
    pub(crate) fn until_text(&mut self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text));
    }

    pub(crate) fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// What is on the screen.
    pub(crate) fn text(&self) -> String {
        self.screen().contents()
    }

    /// Gives the terminal another size, as a window does that is dragged.
    pub(crate) fn resize(&mut self, columns: u16, lines: u16) {
        let (lines_shown, columns_shown) = parser(columns, lines).screen().size();
        self.parser.set_size(lines_shown, columns_shown);
        tcsetwinsize(&self.person, size(columns, lines)).unwrap();
    }

    /// Types `text`.
    pub(crate) fn write(&mut self, text: &str) {
        std::io::Write::write_all(&mut self.person, text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until what is typed is shown, or is not.
    pub(crate) fn wait_for_echo(&self, wanted: bool) {
        let deadline = Instant::now() + PATIENCE;
        let is_shown = || {
            tcgetattr(&self.person)
                .unwrap()
                .local_modes
                .contains(LocalModes::ECHO)
        };
        while is_shown() != wanted {
            assert!(Instant::now() < deadline, "echo is not {wanted}");
            std::thread::yield_now();
        }
    }

    /// Waits until the program is stopped, as by Ctrl-Z.
    pub(crate) fn wait_for_stop(&self) {
        let pid = Pid::from_child(&self.child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// Whether the terminal is as it was before the program.
    pub(crate) fn is_restored(&self) -> bool {
        let now = tcgetattr(&self.person).unwrap();
        let modes = |modes: &Termios| (modes.local_modes, modes.input_modes, modes.output_modes);
        modes(&now) == modes(&self.before)
            && !self.screen().hide_cursor()
            && !self.screen().alternate_screen()
    }

    /// Waits for the end of the program, after which all of its output is on the screen.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.parser.process(&bytes),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("it goes on:\n{}", self.text()),
            }
        }
    }

    /// The same for a program that must leave the terminal as it was, and its exit code.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        let status = self.wait();
        assert!(self.is_restored(), "{:?}\n{}", self.screen(), self.text());
        status.code()
    }

    /// Closes the terminal's window, and waits for the end of the program.
    pub(crate) fn close(mut self) -> ExitStatus {
        // The thread that reads ends, and with it the last hold on the terminal, when nobody wants what it has read.
        self.shown = channel().1;
        self.person = File::open("/dev/null").unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A screen of this size, or of the usual one if the terminal does not know its own.
fn parser(columns: u16, lines: u16) -> Parser {
    let or = |size: u16, usual: u16| NonZeroU16::new(size).or(NonZeroU16::new(usual)).unwrap();
    Parser::new(or(lines, 24), or(columns, 80), 0)
}
