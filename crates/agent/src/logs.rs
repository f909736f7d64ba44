//! Reading what instances have written, over rotated files and while they write.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_model::Timestamp;

use crate::keeper::output::{self, START, STDERR, STDOUT};

/// Most lines of a batch, and most of their bytes.
const BATCH: (usize, usize) = (1000, 1 << 20);
/// How often a follower looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Most files that are looked for; more than any keeper keeps.
const FILES: u32 = 1000;
/// How much is read at a time from the end of a file.
const BLOCK: u64 = 64 << 10;

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read from the program.
    pub at: Timestamp,
    /// Which stream it was written to.
    pub stream: Stream,
    /// Without its line end; bytes that are no UTF-8 are replaced. Lines over 16 KiB come in pieces.
    pub text: String,
}

/// The two streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Which lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only so many of the last ones; none: all that are kept.
    pub tail: Option<usize>,
    /// Only those from this moment on.
    pub since: Option<Timestamp>,
    /// Only those of the run before the last start. Not to be followed.
    pub previous: bool,
}

/// A place in an instance's output from which lines are read in their order, in bounded memory.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    /// What is being read; none: nothing has been written yet.
    place: Option<Place>,
    /// Where to end; none: never.
    end: Option<Spot>,
    since: Timestamp,
}

/// A line's beginning, wherever its file is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    inode: u64,
    offset: u64,
}

#[derive(Debug)]
struct Place {
    reader: BufReader<File>,
    spot: Spot,
}

impl LogReader {
    /// Finds the first line asked for in the output directory `dir`
    /// ([`crate::keepers::Keepers::output_dir`]). No output yet is no error. Blocks on the disk.
    pub fn open(dir: &Path, query: &LogQuery) -> io::Result<Self> {
        let files = files(dir)?;
        let (first, end) = if query.previous {
            match previous(&files)? {
                Some((from, to)) => (Some(from), Some(to)),
                // There was no run before: nothing, now and later.
                None => (None, Some(Spot { inode: 0, offset: 0 })),
            }
        } else {
            (files.last().map(|(inode, _)| Spot { inode: *inode, offset: 0 }), None)
        };
        let first = match (query.tail, first) {
            (Some(tail), Some(first)) => Some(from_the_end(&files, first, end, tail)?),
            (_, first) => first,
        };
        let place = match first {
            Some(spot) => open_at(files, spot)?,
            None => None,
        };
        Ok(Self { dir: dir.to_owned(), place, end, since: query.since.unwrap_or_default() })
    }

