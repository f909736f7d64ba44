//! One log file that is followed: while it grows, is emptied, or is put aside and begun anew.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::durable::folder;

/// Bytes read at a time; a longer line comes in pieces.
const CHUNK: usize = 256 << 10;
/// Of a file that is seen for the first time, only so much of its end is read.
const FIRST: u64 = 1 << 20;

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

/// A file being followed.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    mark: Mark,
}

impl Source {
    /// Opens the file at `path`, to go on from `mark` if it was read before. If another file has its name by now, the
    /// rest of the former is read first, provided it still lies in the same directory.
    pub(super) fn open(path: &Path, mark: Option<Mark>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
        }
        let path = path.to_owned();
        match mark {
            Some(mark) if mark.is_of(&metadata) => Ok(Self { path, file, mark }),
            Some(mark) => match put_aside(&path, &mark) {
                Some(former) => Ok(Self { path, file: former, mark }),
                None => Ok(Self { path, mark: Mark::at(&metadata, 0), file }),
            },
            None => {
                let offset = last_lines(&file, metadata.len())?;
                Ok(Self { path, mark: Mark::at(&metadata, offset), file })
            }
        }
    }

    /// Where reading goes on.
    pub(super) const fn mark(&self) -> Mark {
        self.mark
    }

    /// The next whole lines, each with its line end; empty when there is nothing new. A last line without its end is
    /// left for later, unless nothing more will come to it.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let metadata = self.file.metadata()?;
            if metadata.len() < self.mark.offset {
                self.mark.offset = 0;
            }
            let mut chunk = vec![0; CHUNK];
            let length = read_full(&self.file, &mut chunk, self.mark.offset)?;
            chunk.truncate(length);
            let whole = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            if whole > 0 {
                chunk.truncate(whole);
                self.mark.offset += whole as u64;
                return Ok(chunk);
            }
            if length == CHUNK {
                self.mark.offset += length as u64;
                chunk.push(b'\n');
                return Ok(chunk);
            }
            let Some(successor) = self.successor()? else { return Ok(Vec::new()) };
            self.mark = Mark::at(&successor.metadata()?, 0);
            self.file = successor;
            if length > 0 {
                chunk.push(b'\n');
                return Ok(chunk);
            }
        }
    }

    /// The file that has the name now, if it is another one.
    fn successor(&self) -> io::Result<Option<File>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        Ok((metadata.is_file() && !self.mark.is_of(&metadata)).then_some(file))
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

    fn all(source: &mut Source) -> String {
        let mut text = Vec::new();
        loop {
            match source.read().expect("read") {
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
        let mut source = Source::open(&path, None).expect("opened");
        assert_eq!(all(&mut source), "one\ntwo\n");
        append(&path, "ee\n");
        assert_eq!(all(&mut source), "three\n");
        assert_eq!(all(&mut source), "");
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = Source::open(&path, None).expect("opened");
        assert_eq!(all(&mut source), "one\n");
        append(&path, "two\n");
        let mut again = Source::open(&path, Some(source.mark())).expect("opened");
        assert_eq!(all(&mut again), "two\n");
    }

    #[test]
    fn a_file_put_aside_is_read_to_its_end_first() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = Source::open(&path, None).expect("opened");
        assert_eq!(all(&mut source), "one\n");
        append(&path, "two\nunended");
        fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        assert_eq!(all(&mut source), "two\n", "its writer may still end the line");
        append(&path, "three\n");
        assert_eq!(all(&mut source), "unended\nthree\n");
    }

    #[test]
    fn a_file_put_aside_while_nobody_looked_is_found() {
        let (_place, path) = place();
        append(&path, "one\n");
        let mut source = Source::open(&path, None).expect("opened");
        all(&mut source);
        let mark = source.mark();
        drop(source);
        append(&path, "two\n");
        fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        append(&path, "three\n");
        let mut again = Source::open(&path, Some(mark)).expect("opened");
        assert_eq!(all(&mut again), "two\nthree\n");
        fs::remove_file(path.with_extension("log.1")).expect("removed");
        let mut lost = Source::open(&path, Some(mark)).expect("opened");
        assert_eq!(all(&mut lost), "three\n");
    }

    #[test]
    fn an_emptied_file_is_read_from_its_start() {
        let (_place, path) = place();
        append(&path, "one\ntwo\n");
        let mut source = Source::open(&path, None).expect("opened");
        all(&mut source);
        fs::write(&path, "3\n").expect("written");
        assert_eq!(all(&mut source), "3\n");
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let (_place, path) = place();
        append(&path, &"x".repeat(CHUNK + 10));
        append(&path, "\n");
        let mut source = Source::open(&path, None).expect("opened");
        let lengths: Vec<usize> = all(&mut source).lines().map(str::len).collect();
        assert_eq!(lengths, [CHUNK, 10]);
    }

    #[test]
    fn of_a_long_file_the_end_is_read_at_first() {
        let (_place, path) = place();
        append(&path, &format!("{}\n", "x".repeat(99)).repeat(20_000));
        let mut source = Source::open(&path, None).expect("opened");
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
