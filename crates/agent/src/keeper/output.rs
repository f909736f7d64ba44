//! What the program writes, kept in rotated files, each line with its time and stream.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sheaf_model::Timestamp;

use super::OutputLimits;

/// Longest line that is kept in one piece.
pub(crate) const LINE_MAX: usize = 16 << 10;
/// How many last lines are said with a failure, and how much of each.
const LAST_LINES: usize = 10;
const LAST_LINE_MAX: usize = 500;

/// Mark of a stream in the files.
pub(crate) const STDOUT: u8 = b'o';
/// Mark of a stream in the files.
pub(crate) const STDERR: u8 = b'e';
/// Mark of a line that says that the program was started.
pub(crate) const START: u8 = b's';

/// The newest file's place for `n` = 0, then the older ones.
pub(crate) fn file(dir: &Path, n: u32) -> PathBuf {
    dir.join(if n == 0 { "current.log".to_owned() } else { format!("{n}.log") })
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Output {
    dir: PathBuf,
    limits: OutputLimits,
    file: Option<File>,
    size: u64,
    /// What has come of a line that is not at its end, for stdout and stderr, and for those of a command.
    open: [Vec<u8>; 4],
    last: VecDeque<String>,
    /// The last line of the command that runs or ran beside the program.
    last_aside: String,
    /// The file system did not take everything.
    lost: bool,
    /// The directory is made when there is something to keep.
    made_late: bool,
}

impl Output {
    pub(crate) fn new(dir: PathBuf, limits: OutputLimits) -> Self {
        let (open, last) = (Default::default(), VecDeque::new());
        let (last_aside, lost, made_late) = (String::new(), false, false);
        Self { dir, limits, file: None, size: 0, open, last, last_aside, lost, made_late }
    }

    /// The same in a directory that is made with the first line: most of many programs say nothing.
    pub(crate) fn made_late(dir: PathBuf, limits: OutputLimits) -> Self {
        Self { made_late: true, ..Self::new(dir, limits) }
    }

    /// A new start: what follows belongs to it.
    pub(crate) fn started(&mut self, pid: u32, at: Timestamp) {
        self.last.clear();
        let mut record = Vec::new();
        push(&mut record, at, START, pid.to_string().as_bytes());
        self.write(&record);
    }

    /// What the program has just written to `stream`.
    pub(crate) fn take(&mut self, stream: u8, bytes: &[u8], at: Timestamp) {
        self.take_of(stream, usize::from(stream == STDERR), bytes, at);
    }

    /// The same of a command beside it: their lines are not mixed up.
    pub(crate) fn take_aside(&mut self, stream: u8, bytes: &[u8], at: Timestamp) {
        self.take_of(stream, 2 + usize::from(stream == STDERR), bytes, at);
    }

    fn take_of(&mut self, stream: u8, index: usize, bytes: &[u8], at: Timestamp) {
        let mut line = std::mem::take(&mut self.open[index]);
        let mut records = Vec::with_capacity(bytes.len() + bytes.len() / 4 + 64);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in chunks(text) {
                if line.len() + part.len() > LINE_MAX {
                    self.keep(&mut records, at, stream, index, &line);
                    line.clear();
                }
                line.extend_from_slice(part);
            }
            if ends {
                self.keep(&mut records, at, stream, index, &line);
                line.clear();
            }
        }
        self.open[index] = line;
        self.write(&records);
    }

    /// Both streams have ended; what is left of them is a line, too.
    pub(crate) fn finish(&mut self, at: Timestamp) {
        self.finish_of([(STDOUT, 0), (STDERR, 1)], at);
    }

    /// The same of a command, whose last line comes back; empty: it has said nothing.
    pub(crate) fn finish_aside(&mut self, at: Timestamp) -> String {
        self.finish_of([(STDOUT, 2), (STDERR, 3)], at);
        std::mem::take(&mut self.last_aside)
    }

    fn finish_of(&mut self, streams: [(u8, usize); 2], at: Timestamp) {
        for (stream, index) in streams {
            let line = std::mem::take(&mut self.open[index]);
            if !line.is_empty() {
                let mut records = Vec::new();
                self.keep(&mut records, at, stream, index, &line);
                self.write(&records);
            }
        }
    }

    /// The last lines since the start, for people.
    pub(crate) fn last_lines(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn keep(&mut self, records: &mut Vec<u8>, at: Timestamp, stream: u8, index: usize, line: &[u8]) {
        push(records, at, stream, line);
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        let shown = String::from_utf8_lossy(&line[..line.len().min(LAST_LINE_MAX)]);
        if index >= 2 && !shown.trim().is_empty() {
            shown.trim().clone_into(&mut self.last_aside);
        }
        self.last.push_back(shown.trim_end().to_owned());
    }

    /// Never fails: a full disk must neither stop the program nor the keeper. What is lost is said later, in the
    /// output itself.
    fn write(&mut self, records: &[u8]) {
        let mut rest = records;
        while !rest.is_empty() {
            // A file takes as many whole lines as fit, at least one.
            let room = usize::try_from(self.limits.file.0.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let fits = if rest.len() <= room {
                rest.len()
            } else {
                match rest[..room].iter().rposition(|&byte| byte == b'\n') {
                    Some(end) => end + 1,
                    None if self.size > 0 => 0,
                    None => rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1),
                }
            };
            let (now, later) = rest.split_at(fits);
            if self.append(now, !later.is_empty()).is_err() {
                self.lost = true;
                return;
            }
            rest = later;
        }
    }

    fn append(&mut self, records: &[u8], then_rotate: bool) -> io::Result<()> {
        if self.file.is_none() {
            let path = file(&self.dir, 0);
            if std::mem::take(&mut self.made_late) {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            }
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
            if self.size + records.len() as u64 > self.limits.file.0 && self.size > 0 {
                self.rotate()?;
                return self.append(records, then_rotate);
            }
        }
        if let Some(file) = &mut self.file {
            if self.lost {
                file.write_all(&said(b"(output before this was lost: it could not be written)"))?;
                self.lost = false;
            }
            file.write_all(records)?;
            self.size += records.len() as u64;
        }
        if then_rotate { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.size = 0;
        let oldest = self.limits.files.max(1) - 1;
        if oldest == 0 {
            return fs::remove_file(file(&self.dir, 0));
        }
        for n in (0..oldest).rev() {
            match fs::rename(file(&self.dir, n), file(&self.dir, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A line of the keeper's own among the program's.
fn said(text: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    push(&mut record, super::clock::wall(), STDERR, text);
    record
}

fn push(records: &mut Vec<u8>, at: Timestamp, stream: u8, text: &[u8]) {
    records.extend_from_slice(at.0.to_string().as_bytes());
    records.extend_from_slice(&[b' ', stream, b' ']);
    records.extend_from_slice(text);
    records.push(b'\n');
}

/// Pieces of at most [`LINE_MAX`] bytes.
fn chunks(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.chunks(LINE_MAX)
}

#[cfg(test)]
mod tests {
    use sheaf_model::Bytes;

    use super::*;

    fn output(dir: &Path, file: u64, files: u32) -> Output {
        Output::new(dir.to_owned(), OutputLimits { file: Bytes(file), files })
    }

    #[test]
    fn lines_come_whole_however_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path(), 1 << 20, 2);
        output.started(7, Timestamp(1));
        output.take(STDOUT, b"one\ntw", Timestamp(2));
        output.take(STDERR, b"oops\n", Timestamp(3));
        output.take(STDOUT, b"o\n\nend", Timestamp(4));
        output.finish(Timestamp(5));
        let text = fs::read_to_string(file(dir.path(), 0)).unwrap();
        assert_eq!(text, "1 s 7\n2 o one\n3 e oops\n4 o two\n4 o \n5 o end\n");
        assert_eq!(output.last_lines(), "one\noops\ntwo\n\nend");
    }

    #[test]
    fn files_are_rotated_and_only_so_many_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path(), 64, 3);
        for n in 0..100 {
            output.take(STDOUT, format!("line {n}\n").as_bytes(), Timestamp(1000 + n));
        }
        let sizes: Vec<u64> = (0..3).map(|n| fs::metadata(file(dir.path(), n)).unwrap().len()).collect();
        assert!(sizes.iter().all(|&size| size <= 64 && size > 0), "{sizes:?}");
        assert!(!file(dir.path(), 3).exists());
        assert!(fs::read_to_string(file(dir.path(), 0)).unwrap().ends_with("line 99\n"));
    }

    #[test]
    fn one_big_write_is_spread_over_files_and_a_long_line_comes_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path(), 40, 2);
        output.take(STDOUT, b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", Timestamp(1));
        assert_eq!(fs::read_to_string(file(dir.path(), 0)).unwrap(), "1 o g\n1 o h\n1 o i\n1 o j\n");
        output.take(STDERR, &[b'x'; 2 * LINE_MAX + 5], Timestamp(2));
        output.finish(Timestamp(3));
        let last = fs::read_to_string(file(dir.path(), 0)).unwrap();
        assert_eq!(last, "3 e xxxxx\n");
        assert_eq!(fs::metadata(file(dir.path(), 1)).unwrap().len() as usize, LINE_MAX + 5);
    }

    #[test]
    fn a_keeper_goes_on_in_the_file_of_its_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        output(dir.path(), 20, 2).take(STDOUT, b"first\n", Timestamp(1));
        output(dir.path(), 20, 2).take(STDOUT, b"second\n", Timestamp(2));
        assert_eq!(fs::read_to_string(file(dir.path(), 1)).unwrap(), "1 o first\n");
        assert_eq!(fs::read_to_string(file(dir.path(), 0)).unwrap(), "2 o second\n");
    }
}
