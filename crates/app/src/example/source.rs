//! One log file that is followed: while it grows, is emptied, or is put aside and begun anew. What is put aside is followed
//! until nothing has come for a while: whoever writes to it may learn later that it was.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::durable::folder;

/// Bytes read at a time; a longer line comes in pieces.
const CHUNK: usize = 256 << 10;
/// Of a file that is seen for the first time, only so much of its end is read.
const FIRST: u64 = 1 << 20;
/// Nothing more comes to a file that was put aside and got nothing for so long: a daemon is told within a second or so to open
/// its log anew.
const SILENT: Duration = Duration::from_secs(10);

/// How far which file was read. The file is known by its numbers, for its name may pass to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) offset: u64,
}

impl Mark {
    fn at(metadata: &Metadata, offset: u64) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), offset }
    }

    fn is_of(&self, metadata: &Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

/// A name of a log file that is followed: the file that has it, and those that had it before and may still be written to.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    /// Never empty; the last one has the name, as far as is known.
    files: Vec<Followed>,
}

/// A file that is read to its end again and again.
#[derive(Debug)]
struct Followed {
    file: File,
    mark: Mark,
    /// When something new was in it last, or it was seen to have lost its name.
    since: Instant,
}

impl Source {
    /// Opens the file at `path`, to go on from `marks` if it was read before. What other files of them have got since is read,
    /// too, provided they still lie in the same directory.
    pub(super) fn open(path: &Path, marks: &[Mark], now: Instant) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
        }
        let mark = match marks.iter().find(|mark| mark.is_of(&metadata)) {
            Some(mark) => *mark,
            None if marks.is_empty() => Mark::at(&metadata, last_lines(&file, metadata.len())?),
            None => Mark::at(&metadata, 0),
        };
        let others = marks.iter().filter(|mark| !mark.is_of(&metadata));
        let former = others.filter_map(|mark| Some((put_aside(path, mark)?, *mark)));
        let files = former.chain([(file, mark)]).map(|(file, mark)| Followed { file, mark, since: now });
        Ok(Self { path: path.to_owned(), files: files.collect() })
    }

    /// Where reading goes on, in the oldest file first.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.files.iter().map(|followed| followed.mark).collect()
    }

    /// The next whole lines of one of the files, each with its line end; empty when there is nothing new. A last line
    /// without its end is left for later, unless nothing more will come to it.
    pub(super) fn read(&mut self, now: Instant) -> io::Result<Vec<u8>> {
        loop {
            for followed in &mut self.files {
                let lines = followed.read()?;
                if !lines.is_empty() {
                    followed.since = now;
                    return Ok(lines);
                }
            }
            if !self.is_succeeded(now)? {
                break;
            }
        }
        // All of them were read to their ends just now.
        while self.files.len() > 1 && now.duration_since(self.files[0].since) >= SILENT {
            let lines = self.files.remove(0).rest()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
        Ok(Vec::new())
    }

    /// Whether another file has the name now. Whoever writes to the former one may do so until it is told to open it anew.
    fn is_succeeded(&mut self, now: Instant) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let known = self.files.iter().position(|followed| followed.mark.is_of(&metadata));
        if !metadata.is_file() || known.is_some_and(|at| at + 1 == self.files.len()) {
            return Ok(false);
        }
        if let Some(former) = self.files.last_mut() {
            former.since = now;
        }
        let successor = match known {
            // It has got its name back.
            Some(at) => self.files.remove(at),
            None => Followed { file, mark: Mark::at(&metadata, 0), since: now },
        };
        self.files.push(successor);
        Ok(true)
    }
}

impl Followed {
    /// The next whole lines; empty when there are none.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.file.metadata()?.len() < self.mark.offset {
            self.mark.offset = 0;
        }
        let mut chunk = self.chunk()?;
        let whole = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 && chunk.len() == CHUNK {
            self.mark.offset += CHUNK as u64;
            chunk.push(b'\n');
            return Ok(chunk);
        }
        chunk.truncate(whole);
        self.mark.offset += whole as u64;
        Ok(chunk)
    }

    /// What is left, with a line end; empty when nothing is.
    fn rest(&self) -> io::Result<Vec<u8>> {
        let mut rest = self.chunk()?;
        if !rest.is_empty() {
            rest.push(b'\n');
        }
        Ok(rest)
    }

    fn chunk(&self) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK];
        let length = read_full(&self.file, &mut chunk, self.mark.offset)?;
        chunk.truncate(length);
        Ok(chunk)
    }
}