    /// The next lines, at most 1000 or 1 MiB of them. Empty: there is no more now (ask again to follow, or use
    /// [`LogReader::follow`]). Blocks on the disk.
    pub fn batch(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let mut size = 0;
        while lines.len() < BATCH.0 && size < BATCH.1 {
            if self.end.is_some_and(|end| self.place.as_ref().is_none_or(|place| place.spot == end)) {
                break;
            }
            let Some(record) = self.record()? else { if self.advance()? { continue } else { break } };
            if let Some(line) = parse(&record)
                && line.at >= self.since
            {
                size += line.text.len() + size_of::<Line>();
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// Waits for the next lines, for ever if need be. Dropping the future loses nothing.
    pub async fn follow(&mut self) -> io::Result<Vec<Line>> {
        loop {
            // A few blocks of a file that was written a moment ago: not worth another thread.
            let lines = self.batch()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The next whole record of the current file.
    fn record(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = &mut self.place else { return Ok(None) };
        let mut record = Vec::new();
        // A foreign file may hold no line ends at all.
        let most = 2 * output::LINE_MAX as u64;
        let read = (&mut place.reader).take(most).read_until(b'\n', &mut record)?;
        if record.last() != Some(&b'\n') && (read as u64) < most {
            // Not written yet to its end.
            place.reader.seek(SeekFrom::Start(place.spot.offset))?;
            return Ok(None);
        }
        place.spot.offset += read as u64;
        Ok(Some(record))
    }

    /// At the end of a file: on to the next newer one. False: there is none, or more has come into this one.
    fn advance(&mut self) -> io::Result<bool> {
        let files = files(&self.dir)?;
        let Some(place) = &self.place else {
            let Some((inode, _)) = files.last() else { return Ok(false) };
            let first = Spot { inode: *inode, offset: 0 };
            self.place = open_at(files, first)?;
            return Ok(self.place.is_some());
        };
        let newer = match files.iter().position(|(inode, _)| *inode == place.spot.inode) {
            Some(0) => return Ok(false),
            Some(n) => n - 1,
            // Rotated away while we slept: what is left begins with the oldest.
            None if files.is_empty() => return Ok(false),
            None => files.len() - 1,
        };
        // Since nothing is written to an older file, its end is now its end for good.
        if place.reader.get_ref().metadata()?.len() > place.spot.offset {
            return Ok(true);
        }
        let next = Spot { inode: files[newer].0, offset: 0 };
        self.place = open_at(files, next)?;
        Ok(self.place.is_some())
    }
}

/// The output files, newest first, open, so that no rotation takes them away; each with its inode.
fn files(dir: &Path) -> io::Result<Vec<(u64, File)>> {
    let mut files: Vec<(u64, File)> = Vec::new();
    for n in 0..FILES {
        match File::open(output::file(dir, n)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                // Moved on by a rotation between two of our opens.
                if files.last().is_none_or(|(last, _)| *last != inode) {
                    files.push((inode, file));
                }
            }
            // In the middle of a rotation there is no current one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && n == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

fn open_at(files: Vec<(u64, File)>, spot: Spot) -> io::Result<Option<Place>> {
    let Some((_, mut file)) = files.into_iter().find(|(inode, _)| *inode == spot.inode) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(spot.offset))?;
    Ok(Some(Place { reader: BufReader::new(file), spot }))
}

/// `MILLISECONDS STREAM TEXT`; none for what is no line of the program's.
fn parse(record: &[u8]) -> Option<Line> {
    let (at, mark, text) = fields(record)?;
    let stream = match mark {
        STDOUT => Stream::Stdout,
        STDERR => Stream::Stderr,
        _ => return None,
    };
    Some(Line { at, stream, text: String::from_utf8_lossy(text).into_owned() })
}

fn fields(record: &[u8]) -> Option<(Timestamp, u8, &[u8])> {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    let space = record.iter().take(21).position(|&byte| byte == b' ')?;
    let at = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
    match &record[space + 1..] {
        [mark, b' ', text @ ..] => Some((Timestamp(at), *mark, text)),
        _ => None,
    }
}

/// The beginnings of the lines of `file` that start before `end`, last first, each with the line's mark.
fn backwards(file: &File, end: u64, mut each: impl FnMut(u64, u8) -> bool) -> io::Result<()> {
    let mut head: Vec<u8> = Vec::new();
    let mut below = end;
    while below > 0 {
        let from = below.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(below - from).unwrap_or(0)];
        file.read_exact_at(&mut block, from)?;
        let length = block.len();
        // The beginning of what follows, for a line whose mark is there.
        block.extend_from_slice(&head);
        // A line begins after each line end but the last one's of all, and at the file's beginning.
        let starts = (0..length).rev().filter(|&at| {
            let start = from + at as u64;
            if at == 0 { start == 0 } else { block[at - 1] == b'\n' }
        });
        for at in starts {
            let mark = block[at..]
                .iter()
                .take(24)
                .position(|&byte| byte == b' ')
                .and_then(|space| block.get(at + space + 1));
            if !each(from + at as u64, mark.copied().unwrap_or(0)) {
                return Ok(());
            }
        }
        // The block's first byte may itself begin a line: that is for the block before it to see, so it overlaps.
        head = block[..block.len().min(32)].to_vec();
        below = if from == 0 { 0 } else { from + 1 };
    }
    Ok(())
}

/// The beginning of the `tail`-th line from the end, but not before `first`.
fn from_the_end(files: &[(u64, File)], first: Spot, end: Option<Spot>, tail: usize) -> io::Result<Spot> {
    let mut left = tail;
    let mut found = None;
    let newest =
        end.map_or(Some(0), |end| files.iter().position(|(inode, _)| *inode == end.inode)).unwrap_or(0);
    for (inode, file) in &files[newest.min(files.len())..] {
        let upto = match end {
            Some(end) if end.inode == *inode => end.offset,
            _ => file.metadata()?.len(),
        };
        if tail == 0 {
            return Ok(Spot { inode: *inode, offset: upto });
        }
        let lowest = if first.inode == *inode { first.offset } else { 0 };
        backwards(file, upto, |offset, mark| {
            if offset < lowest {
                return false;
            }
            if mark != START {
                found = Some(Spot { inode: *inode, offset });
                left -= 1;
            }
            left > 0
        })?;
        if left == 0 || first.inode == *inode {
            break;
        }
    }
    Ok(found.unwrap_or(first))
}

/// Where the run before the last start begins, and where the last start is.
fn previous(files: &[(u64, File)]) -> io::Result<Option<(Spot, Spot)>> {
    let mut last = None;
    let mut before = None;
    for (inode, file) in files {
        backwards(file, file.metadata()?.len(), |offset, mark| {
            if mark == START {
                let spot = Spot { inode: *inode, offset };
                match last {
                    None => last = Some(spot),
                    Some(_) => before = Some(spot),
                }
            }
            before.is_none()
        })?;
        if before.is_some() {
            break;
        }
    }
    // The start before it may have been rotated away; then what is left of that run is the oldest there is.
    let oldest = files.last().map(|(inode, _)| Spot { inode: *inode, offset: 0 });
    Ok(last.and_then(|last| Some((before.or(oldest)?, last))))
}

#[cfg(test)]
mod tests {
    use sheaf_model::Bytes;

    use super::*;
    use crate::keeper::OutputLimits;
    use crate::keeper::output::Output;

    fn output(dir: &Path) -> Output {
        Output::new(dir.to_owned(), OutputLimits { file: Bytes(200), files: 4 })
    }

    fn all(dir: &Path, query: LogQuery) -> Vec<String> {
        let mut reader = LogReader::open(dir, &query).unwrap();
        let mut texts = Vec::new();
        loop {
            let batch = reader.batch().unwrap();
            if batch.is_empty() {
                return texts;
            }
            texts.extend(batch.into_iter().map(|line| line.text));
        }
    }

    fn numbers(from: u32, to: u32) -> Vec<String> {
        (from..to).map(|n| format!("line {n}")).collect()
    }

    #[test]
    fn tail_and_since_reach_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(all(dir.path(), LogQuery::default()), [""; 0]);
        let mut output = output(dir.path());
        output.started(1, Timestamp(999));
        for n in 0..30 {
            output.take(STDOUT, format!("line {n}\n").as_bytes(), Timestamp(1000 + n));
        }
        assert!(output::file(dir.path(), 2).exists(), "it has rotated twice");
        assert_eq!(all(dir.path(), LogQuery::default()), numbers(0, 30));
        for tail in [0_u32, 1, 7, 25, 30, 500] {
            let query = LogQuery { tail: Some(tail as usize), ..LogQuery::default() };
            assert_eq!(all(dir.path(), query), numbers(30 - tail.min(30), 30), "tail {tail}");
        }
        let since = LogQuery { since: Some(Timestamp(1012)), ..LogQuery::default() };
        assert_eq!(all(dir.path(), since), numbers(12, 30));
    }

    #[test]
    fn the_previous_run_is_what_came_before_the_last_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path());
        let previous = LogQuery { previous: true, ..LogQuery::default() };
        assert_eq!(all(dir.path(), previous), [""; 0]);
        for (run, lines) in [(1, 0..5), (2, 5..15), (3, 15..18)] {
            output.started(run, Timestamp(0));
            for n in lines {
                output.take(STDERR, format!("line {n}\n").as_bytes(), Timestamp(u64::from(run)));
            }
        }
        assert_eq!(all(dir.path(), previous), numbers(5, 15));
        assert_eq!(all(dir.path(), LogQuery { tail: Some(4), ..previous }), numbers(11, 15));
        assert_eq!(all(dir.path(), LogQuery { tail: Some(40), ..previous }), numbers(5, 15));
    }

    #[test]
    fn a_follower_misses_nothing_when_files_rotate_under_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = LogReader::open(dir.path(), &LogQuery::default()).unwrap();
        let mut output = output(dir.path());
        let mut seen = Vec::new();
        for n in 0..100 {
            output.take(STDOUT, format!("line {n}\n").as_bytes(), Timestamp(0));
            if n % 13 == 0 {
                seen.extend(reader.batch().unwrap().into_iter().map(|line| line.text));
            }
        }
        seen.extend(reader.batch().unwrap().into_iter().map(|line| line.text));
        assert_eq!(seen, numbers(0, 100));
        // Left behind for longer than the files are kept, it goes on with the oldest there is.
        for n in 100..300 {
            output.take(STDOUT, format!("line {n}\n").as_bytes(), Timestamp(0));
        }
        let late: Vec<String> = reader.batch().unwrap().into_iter().map(|line| line.text).collect();
        let gap = late.iter().zip(100..).position(|(line, n)| *line != format!("line {n}")).unwrap();
        let (rest, kept) = late.split_at(gap);
        assert!(gap < 20 && kept.len() > 30, "{gap}, {}", kept.len());
        assert_eq!(rest, numbers(100, 100 + u32::try_from(gap).unwrap()), "the file that it has open");
        assert_eq!(kept, numbers(300 - u32::try_from(kept.len()).unwrap(), 300));
    }

    #[test]
    fn a_line_is_only_read_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = output::file(dir.path(), 0);
        std::fs::write(&path, b"5 o whole\n6 e ha").unwrap();
        let mut reader = LogReader::open(dir.path(), &LogQuery::default()).unwrap();
        let whole = Line { at: Timestamp(5), stream: Stream::Stdout, text: "whole".to_owned() };
        assert_eq!(reader.batch().unwrap(), [whole]);
        assert_eq!(reader.batch().unwrap(), []);
        std::fs::write(&path, b"5 o whole\n6 e half\nrubbish\n").unwrap();
        let half = Line { at: Timestamp(6), stream: Stream::Stderr, text: "half".to_owned() };
        assert_eq!(reader.batch().unwrap(), [half]);
    }

    #[test]
    fn many_long_lines_are_found_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let limits = OutputLimits { file: Bytes(10 << 20), files: 2 };
        let mut output = Output::new(dir.path().to_owned(), limits);
        for n in 0..2000 {
            let line = format!("{n} {}\n", "x".repeat(n % 300));
            output.take(STDOUT, line.as_bytes(), Timestamp(1_700_000_000_000));
        }
        for tail in [1, 2, 100, 433, 434, 435, 436, 437, 1999, 2000] {
            let query = LogQuery { tail: Some(tail), ..LogQuery::default() };
            let lines = all(dir.path(), query);
            assert_eq!(lines.len(), tail);
            assert!(lines[0].starts_with(&format!("{} ", 2000 - tail)), "tail {tail}: {}", lines[0]);
        }
    }
}
