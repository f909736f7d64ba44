//! What a page says, before it is known where on the screen it will stand: a head, and a table, a text or a log.

mod about;
mod bucket;
mod job;
mod node;
mod overview;

use std::cmp::Ordering;

use sheaf_model::Timestamp;
use sheaf_wire::logs::{LogLine, LogStream};

use super::ask::{Answer, Lines, Rows};
use super::clean::clean;
use super::screen::{Look, Page, Place, Screen, Sort, events};
use super::state::{FRAME, State};
use crate::table::{Column, Listed};
use crate::when;

/// A page as it is to be shown.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    /// A word for where the place stands, and what that means.
    pub(super) word: String,
    pub(super) about: String,
    /// Lines above the body; long ones take several.
    pub(super) head: Vec<String>,
    pub(super) body: Body,
    /// What is said where there is nothing.
    pub(super) empty: String,
}

/// What a page is made of.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// Not answered yet.
    #[default]
    Unknown,
    Table(Grid),
    Text(Vec<String>),
    Log(Log),
}

/// A table; every text in it is clean.
#[derive(Debug, Default)]
pub(super) struct Grid {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// The cluster has more.
    pub(super) more: bool,
}

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) cells: Vec<String>,
    /// Where Enter leads to.
    pub(super) target: Option<Target>,
    /// What else there is to say, a line each.
    pub(super) detail: Vec<String>,
}

/// Where a row leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Place(Place),
    /// The subtasks of the job that is shown, narrowed to these.
    Subtasks(String),
    /// The jobs, narrowed to these.
    Jobs(String),
    /// What an attempt of the subtask that is shown has printed.
    Output(u32),
}

/// The lines of a log that are to be shown, the last one at the bottom.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Clean, oldest first.
    pub(super) lines: Vec<String>,
    /// The number of the last of them, counted from the log's begin.
    pub(super) last: u64,
    /// How many there are.
    pub(super) total: u64,
    /// What comes is shown as it comes.
    pub(super) follows: bool,
    pub(super) ended: bool,
}

impl Grid {
    /// A table of these, `more` of which there are; `say` tells of each where it leads to, and what else there is to say.
    fn of<R: Listed>(
        rows: &[R],
        more: bool,
        now: Timestamp,
        say: impl Fn(&R) -> (Option<Target>, Vec<String>),
    ) -> Self {
        let rows = rows.iter().map(|row| {
            let (target, detail) = say(row);
            let cells = row.cells(now).iter().map(|cell| clean(cell).trim().to_owned()).collect();
            Row { key: row.name(), cells, target, detail: detail.iter().map(|line| clean(line)).collect() }
        });
        Self { columns: R::COLUMNS.to_vec(), rows: rows.collect(), more }
    }

    /// The same of a part of a list.
    fn part<R: Listed>(
        part: &Rows<R>,
        now: Timestamp,
        say: impl Fn(&R) -> (Option<Target>, Vec<String>),
    ) -> Self {
        Self::of(&part.rows, !part.next.is_empty(), now, say)
    }

    /// Only rows with this text anywhere, in any case.
    fn keep(&mut self, text: &str) {
        let text = text.trim().to_lowercase();
        if !text.is_empty() {
            let says = |said: &String| said.to_lowercase().contains(&text);
            self.rows.retain(|row| row.cells.iter().any(says) || row.detail.iter().any(says));
        }
    }

    fn sort(&mut self, Sort { column, down }: Sort) {
        let Some(by) = self.columns.get(column) else { return };
        let compare = |a: &Row, b: &Row| {
            let (a, b) = (&a.cells[column], &b.cells[column]);
            if by.is_number() { amounts(a, b) } else { a.to_lowercase().cmp(&b.to_lowercase()) }
        };
        self.rows.sort_by(|a, b| if down { compare(b, a) } else { compare(a, b) });
    }

    /// The place of the chosen row.
    pub(super) fn chosen(&self, look: &Look) -> usize {
        let named = look.key.as_ref().and_then(|key| self.rows.iter().position(|row| row.key == *key));
        named.unwrap_or_else(|| look.index.min(self.rows.len().saturating_sub(1)))
    }
}

/// Cells of numbers, as they are written; what is no number comes first.
fn amounts(a: &str, b: &str) -> Ordering {
    amount(a).partial_cmp(&amount(b)).unwrap_or(Ordering::Equal)
}

/// `1,024`, `45%`, `3h`, `7.6GiB/15GiB`, `2/3`: the first number in them, in one unit.
fn amount(cell: &str) -> Option<f64> {
    let plain = cell.replace(',', "");
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (number, rest) = plain.split_at(end);
    let unit: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    let unit = match unit.as_str() {
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    };
    number.parse::<f64>().ok().map(|number| number * unit)
}

/// The page that a screen shows.
pub(super) fn sheet(state: &State, screen: &Screen) -> Sheet {
    let look = screen.look();
    let mut sheet = written(state, screen);
    about::tell(state, screen, &mut sheet);
    if let Body::Table(grid) = &mut sheet.body {
        match screen.page() {
            Page::Events => grid.keep(&events(&screen.place, &look.filter).1),
            page if !page.is_paged() => grid.keep(&look.filter),
            _ => {}
        }
        if let Some(sort) = look.sort {
            grid.sort(sort);
        }
        if grid.rows.is_empty() && !look.filter.is_empty() {
            sheet.empty = "nothing is like that; / changes the filter".to_owned();
        }
    }
    sheet.head = sheet.head.iter().map(|line| clean(line)).collect();
    (sheet.word, sheet.about) = (clean(&sheet.word), clean(&sheet.about));
    sheet
}

