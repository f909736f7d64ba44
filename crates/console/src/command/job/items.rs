//! The items of a job that is to be submitted: where they are, and whether they are any.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sheaf_model::document::item_line;
use sheaf_model::job::ITEM_MAX;
use sheaf_model::{Defect, Item, ItemSource, JobSpec, Json, SubmitJob, Subtasks};

/// So many bad lines are told at once.
const DEFECTS_MAX: usize = 50;
/// Longest line: an item, and room for blanks and escapes that its canonical form does not have.
const LINE_MAX: usize = 2 * ITEM_MAX;

/// Where the items of a job are.
#[derive(Clone, Debug)]
pub(super) enum Items {
    /// There are none: it is an array of so many.
    Array(u32),
    /// Here.
    Listed(Vec<Item>),
    /// In this file, which can be read twice.
    File(PathBuf),
    /// In a pipe, called so.
    Stream(String),
}

impl Items {
    /// The items of a job of the document `document` (`-`: of stdin); files are found beside it.
    pub(super) fn of(document: &str, spec: &JobSpec, source: &ItemSource) -> Result<Self, Defect> {
        match (source, spec.subtasks) {
            (ItemSource::Listed(items), _) => Ok(Self::Listed(items.clone())),
            (ItemSource::File(file), _) if file == "-" && document == "stdin" => Err(Defect::new(
                "subtasks.file",
                "stdin is the document already",
                "the document from a file, or the items",
            )),
            (ItemSource::File(file), _) if file == "-" => Ok(Self::Stream("stdin".to_owned())),
            (ItemSource::File(file), _) => {
                let beside = Path::new(document).parent().unwrap_or(Path::new(""));
                let path = beside.join(file);
                // A pipe can be read once only.
                let whole = path.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir());
                Ok(if whole { Self::Stream(path.display().to_string()) } else { Self::File(path) })
            }
            (ItemSource::Array, Subtasks::Array(range)) => {
                Ok(Self::Array(u32::try_from(range.count()).unwrap_or(u32::MAX)))
            }
            (ItemSource::Array, Subtasks::Items) => Ok(Self::Listed(Vec::new())),
        }
    }

    /// How many subtasks there will be; none: only reading tells, and it can be done once. Fails with what is wrong with
    /// the lines, up to 50 of them.
    pub(super) fn check(&self) -> Result<Option<u32>, Vec<Defect>> {
        match self {
            Self::Array(count) => Ok(Some(*count)),
            Self::Listed(items) => Ok(Some(u32::try_from(items.len()).unwrap_or(u32::MAX))),
            Self::Stream(_) => Ok(None),
            Self::File(path) => {
                let file = path.display().to_string();
                let open = File::open(path).map_err(|error| vec![unreadable(&file, &error)])?;
                count(&file, open).map(Some)
            }
        }
    }
}

/// What the first `most` subtasks of a job are about, which is in the file `document`.
pub(crate) fn first_items(document: &str, job: &SubmitJob, most: usize) -> Result<Vec<Json>, Vec<Defect>> {
    let of_job = |defects: Vec<Defect>| {
        defects.into_iter().map(|it| it.of(format!("Job {}", job.spec.name))).collect::<Vec<_>>()
    };
    match Items::of(document, &job.spec, &job.items).map_err(|defect| of_job(vec![defect]))? {
        Items::Array(_) => Ok(Vec::new()),
        Items::Listed(items) => Ok(items.into_iter().take(most).map(|item| item.value).collect()),
        Items::Stream(name) => {
            let problem = format!("{name} is read as it is submitted");
            Err(of_job(vec![Defect::new("subtasks.file", problem, "a file, or the items")]))
        }
        Items::File(path) => {
            let file = path.display().to_string();
            let open = File::open(&path).map_err(|error| vec![unreadable(&file, &error)])?;
            let mut lines = Lines::new(&file, open);
            let mut items = Vec::new();
            while items.len() < most
                && let Some(item) = lines.next()
            {
                items.push(item?.value);
            }
            Ok(items)
        }
    }
}

/// Reads all lines; how many items they are.
pub(super) fn count(file: &str, from: impl Read) -> Result<u32, Vec<Defect>> {
    let mut lines = Lines::new(file, from);
    let (mut items, mut defects) = (0_u32, Vec::new());
    while let Some(read) = lines.next() {
        match read {
            Ok(_) => items = items.saturating_add(1),
            Err(bad) => defects.extend(bad),
        }
        if defects.len() >= DEFECTS_MAX {
            defects.truncate(DEFECTS_MAX);
            defects.push(at(file, Defect::new("", "there may be more wrong", "correct these first")));
            break;
        }
    }
    if defects.is_empty() { Ok(items) } else { Err(defects) }
}

