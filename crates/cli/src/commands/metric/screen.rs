//! The terminal while the live view is on it: a screen of its own without a cursor, on which keys are not shown.
//!
//! Whatever ends the view, the terminal is as it was before.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, stdin, stdout};
use std::sync::{Arc, Mutex, PoisonError};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What a terminal that does not know its size is taken for.
const USUAL: (u16, u16) = (80, 24);
/// More than a frame has bytes, so that it is written at once and does not flicker.
const FRAME: usize = 64 << 10;

/// The terminal while the view is on it.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    former: Former,
}

/// How the terminal was before, while it is another way. Shared with what runs when the program panics.
#[derive(Clone, Debug, Default)]
struct Former(Arc<Mutex<Option<Before>>>);

#[derive(Debug)]
struct Before {
    /// Of the standard input, if that is a terminal.
    modes: Option<Termios>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        // Whether there are colours has been decided already, by more than crossterm looks at.
        force_color_output(true);
        let former = Former::default();
        let on_panic = former.clone();
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A report on the other screen would vanish with it.
            let _ = on_panic.restore();
            report(panic);
        }));
        let mut screen = Self {
            terminal: new_terminal()?,
            former,
        };
        screen.resume()?;
        Ok(screen)
    }

    /// Takes the terminal again, of whatever size it is now.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.former.change()?;
        self.resized()
    }

    /// The terminal has another size: nothing of what it shows is where it was.
    pub(super) fn resized(&mut self) -> io::Result<()> {
        self.terminal = new_terminal()?;
        execute!(stdout(), Hide, Clear(ClearType::All))
    }

    /// Gives the terminal back.
    pub(super) fn leave(&self) -> io::Result<()> {
        self.former.restore()
    }

    /// Shows `view`.
    pub(super) fn draw(&mut self, view: impl Widget) -> io::Result<()> {
        self.terminal
            .draw(|frame| frame.render_widget(view, frame.area()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell on a terminal that is gone.
        let _ = self.leave();
    }
}

impl Former {
    fn change(&self) -> io::Result<()> {
        let modes = if stdin().is_terminal() {
            let modes = tcgetattr(stdin())?;
            let mut other = modes.clone();
            // Keys are read one by one and not shown. Ctrl-C goes on to be a signal.
            other.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(stdin(), OptionalActions::Now, &other)?;
            Some(modes)
        } else {
            None
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Before { modes });
        execute!(stdout(), EnterAlternateScreen, Hide)
    }

    fn restore(&self) -> io::Result<()> {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Before { modes }) = before else {
            return Ok(());
        };
        let shown = execute!(stdout(), LeaveAlternateScreen, Show);
        if let Some(modes) = modes {
            tcsetattr(stdin(), OptionalActions::Now, &modes)?;
        }
        shown
    }
}

fn new_terminal() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    let size = tcgetwinsize(stdout()).ok();
    let size = size.map(|size| (size.ws_col, size.ws_row));
    let (width, height) = size
        .filter(|(width, height)| *width > 0 && *height > 0)
        .unwrap_or(USUAL);
    // Of a fixed size, since ratatui would start another program where it cannot find out the size.
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    let backend = CrosstermBackend::new(BufWriter::with_capacity(FRAME, stdout()));
    Terminal::with_options(backend, TerminalOptions { viewport })
}

/// Waits for a key that ends the view. Without a keyboard, it waits for ever.
pub(super) async fn quit() {
    let pressed = tokio::task::spawn_blocking(|| stdin().is_terminal() && is_quit_pressed()).await;
    if !matches!(pressed, Ok(true)) {
        std::future::pending().await
    }
}

fn is_quit_pressed() -> bool {
    let mut keys = [0; 64];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(stdin(), &mut keys)) {
            Ok(0) | Err(_) => return false,
            Ok(length) => {
                if keys.iter().take(length).any(|key| matches!(key, b'q' | b'Q')) {
                    return true;
                }
            }
        }
    }
}
