//! The terminal: taken over for a while, and given back whatever happens.

use std::io::{self, BufWriter, Stdout};
use std::mem::ManuallyDrop;

use ratatui_core::layout::Rect;
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::execute;
use ratatui_crossterm::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::state::State;
use super::view;

/// Bytes of a whole screen, about: it is written at once.
const SCREEN: usize = 64 << 10;

/// The screen, which is not the shell's as long as this lives.
pub(super) struct Tty {
    /// Never dropped: it would panic where the terminal is gone, telling that to nobody. What it does then, this does.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufWriter<Stdout>>>>,
    colour: bool,
}

impl Tty {
    /// Takes the terminal over. A panic gives it back before it is told, or nobody could read it.
    pub(super) fn take(colour: bool) -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        let backend = CrosstermBackend::new(BufWriter::with_capacity(SCREEN, io::stdout()));
        let tty = Self { terminal: ManuallyDrop::new(Terminal::new(backend)?), colour };
        enter()?;
        Ok(tty)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Shows a state; only what has changed is written.
    pub(super) fn draw(&mut self, state: &State) -> io::Result<()> {
        let colour = self.colour;
        self.terminal.draw(|frame| {
            let cursor = view::draw(state, frame.buffer_mut(), colour);
            if let Some(cursor) = cursor {
                frame.set_cursor_position(cursor);
            }
        })?;
        Ok(())
    }

    /// Gives the terminal to the shell for a while.
    pub(super) fn leave(&mut self) {
        give_back();
    }

    /// Takes it over again; what is on it now is not known.
    pub(super) fn again(&mut self) -> io::Result<()> {
        give_back();
        enter()?;
        // Not `clear`, which asks the terminal where its cursor is: the answer would be read as keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// A terminal that is gone needs nothing.
fn give_back() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}
