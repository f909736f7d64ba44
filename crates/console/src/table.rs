//! Lists of like things in every format, page by page: no list is ever held whole.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;
use serde_json::Value;
use sheaf_model::Timestamp;

use crate::exit::Failure;
use crate::output::{Format, Terminal};
use crate::text::{one_line, paint};

/// Blank columns between two columns.
const GAP: u16 = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    wide: bool,
    number: bool,
}

impl Column {
    /// A column that is always there.
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, wide: false, number: false }
    }

    /// The same in `-o wide` only.
    pub(crate) const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// The same, aligned to the right.
    pub(crate) const fn number(self) -> Self {
        Self { number: true, ..self }
    }

    /// Its head.
    pub(crate) const fn title(self) -> &'static str {
        self.title
    }

    /// Whether it is left out where there is little room.
    pub(crate) const fn is_wide(self) -> bool {
        self.wide
    }

    /// Whether it holds numbers.
    pub(crate) const fn is_number(self) -> bool {
        self.number
    }
}

/// Something that is listed.
pub(crate) trait Listed: Serialize {
    /// The columns of its table.
    const COLUMNS: &'static [Column];

    /// What `-o name` prints.
    fn name(&self) -> String;

    /// Its cells, one for each of [`Self::COLUMNS`].
    fn cells(&self, now: Timestamp) -> Vec<String>;

    /// Its JSON.
    fn json(&self) -> Value {
        json(self)
    }
}

/// The JSON of a view.
pub(crate) fn json<T: Serialize + ?Sized>(view: &T) -> Value {
    serde_json::to_value(view).expect("a view is plain data whose maps have text keys")
}

/// A list being printed: any number of pages between `new` and `end`.
pub(crate) struct Listing {
    format: Format,
    widths: Vec<u16>,
    rows: usize,
}

impl Listing {
    /// Begins a list.
    pub(crate) const fn new(format: Format) -> Self {
        Self { format, widths: Vec::new(), rows: 0 }
    }

    /// The whole of a short list.
    pub(crate) fn whole<R: Listed>(out: &mut Terminal, format: Format, rows: &[R]) -> Result<(), Failure> {
        let mut listing = Self::new(format);
        listing.page(out, rows)?;
        listing.end(out).map(|_| ())
    }