/// What is wrong with the lines that are left, beside what is known already.
pub(super) fn rest<R: Read>(lines: &mut Lines<R>, mut defects: Vec<Defect>) -> Vec<Defect> {
    while defects.len() < DEFECTS_MAX
        && let Some(read) = lines.next()
    {
        defects.extend(read.err().into_iter().flatten());
    }
    defects.truncate(DEFECTS_MAX);
    defects
}

/// A file of JSON lines, read one at a time.
pub(super) struct Lines<R> {
    file: String,
    from: BufReader<R>,
    number: u64,
    line: Vec<u8>,
    over: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(file: &str, from: R) -> Self {
        let from = BufReader::with_capacity(1 << 16, from);
        Self { file: file.to_owned(), from, number: 0, line: Vec::new(), over: false }
    }

    /// The next item, or what is wrong with its line; blank lines are none. None: that was all.
    pub(super) fn next(&mut self) -> Option<Result<Item, Vec<Defect>>> {
        while !self.over {
            let long = match self.line() {
                Ok(Some(long)) => long,
                Ok(None) => return None,
                Err(error) => {
                    self.over = true;
                    return Some(Err(vec![unreadable(&self.file, &error)]));
                }
            };
            if long {
                let problem = format!("the line is longer than {LINE_MAX} bytes");
                let defect = Defect::new("", problem, "less in it, like the name of a file");
                return Some(Err(vec![self.here(defect)]));
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let read = item_line(&self.line);
            return Some(read.map_err(|bad| bad.into_iter().map(|defect| self.here(defect)).collect()));
        }
        None
    }

    fn here(&self, defect: Defect) -> Defect {
        at(&self.file, defect.of(format!("line {}", self.number)))
    }

    /// Reads a line; whether it was too long, of which nothing is kept then. None: there was none.
    fn line(&mut self) -> io::Result<Option<bool>> {
        self.line.clear();
        let limit = LINE_MAX as u64 + 1;
        if (&mut self.from).take(limit).read_until(b'\n', &mut self.line)? == 0 {
            self.over = true;
            return Ok(None);
        }
        self.number += 1;
        if self.line.len() <= LINE_MAX || self.line.ends_with(b"\n") {
            return Ok(Some(false));
        }
        loop {
            self.line.clear();
            let read = (&mut self.from).take(limit).read_until(b'\n', &mut self.line)?;
            if read == 0 || self.line.ends_with(b"\n") {
                self.line.clear();
                return Ok(Some(true));
            }
        }
    }
}

fn at(file: &str, defect: Defect) -> Defect {
    Defect { file: file.to_owned(), ..defect }
}

fn unreadable(file: &str, error: &io::Error) -> Defect {
    let error = error.to_string();
    let plain = error.split(" (os error").next().unwrap_or(&error);
    let remedy = "a file of items, one JSON value a line; it is looked for beside the document";
    at(file, Defect::new("", format!("cannot be read: {plain}"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        count("tasks.jsonl", text.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_are_items_and_blank_ones_are_not() {
        assert_eq!(count("t", &b"{\"a\": 1}\n\n  \n7\r\n\"x\""[..]), Ok(3));
        assert_eq!(count("t", &b""[..]), Ok(0));
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let found = said("{}\n{tile}\n\n{\"depends_on\": 3}\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("tasks.jsonl: line 2: this is no JSON: key must be a string"),
            "{found:?}"
        );
        assert!(found[1].starts_with("tasks.jsonl: line 4: depends_on: expected a list"), "{found:?}");
        let many = said(&"x\n".repeat(80));
        assert_eq!(many.len(), DEFECTS_MAX + 1);
        assert!(many[DEFECTS_MAX].starts_with("tasks.jsonl: there may be more wrong"), "{many:?}");
    }

    #[test]
    fn a_long_line_is_passed_over() {
        let text = format!("1\n\"{}\"\n2\nx\n", "y".repeat(3 * LINE_MAX));
        let found = said(&text);
        assert!(found[0].starts_with("tasks.jsonl: line 2: the line is longer than"), "{:.200}", found[0]);
        assert!(found[1].starts_with("tasks.jsonl: line 4: this is no JSON"), "{}", found[1]);
    }
}
