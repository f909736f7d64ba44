//! The end of the log, looked at before it is opened.
//!
//! A crash leaves a record that does not end, and `raft-log` cuts it off. It takes for one whatever would end behind the end of
//! the newest file: also a record in the middle whose length is damaged. All that follows would go with it, votes and
//! acknowledged entries. Those give it away: nothing is written behind a record that does not end.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use raft_log::RaftLogRecord;
use raft_log::codeq::Decode as _;

use super::LogTypes;

/// What is cut off when the log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    file: PathBuf,
    bytes: usize,
}

/// For people.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, bytes) = (self.file.display(), self.bytes);
        write!(
            f,
            "{file} ends within a record: its last {bytes} bytes are cut off. So a crash leaves what was being written and not \
             yet promised to anybody"
        )
    }
}

/// What opening the log in `dir` will cut off, the newest first.
///
/// # Errors
/// A record is damaged that would be taken for the last one, or the files cannot be read.
pub(super) fn look(dir: &Path) -> io::Result<Vec<Cut>> {
    let mut files = Vec::new();
    for file in fs::read_dir(dir)? {
        files.push(file?.path());
    }
    files.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    files.sort(); // their names are where they begin, with leading zeros
    let mut cuts = Vec::new();
    while let Some(file) = files.pop() {
        let bytes = fs::read(&file)?;
        let Some((start, error)) = first_broken(&bytes) else {
            // A file that was just begun is nothing yet.
            if bytes.is_empty() {
                continue;
            }
            break;
        };
        let tail = &bytes[start..];
        let is_cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
        if is_cut_off && let Some(behind) = next_whole(tail) {
            let why = format!(
                "the record at byte {start} of {} has no end, yet a whole one follows at byte {}",
                file.display(),
                start + behind
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if !is_cut_off && tail.iter().any(|byte| *byte != 0) {
            break; // no end of a log, and opening it says so
        }
        cuts.push(Cut { file, bytes: tail.len() });
        // With its first record gone a file goes, and the one before is the newest.
        if start > 0 {
            break;
        }
    }
    Ok(cuts)
}

/// Where the first record begins that cannot be read, and why not.
fn first_broken(bytes: &[u8]) -> Option<(usize, io::Error)> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = bytes.len() - rest.len();
        if let Err(error) = RaftLogRecord::<LogTypes>::decode(&mut rest) {
            return Some((start, error));
        }
    }
    None
}

/// Where behind its first byte a record begins that is whole.
fn next_whole(tail: &[u8]) -> Option<usize> {
    (1..tail.len()).find(|from| begins_whole(&tail[*from..]))
}

/// Whether a vote, an entry or what is said of entries stands there, with its checksum.
fn begins_whole(bytes: &[u8]) -> bool {
    // Nearly nowhere, and mostly a glance tells: a kind, and a length that fits.
    let length_at = match bytes.first_chunk::<4>() {
        Some([0, 0, 0, 0]) => Some(4),
        Some([0, 0, 0, 1]) => Some(20),
        Some([0, 0, 0, 2..=4]) => None,
        _ => return false,
    };
    let fits = |at: usize| {
        let length =
            bytes.get(at..).and_then(|rest| rest.first_chunk::<4>().copied()).map(u32::from_be_bytes);
        length.is_some_and(|length| length > 0 && (length as usize) < bytes.len() - at)
    };
    length_at.is_none_or(fits) && RaftLogRecord::<LogTypes>::decode(bytes).is_ok()
}
