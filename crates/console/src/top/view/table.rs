//! Tables: columns as wide as what is in them, and as the screen allows.

use super::super::screen::Screen;
use super::super::sheet::{Grid, Row};
use super::{Ink, Paper, width, wrap};

/// Blank columns between two columns.
const GAP: usize = 2;
/// Columns before the first one: the mark of the chosen row.
const MARK: u16 = 2;
/// A column of text is not made narrower than this.
const LEAST: usize = 6;

/// The part of a table that the chosen row is in, and below it more of that row.
pub(super) fn draw(paper: &mut Paper<'_>, screen: &Screen, grid: &Grid, first: u16, lines: u16) {
    let detail = screen.page().detail().min(lines.saturating_sub(3));
    let room = lines.saturating_sub(1 + detail).max(1);
    let chosen = grid.chosen(screen.look());
    let from = chosen - chosen % usize::from(room);
    let rows = &grid.rows[from..(from + usize::from(room)).min(grid.rows.len())];
    let columns = fitting(grid, rows, usize::from(paper.columns().saturating_sub(MARK)));
    let strong = paper.style(Ink::Strong);
    let mut x = MARK;
    for (column, wide) in &columns {
        let title = padded(&titled(screen, grid, *column), *wide, grid.columns[*column].is_number());
        paper.put(x, first, &title, *wide as u16, strong);
        x += (*wide + GAP) as u16;
    }
    for (y, (at, row)) in (first + 1..).zip((from..).zip(rows)) {
        cells(paper, grid, &columns, row, y);
        if at == chosen {
            paper.line(0, y, ">", Ink::Plain);
            paper.mark(y);
        }
    }
    let below = first + lines - detail;
    let more = grid.rows.get(chosen).into_iter().flat_map(|row| &row.detail).filter(|line| !line.is_empty());
    let wrapped: Vec<String> = more.flat_map(|line| wrap(line, paper.columns().into(), 31)).collect();
    for (y, line) in (below..first + lines).zip(&wrapped) {
        paper.line(0, y, line, Ink::Plain);
    }
}

fn cells(paper: &mut Paper<'_>, grid: &Grid, columns: &[(usize, usize)], row: &Row, y: u16) {
    let mut x = MARK;
    for (column, wide) in columns {
        let cell = &row.cells[*column];
        let style = paper.style_of(cell);
        let cell = padded(cell, *wide, grid.columns[*column].is_number());
        paper.put(x, y, &cell, *wide as u16, style);
        x += (*wide + GAP) as u16;
    }
}

/// The head of a column, with a sign where rows are in its order.
fn titled(screen: &Screen, grid: &Grid, column: usize) -> String {
    let title = grid.columns[column].title();
    match screen.look().sort {
        Some(sort) if sort.column == column => format!("{title}{}", if sort.down { "-" } else { "+" }),
        _ => title.to_owned(),
    }
}

fn padded(text: &str, wide: usize, right: bool) -> String {
    let blanks = " ".repeat(if right { wide.saturating_sub(width(text)) } else { 0 });
    format!("{blanks}{text}")
}

/// The columns that are shown, and how wide each is: those for wide screens as far as there is room for them, and the
/// widest ones of text cut where there is too little.
pub(super) fn fitting(grid: &Grid, rows: &[Row], room: usize) -> Vec<(usize, usize)> {
    let natural = |at: usize| {
        let cells = rows.iter().map(|row| width(&row.cells[at])).max().unwrap_or(0);
        // One more for the sign of the order.
        cells.max(grid.columns[at].title().len() + 1)
    };
    let total = |columns: &[(usize, usize)]| {
        columns.iter().map(|(_, wide)| wide + GAP).sum::<usize>().saturating_sub(GAP)
    };
    let (mut columns, mut spare) = (Vec::new(), Vec::new());
    for (at, column) in grid.columns.iter().enumerate() {
        if column.is_wide() { &mut spare } else { &mut columns }.push((at, natural(at)));
    }
    for (at, wide) in spare {
        if total(&columns) + GAP + wide <= room {
            columns.push((at, wide));
        }
    }
    columns.sort_unstable();
    while total(&columns) > room {
        let texts = columns.iter_mut().filter(|(at, wide)| !grid.columns[*at].is_number() && *wide > LEAST);
        match texts.max_by_key(|(_, wide)| *wide) {
            Some((_, wide)) => *wide -= 1,
            None => {
                columns.pop();
            }
        }
    }
    columns
}
