//! The screen: what there is to say, put where it stands. Pure: a state goes in, a buffer comes out.
//!
//! ```text
//!  how the cluster stands, or how long it has not been heard
//!  the tabs
//!  the way that led here, and the pages of what is open
//!  ┌ head, then table, text or log; below a table more of the chosen row
//!  └
//!  filter, order, how many; what cannot be answered and how old what is shown is
//!  keys, or the filter that is being written
//! ```

mod frame;
mod help;
mod table;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Position;
use ratatui_core::style::{Color, Modifier, Style};

use super::clean::{clean, fit, width, wrap};
use super::sheet::{Body, Log, Sheet, sheet};
use super::state::{FRAME, SMALLEST, State};
use crate::text;

/// How much a text matters, or what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ink {
    Plain,
    Strong,
    Faint,
    /// Somebody is needed.
    Alarm,
}

/// A buffer, and whether colours may be used on it.
struct Paper<'a> {
    buffer: &'a mut Buffer,
    colour: bool,
}

impl Paper<'_> {
    fn columns(&self) -> u16 {
        self.buffer.area.width
    }

    fn style(&self, ink: Ink) -> Style {
        match ink {
            Ink::Plain => Style::new(),
            Ink::Strong => Style::new().add_modifier(Modifier::BOLD),
            Ink::Faint => Style::new().add_modifier(Modifier::DIM),
            Ink::Alarm if self.colour => Style::new().add_modifier(Modifier::BOLD).fg(Color::Red),
            Ink::Alarm => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// That of a word of state.
    fn style_of(&self, word: &str) -> Style {
        match text::colour(word) {
            Some(32) if self.colour => Style::new().fg(Color::Green),
            Some(33) if self.colour => Style::new().fg(Color::Yellow),
            Some(31) if self.colour => Style::new().fg(Color::Red),
            Some(31) => Style::new().add_modifier(Modifier::BOLD),
            _ => Style::new(),
        }
    }

    /// Puts a clean text on a line, as much of it as there is room for; where the next one may begin.
    fn put(&mut self, x: u16, y: u16, text: &str, room: u16, style: Style) -> u16 {
        let room = room.min(self.columns().saturating_sub(x));
        if room == 0 || y >= self.buffer.area.height {
            return x;
        }
        self.buffer.set_stringn(x, y, fit(text, room.into()), room.into(), style).0
    }

    /// The same, to the end of the line.
    fn line(&mut self, x: u16, y: u16, text: &str, ink: Ink) -> u16 {
        let style = self.style(ink);
        self.put(x, y, text, u16::MAX, style)
    }

    /// Turns the colours of a line around.
    fn mark(&mut self, y: u16) {
        let mut line = self.buffer.area;
        (line.y, line.height) = (y, 1);
        self.buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
    }
}

/// Draws everything; where the cursor stands, if it is to be seen.
pub(super) fn draw(state: &State, buffer: &mut Buffer, colour: bool) -> Option<Position> {
    buffer.reset();
    let (width, height) = (buffer.area.width, buffer.area.height);
    let mut paper = Paper { buffer, colour };
    if width < SMALLEST.0 || height < SMALLEST.1 {
        small(&mut paper, width, height);
        return None;
    }
    if state.help {
        help::draw(&mut paper);
        return None;
    }
    let sheet = sheet(state, state.screen());
    frame::top(&mut paper, state, &sheet);
    body(&mut paper, state, &sheet);
    frame::bottom(&mut paper, state, &sheet)
}

fn small(paper: &mut Paper<'_>, width: u16, height: u16) {
    let (columns, lines) = SMALLEST;
    let text = format!(
        "This terminal is {width}x{height}; sheaf top needs {columns}x{lines}. Enlarge it, or q to quit."
    );
    for (y, line) in (0..height).zip(wrap(&text, width.into(), 0)) {
        paper.line(0, y, &line, Ink::Plain);
    }
}

fn body(paper: &mut Paper<'_>, state: &State, sheet: &Sheet) {
    let (first, lines) = (3, state.size.1.min(paper.buffer.area.height).saturating_sub(FRAME));
    // However much is above it, a table is seen.
    let told = wrapped(&sheet.head, paper, 4);
    let head = u16::try_from(told.len()).unwrap_or(u16::MAX).min(lines.saturating_sub(8));
    for (y, line) in (first..first + head).zip(&told) {
        paper.line(0, y, line, Ink::Plain);
    }
    let (first, lines) = (first + head, lines - head);
    match &sheet.body {
        Body::Unknown => {
            let text = match state.trouble(&state.ask(state.screen())) {
                Some((trouble, _)) => clean(trouble),
                None => "asking ...".to_owned(),
            };
            for (y, line) in (first + 1..first + lines).zip(wrap(&text, paper.columns().into(), 2)) {
                paper.line(0, y, &line, Ink::Plain);
            }
        }
        Body::Table(grid) if grid.rows.is_empty() => {
            paper.line(0, first + 1, &clean(&sheet.empty), Ink::Faint);
        }
        Body::Table(grid) => table::draw(paper, state.screen(), grid, first, lines),
        Body::Text(text) => {
            let wrapped = wrapped(text, paper, 14);
            let from = state.screen().look().index.min(wrapped.len().saturating_sub(lines.into()));
            for (y, line) in (first..first + lines).zip(&wrapped[from..]) {
                paper.line(0, y, line, Ink::Plain);
            }
        }
        Body::Log(log) => draw_log(paper, log, sheet, first, lines),
    }
}

/// Long lines over several, all after the first one moved in.
fn wrapped(lines: &[String], paper: &Paper<'_>, indent: usize) -> Vec<String> {
    lines.iter().flat_map(|line| wrap(&clean(line), paper.columns().into(), indent)).collect()
}

/// The last lines at the bottom, long ones over several.
fn draw_log(paper: &mut Paper<'_>, log: &Log, sheet: &Sheet, first: u16, lines: u16) {
    if log.lines.is_empty() {
        paper.line(0, first + 1, &clean(&sheet.empty), Ink::Faint);
        return;
    }
    let columns = usize::from(paper.columns());
    let mut shown: Vec<String> = Vec::new();
    for line in log.lines.iter().rev() {
        let mut wrapped = wrap(line, columns, 4);
        wrapped.reverse();
        shown.extend(wrapped);
        if shown.len() >= lines.into() {
            break;
        }
    }
    shown.truncate(lines.into());
    for (y, line) in (first..).zip(shown.iter().rev()) {
        paper.line(0, y, line, Ink::Plain);
    }
}

#[cfg(test)]
mod tests;