/// The file of `mark` under the new name that it has in the directory of its old one.
fn put_aside(path: &Path, mark: &Mark) -> Option<File> {
    let entries = fs::read_dir(folder(path)).ok()?;
    let former = entries.flatten().find(|entry| entry.metadata().is_ok_and(|found| mark.is_of(&found)))?;
    File::open(former.path()).ok()
}

/// Where the last lines begin that are read of a file seen for the first time.
fn last_lines(file: &File, length: u64) -> io::Result<u64> {
    let Some(start) = length.checked_sub(FIRST).filter(|start| *start > 0) else { return Ok(0) };
    let mut chunk = vec![0; CHUNK];
    let read = read_full(file, &mut chunk, start)?;
    let line_end = chunk[..read].iter().position(|&byte| byte == b'\n');
    Ok(line_end.map_or(start, |end| start + end as u64 + 1))
}

/// Reads at an offset until the buffer is full or the file ends.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Whether a file found in a directory looks like a log that people can read.
pub(super) fn is_log(path: &Path) -> bool {
    const PLAIN: [&str; 6] = ["syslog", "messages", "secure", "maillog", "cron", "dmesg"];
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = path.extension().is_some_and(|ending| ending == "log") || PLAIN.contains(&name);
    named && !name.contains(['\n', '\t']) && is_text(path).unwrap_or(false)
}