/// The page as it was answered; nothing if it was not yet.
fn written(state: &State, screen: &Screen) -> Sheet {
    let now = state.now;
    let Some(answer) = state.answer(&state.ask(screen)) else { return Sheet::default() };
    match (screen.page(), answer) {
        (Page::Concerns, Answer::Concerns(found)) => overview::concerns(state, found),
        (_, Answer::Buckets(part)) => bucket::list(part, now),
        (_, Answer::Nodes(part)) => node::list(part, now),
        (_, Answer::Jobs(part)) => job::list(part, now),
        (_, Answer::Events(found)) => overview::events(found, now),
        (_, Answer::Bucket(status)) => bucket::instances(status, now),
        (_, Answer::Explain(explanation)) => bucket::gates(explanation, now),
        (_, Answer::History(releases)) => bucket::history(releases, now),
        (Page::Facts, Answer::Node(detail)) => node::facts(detail),
        (_, Answer::Node(detail)) => node::runs(detail, now),
        (_, Answer::Job(status)) => job::failures(status, now),
        (_, Answer::Subtasks(part)) => job::subtasks(&screen.place, part, now),
        (_, Answer::Why(explanation)) => job::why(explanation, now),
        (_, Answer::Attempts(rows)) => job::attempts(rows, now),
        (page, Answer::Lines(lines)) => {
            let empty = if page == Page::Output { "nothing was printed" } else { "nothing was printed yet" };
            Sheet {
                body: Body::Log(log(lines, screen.look(), state.size.1.saturating_sub(FRAME))),
                empty: empty.to_owned(),
                ..Sheet::default()
            }
        }
        (_, Answer::Cluster(_) | Answer::Concerns(_)) => Sheet::default(),
    }
}

/// The part of a log that ends with the line that is held; as many lines as there is room for, if there are so many.
fn log(lines: &Lines, look: &Look, room: u16) -> Log {
    let text = look.filter.trim().to_lowercase();
    let has = |line: &&LogLine| text.is_empty() || line.text.to_lowercase().contains(&text);
    let total = lines.dropped + lines.lines.len() as u64;
    let least = (lines.dropped + u64::from(room)).min(total);
    let last = look.held.unwrap_or(total).clamp(least, total);
    let count = usize::try_from(last - lines.dropped).unwrap_or(usize::MAX);
    let shown = lines.lines.iter().take(count).filter(has).map(line).collect();
    Log { lines: shown, last, total, follows: look.held.is_none(), ended: lines.ended }
}

/// A line of output: `|` is what a program printed, `!` what it complained of, `*` what Sheaf says of it.
fn line(line: &LogLine) -> String {
    let mark = match line.stream {
        LogStream::Stdout => '|',
        LogStream::Stderr => '!',
        LogStream::Sheaf => '*',
    };
    format!("{} {mark} {}", clean(&line.node), clean(&line.text))
}

/// Pairs of a word and what it says, those of nothing left out.
fn facts(pairs: &[(&str, String)]) -> Vec<String> {
    crate::text::facts(pairs).lines().map(str::to_owned).collect()
}

/// `3h ago`, or nothing.
fn ago(now: Timestamp, time: Option<&str>) -> String {
    time.map(|time| format!("{} ago", when::age_of(now, Some(time)))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_in_one_unit() {
        let mut cells =
            ["2h", "119s", "-", "3d", "2m", "7.6GiB/15GiB", "512.0MiB/15GiB", "45%", "1,024", "2/3"];
        cells.sort_by(|a, b| amounts(a, b));
        let sorted = ["-", "2/3", "45%", "119s", "2m", "1,024", "2h", "3d", "512.0MiB/15GiB", "7.6GiB/15GiB"];
        assert_eq!(cells, sorted);
    }

    fn grid(cells: &[[&str; 2]]) -> Grid {
        let row = |[name, number]: &[&str; 2]| Row {
            key: (*name).to_owned(),
            cells: vec![(*name).to_owned(), (*number).to_owned()],
            target: None,
            detail: Vec::new(),
        };
        let columns = vec![Column::new("NAME"), Column::new("N").number()];
        Grid { columns, rows: cells.iter().map(row).collect(), more: false }
    }

    fn keys(grid: &Grid) -> Vec<&str> {
        grid.rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn rows_are_sorted_and_kept_and_the_chosen_one_stays_chosen() {
        let mut grid = grid(&[["/b", "9"], ["/A", "10"], ["/c", "-"]]);
        grid.sort(Sort { column: 0, down: false });
        assert_eq!(keys(&grid), ["/A", "/b", "/c"]);
        grid.sort(Sort { column: 1, down: true });
        assert_eq!(keys(&grid), ["/A", "/b", "/c"]);
        grid.sort(Sort { column: 1, down: false });
        assert_eq!(keys(&grid), ["/c", "/b", "/A"]);
        let look = Look { key: Some("/b".to_owned()), index: 0, ..Look::default() };
        assert_eq!(grid.chosen(&look), 1);
        grid.keep("/a");
        assert_eq!(keys(&grid), ["/A"]);
        assert_eq!(grid.chosen(&look), 0, "it is gone: the place counts");
    }
}