    /// Prints a page of rows.
    pub(crate) fn page<R: Listed>(&mut self, out: &mut Terminal, rows: &[R]) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide => self.table(out, rows),
            _ => self.values(out, rows.iter().map(|row| (row.name(), row.json()))),
        }
    }

    /// Prints a page of rows that no type stands for, each with its name and its JSON; not as a table.
    pub(crate) fn values(
        &mut self,
        out: &mut Terminal,
        rows: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<(), Failure> {
        for (name, json) in rows {
            match self.format {
                Format::Table | Format::Wide => {}
                Format::Json => {
                    out.write(if self.rows == 0 { "[\n  " } else { ",\n  " })?;
                    out.write(&json.to_string())?;
                }
                Format::Yaml => out.yaml(&Value::Array(vec![json]))?,
                Format::Name => out.line(&name)?,
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// Ends the list; how many rows it had.
    pub(crate) fn end(self, out: &mut Terminal) -> Result<usize, Failure> {
        match (self.format, self.rows) {
            (Format::Json | Format::Yaml, 0) => out.line("[]")?,
            (Format::Json, _) => out.line("\n]")?,
            _ => {}
        }
        Ok(self.rows)
    }

    /// Ends the list with what came of filling it, and makes it visible. What broke off leaves what is printed whole: an array
    /// that was begun has its end.
    pub(crate) fn over<T>(self, out: &mut Terminal, filled: Result<T, Failure>) -> Result<T, Failure> {
        match filled {
            Ok(filled) => {
                self.end(out)?;
                out.flush()?;
                Ok(filled)
            }
            Err(failure) => {
                if self.rows > 0 {
                    // That it cannot be written matters less than why it ends here.
                    let _ = self.end(out).and_then(|_| out.flush());
                }
                Err(failure)
            }
        }
    }

    fn table<R: Listed>(&mut self, out: &mut Terminal, rows: &[R]) -> Result<(), Failure> {
        let now = out.now();
        let wide = self.format == Format::Wide;
        let shown = |index: &usize| wide || !R::COLUMNS[*index].wide;
        let columns = R::COLUMNS.iter().enumerate().filter(|(index, _)| shown(index));
        let titles: Vec<(&str, bool)> = columns.map(|(_, column)| (column.title, column.number)).collect();
        let cells = rows.iter().map(|row| {
            let cells = row.cells(now);
            debug_assert_eq!(cells.len(), R::COLUMNS.len(), "a cell for each column");
            let cells = cells.into_iter().enumerate().filter(|(index, _)| shown(index));
            cells.map(|(_, cell)| cell).collect()
        });
        self.cells(out, &titles, cells.collect())
    }

    /// Prints a page of a table whose columns have these titles; a column of numbers is aligned to the right.
    pub(crate) fn cells<T: AsRef<str>>(
        &mut self,
        out: &mut Terminal,
        columns: &[(T, bool)],
        mut cells: Vec<Vec<String>>,
    ) -> Result<(), Failure> {
        if cells.is_empty() {
            return Ok(());
        }
        cells.iter_mut().flatten().for_each(|cell| *cell = one_line(cell));
        let columns: Vec<(&str, bool)> =
            columns.iter().map(|(title, number)| (title.as_ref(), *number)).collect();
        let header = self.rows == 0 && self.widths.is_empty();
        let text = self.layout(&columns, &cells, header);
        for (index, line) in text.lines().enumerate() {
            let row = if header { index.checked_sub(1) } else { Some(index) };
            match row.and_then(|row| cells.get(row)).filter(|_| out.colour()) {
                Some(cells) => out.line(&self.painted(line.trim_end(), &columns, cells))?,
                None => out.line(line.trim_end())?,
            }
        }
        self.rows += cells.len();
        Ok(())
    }

    /// Lays the cells out below each other, at least as wide as the pages before.
    fn layout(&mut self, columns: &[(&str, bool)], cells: &[Vec<String>], header: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if header {
            table.set_header(columns.iter().map(|(title, _)| title));
        }
        table.add_rows(cells.iter().map(|row| row.iter().map(String::as_str)));
        let mut widths = table.column_max_content_widths();
        for (width, before) in widths.iter_mut().zip(&self.widths) {
            *width = (*width).max(*before);
        }
        for (((_, number), width), style) in columns.iter().zip(&widths).zip(table.column_iter_mut()) {
            style
                .set_padding((0, GAP))
                .set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
            if *number {
                style.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.widths = widths;
        table.to_string()
    }

    /// The line with its words of state coloured.
    fn painted(&self, line: &str, columns: &[(&str, bool)], cells: &[String]) -> String {
        let mut painted = String::new();
        let mut rest = line;
        for (((_, number), cell), width) in columns.iter().zip(cells).zip(&self.widths) {
            let end = rest.char_indices().nth(usize::from(*width + GAP)).map_or(rest.len(), |(at, _)| at);
            let (part, after) = rest.split_at(end);
            rest = after;
            if !number && part.trim_end() == cell {
                painted.push_str(&paint(cell, true));
                painted.push_str(&part[cell.len()..]);
            } else {
                painted.push_str(part);
            }
        }
        painted + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::recorded;

    #[derive(Serialize)]
    struct Ship(&'static str, &'static str, u32);

    impl Listed for Ship {
        const COLUMNS: &'static [Column] = &[
            Column::new("NAME"),
            Column::new("STATE"),
            Column::new("CREW").number(),
            Column::new("ID").wide(),
        ];

        fn name(&self) -> String {
            self.0.to_owned()
        }

        fn cells(&self, _now: Timestamp) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_owned(), self.2.to_string(), "x".to_owned()]
        }
    }

    const SHIPS: [Ship; 2] = [Ship("/logs/web", "running", 4), Ship("/a", "lost\nor not", 12)];

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        Listing::whole(&mut out, format, &SHIPS).expect("it prints");
        recording.data()
    }

    #[test]
    fn a_list_prints_in_every_format() {
        insta::assert_snapshot!(printed(Format::Table), @r"
        NAME       STATE        CREW
        /logs/web  running         4
        /a         lost or not    12
        ");
        insta::assert_snapshot!(printed(Format::Wide), @r"
        NAME       STATE        CREW  ID
        /logs/web  running         4  x
        /a         lost or not    12  x
        ");
        insta::assert_snapshot!(printed(Format::Json), @r#"
        [
          ["/logs/web","running",4],
          ["/a","lost\nor not",12]
        ]
        "#);
        insta::assert_snapshot!(printed(Format::Name), @r"
        /logs/web
        /a
        ");
    }

    #[test]
    fn an_empty_list_is_an_empty_array() {
        for (format, text) in
            [(Format::Json, "[]\n"), (Format::Yaml, "[]\n"), (Format::Table, ""), (Format::Name, "")]
        {
            let (mut out, recording) = recorded::terminal("");
            Listing::whole::<Ship>(&mut out, format, &[]).expect("it prints");
            assert_eq!(recording.data(), text);
        }
    }

    #[test]
    fn pages_share_one_header_and_one_array() {
        let paged = |format| {
            let (mut out, recording) = recorded::terminal("");
            let mut listing = Listing::new(format);
            for ship in SHIPS {
                listing.page(&mut out, &[ship]).expect("it prints");
            }
            assert_eq!(listing.end(&mut out).expect("it prints"), 2);
            recording.data()
        };
        insta::assert_snapshot!(paged(Format::Table), @r"
        NAME       STATE    CREW
        /logs/web  running     4
        /a         lost or not    12
        ");
        assert_eq!(paged(Format::Json), printed(Format::Json));
    }

    #[test]
    fn a_list_that_breaks_off_is_whole_as_far_as_it_goes() {
        let broken = |format, rows: &[Ship]| {
            let (mut out, recording) = recorded::terminal("");
            let mut listing = Listing::new(format);
            let filled = listing.page(&mut out, rows).and(Err::<(), _>(Failure::Refused("why".to_owned())));
            assert_eq!(listing.over(&mut out, filled).expect_err("it broke off").to_string(), "why");
            recording.data()
        };
        for format in [Format::Table, Format::Json, Format::Yaml, Format::Name] {
            assert_eq!(broken(format, &SHIPS), printed(format));
            assert_eq!(broken(format, &[]), "", "nothing was begun");
        }
        let (mut out, recording) = recorded::terminal("");
        assert_eq!(Listing::new(Format::Json).over(&mut out, Ok(7)).expect("it ends"), 7);
        assert_eq!(recording.data(), "[]\n");
    }

    #[test]
    fn words_of_state_have_their_colour_on_a_terminal() {
        let (out, recording) = recorded::terminal("");
        Listing::whole(&mut out.coloured(), Format::Table, &SHIPS[..1]).expect("it prints");
        assert_eq!(recording.data(), "NAME       STATE    CREW\n/logs/web  \x1b[32mrunning\x1b[0m     4\n");
    }
}