fn is_text(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let mut beginning = [0; 1024];
    let length = read_full(&File::open(path)?, &mut beginning, 0)?;
    Ok(!beginning[..length].contains(&0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn open(path: &Path, marks: &[Mark]) -> Source {
        Source::open(path, marks, Instant::now()).expect("opened")
    }

    fn all(source: &mut Source) -> String {
        all_at(source, Instant::now())
    }

    fn all_at(source: &mut Source, now: Instant) -> String {
        let mut text = Vec::new();
        loop {
            match source.read(now).expect("read") {
                lines if lines.is_empty() => return String::from_utf8(text).expect("text"),
                lines => text.extend(lines),
            }
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a.log");
        (place, path)
    }

    #[test]
    fn only_whole_lines_are_read_and_each_once() {
        let (_place, path) = place();
        append(&path, "one\ntwo\nthr");
        let mut source = open(&path, &[]);
        assert_eq!(all(&mut source), "one\ntwo\n");
        append(&path, "ee\n");
        assert_eq!(all(&mut source), "three\n");
        assert_eq!(all(&mut source), "");
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = open(&path, &[]);
        assert_eq!(all(&mut source), "one\n");
        append(&path, "two\n");
        let mut again = open(&path, &source.marks());
        assert_eq!(all(&mut again), "two\n");
    }

    #[test]
    fn a_file_put_aside_is_read_to_its_end_first() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = open(&path, &[]);
        assert_eq!(all(&mut source), "one\n");
        append(&path, "two\n");
        fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        append(&path, "three\n");
        assert_eq!(all(&mut source), "two\nthree\n");
    }

    #[test]
    fn what_comes_to_a_file_that_was_put_aside_is_not_lost() {
        let (_place, path) = place();
        let aside = [path.with_extension("log.1"), path.with_extension("log.2")];
        let begun = Instant::now();
        append(&path, "one\n");
        let mut source = open(&path, &[]);
        fs::rename(&path, &aside[0]).expect("renamed");
        append(&path, "");
        assert_eq!(all_at(&mut source, begun), "one\n");
        // Its writer has not been told yet.
        append(&aside[0], "two\nunended");
        append(&path, "three\n");
        assert_eq!(all_at(&mut source, begun), "two\nthree\n");
        // It is put aside again before that is over.
        fs::rename(&aside[0], &aside[1]).expect("renamed");
        fs::rename(&path, &aside[0]).expect("renamed");
        append(&path, "five\n");
        append(&aside[0], "four\n");
        assert_eq!(all_at(&mut source, begun + SILENT / 2), "four\nfive\n");
        assert_eq!(source.marks().len(), 3);
        // Nobody will end the line.
        assert_eq!(all_at(&mut source, begun + SILENT), "unended\n");
        assert_eq!(all_at(&mut source, begun + SILENT * 3 / 2), "");
        assert_eq!(source.marks().len(), 1, "the other one is over, too");
        append(&path, "six\n");
        assert_eq!(all_at(&mut source, begun + SILENT * 2), "six\n");
    }

    #[test]
    fn a_file_that_gets_its_name_back_is_not_read_again() {
        let (_place, path) = place();
        let (aside, begun) = (path.with_extension("log.1"), Instant::now());
        append(&path, "one\n");
        let mut source = open(&path, &[]);
        assert_eq!(all_at(&mut source, begun), "one\n");
        fs::rename(&path, &aside).expect("renamed");
        append(&path, "two\n");
        assert_eq!(all_at(&mut source, begun), "two\n");
        fs::rename(&aside, &path).expect("renamed");
        append(&path, "three\n");
        assert_eq!(all_at(&mut source, begun), "three\n");
        assert_eq!(all_at(&mut source, begun + SILENT), "");
        append(&path, "four\n");
        assert_eq!(all_at(&mut source, begun + SILENT * 2), "four\n");
    }

    #[test]
    fn a_file_put_aside_while_nobody_looked_is_found() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = open(&path, &[]);
        all(&mut source);
        let marks = source.marks();
        drop(source);
        append(&path, "two\n");
        fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        append(&path, "three\n");
        let mut again = open(&path, &marks);
        assert_eq!(all(&mut again), "two\nthree\n");
        let marks = again.marks();
        append(&path.with_extension("log.1"), "late\n");
        append(&path, "four\n");
        assert_eq!(all(&mut open(&path, &marks)), "late\nfour\n", "both are known");
        fs::remove_file(path.with_extension("log.1")).expect("removed");
        assert_eq!(all(&mut open(&path, &marks[..1])), "three\nfour\n");
    }

    #[test]
    fn an_emptied_file_is_read_from_its_start() {
        let (_place, path) = place();
        append(&path, "one\ntwo\n");
        let mut source = open(&path, &[]);
        all(&mut source);
        fs::write(&path, "3\n").expect("written");
        assert_eq!(all(&mut source), "3\n");
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let (_place, path) = place();
        append(&path, &"x".repeat(CHUNK + 10));
        append(&path, "\n");
        let mut source = open(&path, &[]);
        let lengths: Vec<usize> = all(&mut source).lines().map(str::len).collect();
        assert_eq!(lengths, [CHUNK, 10]);
    }

    #[test]
    fn of_a_long_file_the_end_is_read_at_first() {
        let (_place, path) = place();
        append(&path, &format!("{}\n", "x".repeat(99)).repeat(20_000));
        let mut source = open(&path, &[]);
        let text = all(&mut source);
        assert!(text.len() as u64 <= FIRST && text.len() as u64 > FIRST - 200, "{}", text.len());
        assert!(text.lines().all(|line| line.len() == 99));
    }

    #[test]
    fn logs_are_known_by_name_and_content() {
        let place = tempfile::tempdir().expect("a directory");
        for (name, content, expected) in [
            ("a.log", &b"text\n"[..], true),
            ("empty.log", b"", true),
            ("syslog", b"text\n", true),
            ("wtmp", b"text\n", false),
            ("a.log.1", b"text\n", false),
            ("binary.log", b"a\0b", false),
        ] {
            let path = place.path().join(name);
            fs::write(&path, content).expect("written");
            assert_eq!(is_log(&path), expected, "{name}");
        }
        assert!(!is_log(place.path()) && !is_log(&place.path().join("gone.log")));
    }
}
